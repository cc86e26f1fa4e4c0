/* Reads the counters of a recording while it goes on: of each thread that has a page, and what
 * those that are gone have left. Nobody is stopped or waits for it, and no record is read; of a
 * chunk of records its first line alone, which tells its length.
 *
 * Actors: any number of readers, each with a mapping of its own, writers, and one recorder that may
 * take rooms back meanwhile: then its number `moving` tells, and the reader begins again. At its
 * end it gives their memory back, and `moving` tells that, too. */
#include <sched.h>
#include <stdbool.h>
#include <string.h>

#include "../probe/clock.h"
#include "../probe/counters.h"
#include "../probe/ring.h"

#define EXPORT __attribute__((visibility("default")))

enum { TRIES = 10000, COMMAND_BYTES = 512 };

/* Times are ticks. gilscope/live/counters.py has the same. */
struct gs_sums {
    uint64_t held, waited[2], made_wait, acquires, contended, hand_overs;
};

struct gs_counted_thread {
    uint64_t start; /* with `unit` it names the thread */
    struct gs_sums sums;
    uint64_t longest; /* 0: no wait ended since the reading that was asked for */
    uint32_t unit, process, tid;
    uint16_t gil;
    uint8_t is_main, over; /* over: it ended, or its process did */
    uint8_t holds;
    uint8_t waits; /* 1: an IO wait, 2: a CPU wait */
    uint8_t pad[6];
    char name[GS_NAME_BYTES];
};

struct gs_counted_process {
    struct gs_sums gone;
    uint64_t start;
    uint32_t unit, serial, parent, pid, dead, command_bytes;
    char command[COMMAND_BYTES];
};

struct gs_counted {
    uint64_t now;
    struct gs_sums gone;                            /* of processes that are gone */
    uint32_t stop, reading, n_threads, n_processes; /* more than there was room for: not told */
};

static struct gs_sums gone_of(const struct gs_gone_counters *its) {
    return (struct gs_sums){
        gs_counter(&its->held),      {gs_counter(&its->waited[0]), gs_counter(&its->waited[1])},
        gs_counter(&its->made_wait), gs_counter(&its->acquires),
        gs_counter(&its->contended), gs_counter(&its->hand_overs)};
}

static void read_process(struct gs_counted_process *out, const struct gs_process_page *page,
                         uint32_t unit) {
    uint32_t bytes = page->command_bytes;
    *out = (struct gs_counted_process){.gone = gone_of(&page->gone),
                                       .start = page->start.ticks,
                                       .unit = unit,
                                       .serial = page->header.ordinal,
                                       .parent = page->parent,
                                       .pid = page->pid,
                                       .dead = gs_counter(&page->gone.dead_ticks) != 0};
    out->command_bytes = bytes < COMMAND_BYTES ? bytes : COMMAND_BYTES;
    memcpy(out->command, page->command, out->command_bytes);
}

static void read_thread(struct gs_counted_thread *out, const struct gs_thread_page *page,
                        const struct gs_process_page *process, uint32_t unit, uint64_t now,
                        uint32_t reading) {
    const struct gs_counters *its = &page->counters;
    uint64_t held = gs_counter(&its->held), io = gs_counter(&its->waited[0]),
             cpu = gs_counter(&its->waited[1]);
    bool over = __atomic_load_n(&page->over, __ATOMIC_ACQUIRE) != GS_LIVES ||
                gs_counter(&process->gone.dead_ticks) != 0;
    uint64_t end = gs_end_of_thread(process, page, now);
    uint32_t last = __atomic_load_n(&its->reading, __ATOMIC_RELAXED);
    uint64_t longest = last >= reading ? gs_counter(&its->longest) : 0;
    uint64_t before = last > reading ? gs_counter(&its->longest_before) : 0;
    *out = (struct gs_counted_thread){
        .start = page->start_ticks,
        .sums = {gs_stretch_until(held, end),
                 {gs_stretch_until(io, end), gs_stretch_until(cpu, end)},
                 gs_counter(&its->made_wait),
                 gs_counter(&its->acquires),
                 gs_counter(&its->contended),
                 gs_counter(&its->hand_overs)},
        .longest = longest > before ? longest : before,
        .unit = unit,
        .process = page->header.owner,
        .tid = page->tid,
        .gil = __atomic_load_n(&its->gil, __ATOMIC_RELAXED),
        .is_main = page->is_main != 0,
        .over = over,
        .holds = !over && (held & 1),
        .waits = over      ? 0
                 : io & 1  ? 1
                 : cpu & 1 ? 2
                           : 0,
    };
    memcpy(out->name, page->name, sizeof out->name);
    out->name[sizeof out->name - 1] = 0;
}

struct tables {
    struct gs_counted_process *processes;
    struct gs_counted_thread *threads;
    uint32_t most_processes, most_threads;
};

static void read_room(const char *map, uint64_t unit, uint64_t end, struct gs_counted *out,
                      const struct tables *to, uint32_t reading) {
    const struct gs_chunk_header *header = (const void *)(map + unit * GS_UNIT_BYTES);
    const struct gs_process_page *owner;
    switch (__atomic_load_n(&header->magic, __ATOMIC_ACQUIRE)) {
    case GS_PROCESS_PAGE:
        if (out->n_processes < to->most_processes)
            read_process(&to->processes[out->n_processes], (const void *)header, (uint32_t)unit);
        out->n_processes++;
        break;
    case GS_THREAD_PAGE:
        if (header->owner < GS_FIRST_UNIT || header->owner >= end)
            break;
        owner = (const void *)(map + (uint64_t)header->owner * GS_UNIT_BYTES);
        if (__atomic_load_n(&owner->header.magic, __ATOMIC_ACQUIRE) != GS_PROCESS_PAGE)
            break;
        if (out->n_threads < to->most_threads)
            read_thread(&to->threads[out->n_threads], (const void *)header, owner, (uint32_t)unit,
                        out->now, reading);
        out->n_threads++;
        break;
    default:
        break;
    }
}

static void read_all(const struct gs_file_header *header, uint64_t units, struct gs_counted *out,
                     const struct tables *to, uint32_t reading) {
    uint64_t end = __atomic_load_n(&header->end_unit, __ATOMIC_ACQUIRE);
    end = end < units ? end : units;
    /* The clock before the counters: what is open then was open at that time, or began behind it.
     */
    *out = (struct gs_counted){.now = gs_clock_now((enum gs_clock_source)header->clock_source),
                               .gone = gone_of(&header->gone),
                               .stop = __atomic_load_n(&header->stop, __ATOMIC_RELAXED),
                               .reading = __atomic_load_n(&header->reading, __ATOMIC_RELAXED)};
    for (uint64_t unit = GS_FIRST_UNIT; unit < end;) {
        const struct gs_chunk_header *room =
            (const void *)((const char *)header + unit * GS_UNIT_BYTES);
        bool published = __atomic_load_n(&room->magic, __ATOMIC_ACQUIRE);
        uint32_t length = published ? room->units : 1;
        read_room((const char *)header, unit, end, out, to, reading);
        unit += length ? length : 1;
    }
}

/* Reads a file of so many units. `reading`: the longest waits are of those that ended since that
 * reading (gs_file_header.reading). Returns 0; 1 where the recording is over and the rooms are
 * given back; or -1 where the recorder died while it took rooms back. */
EXPORT int gs_counters_read(const struct gs_file_header *header, uint64_t units,
                            struct gs_counted *out, struct gs_counted_process *processes,
                            uint32_t most_processes, struct gs_counted_thread *threads,
                            uint32_t most_threads, uint32_t reading) {
    const struct tables to = {processes, threads, most_processes, most_threads};
    for (unsigned i = 0; i < TRIES; i++) {
        uint32_t before = __atomic_load_n(&header->moving, __ATOMIC_ACQUIRE);
        if (before == GS_ROOMS_GONE)
            return 1;
        if (!(before & 1)) {
            read_all(header, units, out, &to, reading);
            gs_fence(); /* what was read came before the number that is read now */
            if (__atomic_load_n(&header->moving, __ATOMIC_RELAXED) == before)
                return 0;
        }
        sched_yield();
    }
    return -1;
}

/* The next reading begins: its longest waits are those that end from now on. Returns its number. */
EXPORT uint32_t gs_counters_next_reading(struct gs_file_header *header) {
    return __atomic_add_fetch(&header->reading, 1, __ATOMIC_RELAXED);
}

/* The recorder's calls: a ring file is made, kept ahead of its writers, and stopped. */
#define _GNU_SOURCE
#include "rooms.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../probe/clock.h"

#define EXPORT __attribute__((visibility("default")))

#define THOROUGHLY 10u /* at every tenth tick, and when room is short */

static void write_header(struct gs_file_header *header, uint64_t limit_units, uint32_t follow) {
    struct gs_clock_snapshot now;
    struct stat mine;
    enum gs_clock_source source = gs_clock_choose();
    header->clock_hz = gs_clock_rate(source);
    gs_clock_snapshot(source, &now);
    header->abi_version = GS_ABI_VERSION;
    header->clock_source = source;
    header->recorder_pid = (uint32_t)getpid();
    header->pid_namespace = stat("/proc/self/ns/pid", &mine) == 0 ? (uint64_t)mine.st_ino : 0;
    header->follow = follow;
    header->created_ns = (uint64_t)now.realtime_ns;
    header->limit_units = limit_units;
    header->end_unit = GS_FIRST_UNIT;
    header->clocks[0] = now;
    header->n_clocks = 1;
    __atomic_store_n(&header->magic, GS_FILE_MAGIC, __ATOMIC_RELEASE);
}

EXPORT void gs_rooms_close(struct gs_rooms *rooms) {
    if (!rooms)
        return;
    struct gs_units *lists[] = {&rooms->free_blocks, &rooms->cut_blocks, &rooms->taken,
                                &rooms->processes,   &rooms->threads,    &rooms->stacks,
                                &rooms->restless};
    for (unsigned i = 0; i < sizeof lists / sizeof *lists; i++)
        free(lists[i]->units);
    free(rooms->blocks);
    free(rooms->rooms);
    free(rooms->old);
    free(rooms);
}

/* Writes a fresh header into the mapping of a zero-filled file of `limit_units`, whose first
 * GS_FIRST_UNIT units are backed. `reuse`: what is old makes room for what is new. NULL: no memory.
 */
EXPORT struct gs_rooms *gs_rooms_create(struct gs_file_header *header, int fd, uint64_t limit_units,
                                        uint32_t follow, uint32_t reuse) {
    struct gs_rooms *rooms = calloc(1, sizeof *rooms);
    if (!rooms)
        return NULL;
    rooms->header = header;
    rooms->fd = fd;
    rooms->reuse = reuse;
    rooms->limit_units = limit_units;
    rooms->blocks = calloc(limit_units / GS_CHUNK_UNITS + 1, sizeof *rooms->blocks);
    rooms->rooms = calloc(limit_units, sizeof *rooms->rooms); /* touched where it is used */
    if (!rooms->blocks || !rooms->rooms) {
        gs_rooms_close(rooms);
        return NULL;
    }
    rooms->end_unit = GS_FIRST_UNIT;
    write_header(header, limit_units, follow);
    return rooms;
}

/* Whether somebody copies the file, who must be alive, and may go on to. */
static bool is_held(struct gs_rooms *rooms, bool thoroughly) {
    struct gs_file_header *header = rooms->header;
    uint32_t hold = __atomic_load_n(&header->hold, __ATOMIC_ACQUIRE);
    if (hold && thoroughly && kill((pid_t)hold, 0) && errno == ESRCH) {
        uint32_t dead = hold;
        __atomic_compare_exchange_n(&header->hold, &dead, 0, false, __ATOMIC_ACQ_REL,
                                    __ATOMIC_RELAXED);
        hold = 0;
    }
    /* Release: what was taken back before is done. */
    __atomic_store_n(&header->held, hold, __ATOMIC_RELEASE);
    return hold != 0;
}

/* To be called every few milliseconds. Returns 0 or an errno value: the file cannot grow (ENOSPC:
 * its file system is full), and what there is is all there will be. */
EXPORT int gs_rooms_tick(struct gs_rooms *rooms) {
    uint64_t reserve = rooms->reuse ? gs_rooms_reserve(rooms) : 0;
    bool thoroughly =
        rooms->tick++ % THOROUGHLY == 0 || (rooms->reuse && gs_rooms_spare(rooms) < reserve);
    if (is_held(rooms, thoroughly)) {
        gs_rooms_collect(rooms);
    } else {
        uint64_t before = rooms->forget_before;
        uint64_t safe = __atomic_load_n(&rooms->header->safe_before, __ATOMIC_ACQUIRE);
        if (rooms->streamed && safe > before)
            before = safe;
        gs_rooms_look(rooms, thoroughly);
        if (rooms->keep_ticks) {
            uint64_t now = gs_clock_now((enum gs_clock_source)rooms->header->clock_source) &
                           UINT64_MAX >> GS_KIND_BITS;
            if (now > rooms->keep_ticks && now - rooms->keep_ticks > before)
                before = now - rooms->keep_ticks;
        }
        gs_rooms_take_back(rooms, before, reserve);
    }
    return gs_rooms_offer(rooms, true);
}

/* What is needed before the program starts. Returns as gs_rooms_tick. */
EXPORT int gs_rooms_start(struct gs_rooms *rooms) {
    return gs_rooms_offer(rooms, false);
}

/* A reader in another process tells in the header what it has (gs_file_header.safe_before). */
EXPORT void gs_rooms_stream(struct gs_rooms *rooms) {
    rooms->streamed = true;
    __atomic_store_n(&rooms->header->final, 0, __ATOMIC_RELAXED); /* more will be offered */
}

/* Every record with a stamp below these ticks (58 bits) is safe elsewhere. */
EXPORT void gs_rooms_forget(struct gs_rooms *rooms, uint64_t before) {
    if (before > rooms->forget_before)
        rooms->forget_before = before;
}

/* What is older than that is taken back. */
EXPORT void gs_rooms_keep_ns(struct gs_rooms *rooms, uint64_t ns) {
    rooms->keep_ticks = (uint64_t)((double)ns * (double)rooms->header->clock_hz / 1e9);
}

/* Units of the file that are not free. */
EXPORT uint64_t gs_rooms_used(const struct gs_rooms *rooms) {
    return rooms->limit_units - gs_rooms_spare(rooms);
}

/* The units of the processes that are known and not taken back, in no order; returns their number,
 * of which up to `capacity` are told. */
EXPORT uint64_t gs_rooms_processes(const struct gs_rooms *rooms, uint32_t *units,
                                   uint64_t capacity) {
    for (uint64_t i = 0; i < rooms->processes.n && i < capacity; i++)
        units[i] = rooms->processes.units[i];
    return rooms->processes.n;
}

/* Of a thread that was there before the probe: its name in Python, if nothing else gave it one. By
 * its number and its process's, each as that process knows it. Returns whether it has a page. */
EXPORT bool gs_rooms_name(struct gs_rooms *rooms, uint32_t pid, uint32_t tid, const char *name) {
    bool found = false;
    for (uint64_t i = 0; i < rooms->threads.n; i++) {
        struct gs_thread_page *page = (void *)gs_room_at(rooms, rooms->threads.units[i]);
        if (page->tid != tid || page->header.owner >= rooms->end_unit)
            continue;
        const struct gs_process_page *process = (void *)gs_room_at(rooms, page->header.owner);
        if (process->header.magic != GS_PROCESS_PAGE || process->pid != pid)
            continue;
        if (!page->from_python) {
            strncpy(page->name, name, sizeof page->name - 1);
            __atomic_store_n(&page->from_python, 1, __ATOMIC_RELEASE);
        }
        found = true;
    }
    return found;
}

/* The end, now, of each process that did not say that it ended: what of it goes on is recorded no
 * more. */
EXPORT void gs_rooms_end_processes(struct gs_rooms *rooms) {
    uint64_t now = gs_clock_now((enum gs_clock_source)rooms->header->clock_source);
    for (uint64_t i = 0; i < rooms->processes.n; i++) {
        struct gs_process_page *page = (void *)gs_room_at(rooms, rooms->processes.units[i]);
        uint64_t living = 0;
        if (page->header.magic == GS_PROCESS_PAGE)
            __atomic_compare_exchange_n(&page->end_ticks, &living, now, false, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED);
    }
}

/* Nothing is recorded from now on, and whoever still carries a probe that came late is to let it
 * go. */
EXPORT void gs_rooms_stop_for_good(struct gs_rooms *rooms) {
    __atomic_store_n(&rooms->header->stop, GS_STOP_ALL, __ATOMIC_SEQ_CST);
}

/* Nothing is recorded or counted from now on. */
EXPORT void gs_rooms_stop(struct gs_rooms *rooms) {
    __atomic_store_n(&rooms->header->stop, GS_STOP_ALL, __ATOMIC_RELAXED);
}

/* Counters alone from now on: before the program starts. */
EXPORT void gs_rooms_pause(struct gs_rooms *rooms) {
    __atomic_store_n(&rooms->header->stop, GS_COUNT_ALONE, __ATOMIC_RELAXED);
}

/* Nothing is recorded until gs_rooms_begin, which cuts off what was before: a program that runs
 * already may hold its GIL. */
EXPORT void gs_rooms_begin(struct gs_rooms *rooms) {
    struct gs_file_header *header = rooms->header;
    uint64_t now = gs_clock_now((enum gs_clock_source)header->clock_source);
    __atomic_store_n(&header->kept_from, now & UINT64_MAX >> GS_KIND_BITS, __ATOMIC_SEQ_CST);
    __atomic_store_n(&header->stop, 0, __ATOMIC_SEQ_CST);
}

/* Now, in the recording's ticks. */
EXPORT uint64_t gs_rooms_ticks(const struct gs_file_header *header) {
    return gs_clock_now((enum gs_clock_source)header->clock_source) & UINT64_MAX >> GS_KIND_BITS;
}

/* Appends a clock snapshot; when the table is full every second one goes, so that the rest still
 * spans the whole recording. */
EXPORT void gs_rooms_clock(struct gs_file_header *header) {
    uint32_t n = header->n_clocks;
    if (n >= GS_MAX_CLOCKS) { /* more: somebody wrote over it */
        for (n = 1; n < GS_MAX_CLOCKS / 2; n++)
            header->clocks[n] = header->clocks[2 * n];
        /* A reader of a file whose recorder died just here sees old ones behind new ones, and
         * leaves out each that is not later than all before it. */
        __atomic_store_n(&header->n_clocks, n, __ATOMIC_RELEASE);
    }
    gs_clock_snapshot(header->clock_source, &header->clocks[n]);
    __atomic_store_n(&header->n_clocks, n + 1, __ATOMIC_RELEASE);
}

/* Asks the kernel for context switches, and moves them to the file of switches.h.
 *
 * Owner: the recorder's thread. Without root: a software event that counts nothing and tells the
 * switches of one thread and of what it starts, one a processor, since the kernel gives inherited
 * events a buffer in no other way. All write to the buffers of the recorder's own events, which
 * tell nothing. What belongs to the kernel goes with the recorder, however it ends. */
#define _GNU_SOURCE
#include "switches.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

enum { MOST_PAGES = 128, FEWEST_PAGES = 4, BATCH = 4096, MARGIN_NS = 1000000, NONE = 0xffff };

/* Of one processor. */
struct buffer {
    int fd, cpu;
    struct perf_event_mmap_page *page;
    size_t bytes;       /* of its data, a power of two */
    uint32_t last_tid;  /* of its last switch … */
    uint16_t last_misc; /* … and what that was; NONE: there is none */
};

struct gs_switches {
    int file;
    struct gs_switches_file *head;
    struct buffer *buffers;
    uint32_t n_buffers;
    uint32_t n_batch;
    int *fds; /* events of the program's threads */
    size_t n_fds;
    struct gs_switch batch[BATCH];
};

/* What the kernel writes, with the sample_id that we ask for. */
struct sample_id {
    uint32_t pid, tid;
    uint64_t time;
    uint32_t cpu, pad;
};
struct switch_record {
    struct perf_event_header header;
    struct sample_id id;
};
struct lost_record {
    struct perf_event_header header;
    uint64_t event, lost;
    struct sample_id id;
};

enum asked { NOTHING, FROM_EXEC, FROM_NOW };

static struct perf_event_attr what(enum asked asked) {
    return (struct perf_event_attr){
        .type = PERF_TYPE_SOFTWARE,
        .size = sizeof(struct perf_event_attr),
        .config = PERF_COUNT_SW_DUMMY,
        .sample_type = PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_CPU,
        .sample_id_all = 1,
        .context_switch = asked != NOTHING,
        .exclude_kernel = 1,
        .exclude_hv = 1,
        .inherit = asked != NOTHING,
        .disabled = asked != FROM_NOW,
        .enable_on_exec = asked == FROM_EXEC,
        .use_clockid = 1,
        .clockid = CLOCK_MONOTONIC,
    };
}

static int open_event(int tid, int cpu, enum asked asked) {
    struct perf_event_attr attr = what(asked);
    return (int)syscall(SYS_perf_event_open, &attr, tid, cpu, -1, PERF_FLAG_FD_CLOEXEC);
}

/* Whether the kernel lets this user ask: 0, or an errno value. */
EXPORT int gs_switches_try(void) {
    int fd = -1, error = ENODEV;
    for (int cpu = 0; fd < 0 && error == ENODEV && cpu < (int)sysconf(_SC_NPROCESSORS_CONF);
         cpu++) {
        fd = open_event(0, cpu, FROM_EXEC);
        error = fd < 0 ? errno : 0;
    }
    if (fd >= 0)
        close(fd);
    return error;
}

EXPORT void gs_switches_close(struct gs_switches *its) {
    if (!its)
        return;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (size_t i = 0; i < its->n_fds; i++)
        close(its->fds[i]);
    free(its->fds);
    for (uint32_t i = 0; i < its->n_buffers; i++) {
        munmap(its->buffers[i].page, page + its->buffers[i].bytes);
        close(its->buffers[i].fd);
    }
    if (its->head)
        munmap(its->head, GS_SWITCHES_AT);
    free(its->buffers);
    free(its);
}

/* The buffer counts against what a user may lock: where there is too little, a smaller one. */
static bool map_buffer(struct buffer *buffer) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (size_t pages = MOST_PAGES; pages >= FEWEST_PAGES; pages /= 2) {
        void *at =
            mmap(NULL, (pages + 1) * page, PROT_READ | PROT_WRITE, MAP_SHARED, buffer->fd, 0);
        if (at != MAP_FAILED) {
            buffer->page = at;
            buffer->bytes = pages * page;
            return true;
        }
    }
    return false;
}

/* Of nobody yet: gs_switches_add. `file` stays the caller's; it gets `capacity` records at most.
 * NULL with *error, an errno value. */
EXPORT struct gs_switches *gs_switches_open(int file, uint64_t capacity, int *error) {
    const int n = (int)sysconf(_SC_NPROCESSORS_CONF);
    struct gs_switches *its = calloc(1, sizeof *its);
    struct buffer *buffers = calloc((size_t)n, sizeof *buffers);
    *error = ENOMEM;
    if (!its || !buffers) {
        free(its);
        free(buffers);
        return NULL;
    }
    its->buffers = buffers;
    its->file = file;
    for (int cpu = 0; cpu < n; cpu++) {
        struct buffer *buffer = &buffers[its->n_buffers];
        *buffer = (struct buffer){.fd = open_event(0, cpu, NOTHING), .cpu = cpu, .last_misc = NONE};
        if (buffer->fd < 0 && errno == ENODEV)
            continue; /* it is off */
        if (buffer->fd < 0 || !map_buffer(buffer)) {
            *error = errno;
            if (buffer->fd >= 0)
                close(buffer->fd);
            gs_switches_close(its);
            return NULL;
        }
        its->n_buffers++;
    }
    *error = posix_fallocate(file, 0, GS_SWITCHES_AT);
    void *head = MAP_FAILED;
    if (!*error) {
        head = mmap(NULL, GS_SWITCHES_AT, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        *error = head == MAP_FAILED ? errno : 0;
    }
    if (*error) {
        gs_switches_close(its);
        return NULL;
    }
    its->head = head;
    its->head->capacity = capacity;
    __atomic_store_n(&its->head->magic, GS_SWITCHES_MAGIC, __ATOMIC_RELEASE);
    return its;
}

/* Also tell of this thread and of what it starts: from now on, or from its exec on. Returns 0 or an
 * errno value, as where it is gone; then nothing is told of it. */
EXPORT int gs_switches_add(struct gs_switches *its, int tid, int from_exec) {
    int *fds = realloc(its->fds, (its->n_fds + its->n_buffers) * sizeof *fds);
    if (!fds)
        return ENOMEM;
    its->fds = fds;
    int *const mine = fds + its->n_fds;
    for (uint32_t i = 0; i < its->n_buffers; i++) {
        mine[i] = open_event(tid, its->buffers[i].cpu, from_exec ? FROM_EXEC : FROM_NOW);
        if (mine[i] >= 0 && ioctl(mine[i], PERF_EVENT_IOC_SET_OUTPUT, its->buffers[i].fd) == 0)
            continue;
        const int error = errno;
        for (uint32_t k = 0; k <= i; k++)
            if (mine[k] >= 0)
                close(mine[k]);
        return error;
    }
    its->n_fds += its->n_buffers;
    return 0;
}

/* To the file, whose end the ring may cross. What finds no room there is lost. */
static void flush(struct gs_switches *its) {
    struct gs_switches_file *head = its->head;
    for (uint32_t done = 0; done < its->n_batch;) {
        const uint64_t at = (head->written + done) % head->capacity;
        uint64_t n = its->n_batch - done;
        n = n < head->capacity - at ? n : head->capacity - at;
        const size_t bytes = n * sizeof *its->batch;
        if (pwrite(its->file, its->batch + done, bytes,
                   (off_t)(GS_SWITCHES_AT + at * sizeof *its->batch)) != (ssize_t)bytes) {
            head->lost += its->n_batch;
            its->n_batch = 0;
            return;
        }
        done += (uint32_t)n;
    }
    /* Release: who sees the number finds the records. */
    __atomic_store_n(&head->written, head->written + its->n_batch, __ATOMIC_RELEASE);
    its->n_batch = 0;
}

static void put(struct gs_switches *its, struct gs_switch record) {
    its->batch[its->n_batch++] = record;
    if (its->n_batch == BATCH)
        flush(its);
}

/* A thread that began while the others were added may be told of twice: by its own event and by
 * that of who started it. On one processor no two switches of one kind and thread follow. */
static bool is_told_twice(struct buffer *buffer, const struct switch_record *record) {
    const bool twice =
        buffer->last_misc == record->header.misc && buffer->last_tid == record->id.tid;
    buffer->last_misc = record->header.misc;
    buffer->last_tid = record->id.tid;
    return twice;
}

static void take(struct gs_switches *its, struct buffer *buffer,
                 const struct perf_event_header *header) {
    if (header->type == PERF_RECORD_SWITCH && header->size >= sizeof(struct switch_record)) {
        const struct switch_record *record = (const void *)header;
        if (is_told_twice(buffer, record))
            return;
        const bool out = header->misc & PERF_RECORD_MISC_SWITCH_OUT;
        const bool preempted = header->misc & PERF_RECORD_MISC_SWITCH_OUT_PREEMPT;
        put(its,
            (struct gs_switch){.time_ns = record->id.time,
                               .tid = record->id.tid,
                               .cpu = (uint16_t)record->id.cpu,
                               .flags = out ? preempted ? GS_SWITCH_PREEMPTED : 0 : GS_SWITCH_IN});
    } else if (header->type == PERF_RECORD_LOST && header->size >= sizeof(struct lost_record)) {
        const struct lost_record *record = (const void *)header;
        buffer->last_misc = NONE;
        its->head->lost += record->lost;
        put(its, (struct gs_switch){.time_ns = record->id.time,
                                    .tid = (uint32_t)record->lost,
                                    .cpu = (uint16_t)record->id.cpu,
                                    .flags = GS_SWITCH_LOST});
    }
}

static void drain(struct gs_switches *its, struct buffer *buffer) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const uint8_t *data = (const uint8_t *)buffer->page + page;
    const uint64_t mask = buffer->bytes - 1;
    /* Acquire: pairs with the kernel, which publishes records by their end. */
    const uint64_t end = __atomic_load_n(&buffer->page->data_head, __ATOMIC_ACQUIRE);
    uint64_t at = buffer->page->data_tail;
    while (at < end) {
        _Alignas(8) uint8_t copy[sizeof(struct lost_record)];
        struct perf_event_header header;
        memcpy(&header, data + (at & mask), sizeof header); /* on multiples of 8: never cut */
        if (header.size < sizeof header)
            break; /* nothing that a kernel writes */
        const size_t size = header.size < sizeof copy ? header.size : sizeof copy;
        for (size_t i = 0; i < size; i++)
            copy[i] = data[(at + i) & mask];
        take(its, buffer, (const void *)copy);
        at += header.size;
    }
    /* Release: the kernel writes there only when we have read. */
    __atomic_store_n(&buffer->page->data_tail, end, __ATOMIC_RELEASE);
}

/* Moves what there is by now. Every few milliseconds. */
EXPORT void gs_switches_tick(struct gs_switches *its) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    for (uint32_t i = 0; i < its->n_buffers; i++)
        drain(its, &its->buffers[i]);
    flush(its);
    const uint64_t ns = (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
    __atomic_store_n(&its->head->until_ns, ns - MARGIN_NS, __ATOMIC_RELEASE);
}

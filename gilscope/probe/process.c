#define _GNU_SOURCE
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "python.h"

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18 /* Linux 4.14 */
#endif

/* Weak: another C library (musl) has no such function, and must still load this library. */
extern int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void),
                             void *object) __attribute__((weak));

/* Aligned: each is read at every event, and should not lie in two cache lines. */
_Alignas(64) __thread struct gs_writer gs_writer;
_Alignas(64) struct gs_process gs_process;
void (*gs_after_fork_in_child)(void);

static pthread_key_t end_key; /* its destructor stamps a thread's end */
static bool end_key_made;

static uint32_t thread_id(void) {
    return (uint32_t)syscall(SYS_gettid);
}

/* Copies a UTF-8 string and cuts it at a whole character. */
static void copy_name(char *out, size_t size, const char *name) {
    size_t n = strnlen(name, size);
    if (n == size) {
        n--;
        while (n > 0 && ((unsigned char)name[n] & 0xc0) == 0x80)
            n--;
    }
    memcpy(out, name, n);
    out[n] = 0;
}

/* ---- threads ----------------------------------------------------------------------------------
 */

static void thread_ends(void *unused) {
    (void)unused;
    struct gs_writer *writer = &gs_writer;
    if (!writer->page || !gs_recording())
        return;
    if (writer->waiting) /* left from inside its wait, as daemon threads do at shutdown */
        gs_on_leave(writer->waiting);
    if (gs_emit(GS_THREAD_END, 0))
        writer->page->end_ticks = gs_clock_now(gs_process.clock);
    /* Another library's destructor may run after this one and take the GIL once more. Nothing may
     * follow a thread's end, so that attaches anew and reads as a thread of the same tid. */
    *writer = (struct gs_writer){0};
}

static void count_loss(void) {
    if (__atomic_load_n(&gs_process.ring.header->stop, __ATOMIC_RELAXED))
        return; /* past the limit events are not recorded; nothing is missing before it */
    if (gs_writer.page) {
        __atomic_store_n(&gs_writer.page->lost, gs_writer.page->lost + 1, __ATOMIC_RELAXED);
        gs_writer.lost = true;
    } else {
        __atomic_fetch_add(&gs_process.ring.header->lost_unattached, 1, __ATOMIC_RELAXED);
    }
}

bool gs_attach(const char *name) {
    struct gs_writer *writer = &gs_writer;
    int saved_errno = errno;
    uint64_t unit = gs_ring_take(&gs_process.ring, 1);
    if (unit == 0)
        return false;
    struct gs_thread_page *page = gs_ring_at(&gs_process.ring, unit, 1);
    uint32_t tid = thread_id();
    page->header.units = 1;
    page->header.owner = gs_process.unit;
    page->tid = tid;
    page->is_main = tid == (uint32_t)getpid();
    uint32_t number = __atomic_add_fetch(&gs_process.n_threads, 1, __ATOMIC_RELAXED);
    page->number = (uint16_t)(number <= GS_NUMBER_MAX ? number : 0);
    if (name) {
        copy_name(page->name, sizeof page->name, name);
        page->from_python = 1;
    } else if (!page->is_main) {
        /* A thread that Python did not make: the kernel's name for it. */
        char comm[16] = "";
        prctl(PR_GET_NAME, comm);
        copy_name(page->name, sizeof comm, comm);
    }
    page->start_ticks = gs_clock_now(gs_process.clock);
    page->previous = __atomic_load_n(&gs_process.newest_thread, __ATOMIC_RELAXED);
    /* Release: whoever walks the list sees the page whole. */
    while (!__atomic_compare_exchange_n(&gs_process.newest_thread, &page->previous, (uint32_t)unit,
                                        false, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
        ;
    gs_ring_publish(&page->header, GS_THREAD_PAGE);
    writer->cursor = page->records;
    writer->end = page->records + sizeof page->records / sizeof *page->records;
    writer->page = page;
    if (end_key_made)
        pthread_setspecific(end_key, page);
    gs_emit(GS_THREAD_START, 0);
    errno = saved_errno;
    return true;
}

bool gs_refill(void) {
    struct gs_writer *writer = &gs_writer;
    if (!writer->page) {
        if (gs_attach(NULL))
            return true;
        count_loss();
        return false;
    }
    uint64_t unit = gs_ring_take(&gs_process.ring, GS_CHUNK_UNITS);
    if (unit == 0) {
        count_loss();
        return false;
    }
    struct gs_event_chunk *chunk = gs_ring_at(&gs_process.ring, unit, GS_CHUNK_UNITS);
    chunk->header.units = GS_CHUNK_UNITS;
    chunk->header.owner =
        (uint32_t)(((char *)writer->page - (char *)gs_process.ring.header) / GS_UNIT_BYTES);
    chunk->header.ordinal = ++writer->ordinal;
    gs_ring_publish(&chunk->header, GS_EVENT_CHUNK);
    writer->cursor = chunk->records;
    writer->end = chunk->records + sizeof chunk->records / sizeof *chunk->records;
    if (writer->lost) {
        writer->lost = false;
        gs_emit(GS_THREAD_LOST, writer->page->lost);
    }
    return true;
}

__attribute__((cold)) struct gs_record *gs_emit_refilled(enum gs_event_kind kind,
                                                         uint64_t payload) {
    return gs_refill() ? gs_emit(kind, payload) : NULL;
}

/* ---- names ------------------------------------------------------------------------------------
 */

#define REFRESH_SHARE    50      /* of the time, one part at most is spent on looking for names */
#define REFRESH_COST_MAX 1000000 /* ns: being preempted meanwhile is no cost */

static uint32_t refreshing;
static int64_t next_refresh_ns;

static struct gs_thread_page *thread_page(uint32_t unit) {
    return unit ? gs_ring_at(&gs_process.ring, unit, 1) : NULL;
}

/* Walks the living threads; those that ended leave the list here, unless they are its head, which
 * belongs to the threads that come. Only one thread at a time is in here. */
static void rename_thread(uint32_t tid, const char *name) {
    struct gs_thread_page *page =
        thread_page(__atomic_load_n(&gs_process.newest_thread, __ATOMIC_ACQUIRE));
    for (; page; page = thread_page(page->previous)) {
        for (struct gs_thread_page *next; (next = thread_page(page->previous)) &&
                                          __atomic_load_n(&next->end_ticks, __ATOMIC_RELAXED);)
            page->previous = next->previous;
        if (page->tid != tid || __atomic_load_n(&page->end_ticks, __ATOMIC_RELAXED))
            continue;
        if (strncmp(page->name, name, sizeof page->name - 1) != 0) {
            copy_name(page->name, sizeof page->name, name);
            page->from_python = 1;
        }
        return;
    }
}

static int64_t monotonic_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static void refresh(bool now) {
    if (__atomic_exchange_n(&refreshing, 1, __ATOMIC_ACQUIRE))
        return; /* a thread under another GIL is at it */
    int64_t begin = monotonic_ns();
    if (now || begin >= next_refresh_ns) {
        gs_python_each_name(rename_thread);
        int64_t end = monotonic_ns(), cost = end - begin;
        next_refresh_ns = end + REFRESH_SHARE * (cost < REFRESH_COST_MAX ? cost : REFRESH_COST_MAX);
    }
    __atomic_store_n(&refreshing, 0, __ATOMIC_RELEASE);
}

void gs_refresh_names(void) {
    refresh(false);
}

void gs_thread_named(uint32_t tid, const char *name) {
    if (__atomic_exchange_n(&refreshing, 1, __ATOMIC_ACQUIRE)) {
        __atomic_store_n(&next_refresh_ns, 0, __ATOMIC_RELAXED); /* the next look finds it */
        return;
    }
    rename_thread(tid, name);
    __atomic_store_n(&refreshing, 0, __ATOMIC_RELEASE);
}

void gs_refresh_own_name(void) {
    struct gs_thread_page *page = gs_writer.page;
    char name[GS_NAME_BYTES];
    if (!page || !gs_recording() || !gs_python_own_name(name, sizeof name) ||
        strcmp(page->name, name) == 0)
        return;
    copy_name(page->name, sizeof page->name, name);
    page->from_python = 1;
}

void gs_thread_names_itself(const char *name, bool by_python) {
    struct gs_thread_page *page = gs_writer.page;
    if (!page || !gs_recording())
        return;
    if (by_python) {
        if (strncmp(page->name, name, strlen(name)) != 0)
            refresh(true);
    } else if (!page->from_python && !page->is_main) {
        copy_name(page->name, sizeof page->name, name);
    }
}

struct thread_start {
    void *(*start)(void *);
    void *argument;
    char name[GS_NAME_BYTES];
};

static void *thread_begins(void *box) {
    struct thread_start begin = *(struct thread_start *)box;
    free(box);
    if (gs_recording())
        gs_attach(begin.name[0] ? begin.name : NULL);
    return begin.start(begin.argument);
}

int gs_thread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *),
                     void *argument, const char *name,
                     int (*create)(pthread_t *, const pthread_attr_t *, void *(*)(void *),
                                   void *)) {
    struct thread_start *box = malloc(sizeof *box);
    if (!box)
        return create(thread, attributes, start, argument);
    box->start = start;
    box->argument = argument;
    copy_name(box->name, sizeof box->name, name ? name : "");
    int error = create(thread, attributes, thread_begins, box);
    if (error)
        free(box);
    return error;
}

/* ---- processes --------------------------------------------------------------------------------
 */

static void read_command(struct gs_process_page *page) {
    int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t n;
    while (page->command_bytes < sizeof page->command &&
           (n = read(fd, page->command + page->command_bytes,
                     sizeof page->command - page->command_bytes)) > 0)
        page->command_bytes += (uint32_t)n;
    close(fd);
}

/* Takes and publishes this process's page; `parent` is the one it was forked from. */
static bool open_page(const struct gs_process_page *parent, uint32_t parent_unit) {
    struct gs_ring *ring = &gs_process.ring;
    uint64_t unit = gs_ring_take(ring, 1);
    if (unit == 0) {
        __atomic_fetch_add(&ring->header->lost_processes, 1, __ATOMIC_RELAXED);
        return false;
    }
    struct gs_process_page *page = gs_ring_at(ring, unit, 1);
    page->header.units = 1;
    page->pid = (uint32_t)getpid();
    page->parent = parent_unit;
    gs_clock_snapshot(gs_process.clock, &page->start);
    if (parent) {
        memcpy(page->python, parent->python, sizeof page->python);
        memcpy(page->feed, parent->feed, sizeof page->feed);
        page->interpreter = parent->interpreter;
        memcpy(page->command, parent->command, sizeof page->command);
        page->command_bytes = parent->command_bytes;
    } else {
        read_command(page);
    }
    gs_ring_publish(&page->header, GS_PROCESS_PAGE);
    gs_process.page = page;
    gs_process.newest_thread = 0;
    gs_process.n_threads = 0;
    refreshing = 0; /* by a thread of the parent, perhaps */
    next_refresh_ns = 0;
    gs_process.unit = (uint32_t)unit;
    *gs_process.alive = 1;
    return true;
}

/* The fork handler. Most children of a fork go on to exec, so a child is a process of its own only
 * when it uses Python: CPython makes its GIL anew then, and gs_process_revive does the rest. */
static void pause_in_child(void) {
    if (gs_process.alive)
        *gs_process.alive = 0; /* where the kernel knows no MADV_WIPEONFORK */
    gs_writer.last_release = NULL;
}

static void begin_in_child(void) {
    int saved_errno = errno;
    struct gs_process_page *parent = gs_process.page;
    struct gs_thread_page *forker = gs_writer.page;
    gs_process.page = NULL; /* that one is the parent's, whether or not there is one of its own */
    gs_process.pid = (uint32_t)getpid();
    /* It goes on in the child inside the atomic section that it is in. */
    gs_writer = (struct gs_writer){.atomic_depth = gs_writer.atomic_depth,
                                   .atomic_deferred = gs_writer.atomic_deferred};
    if (gs_process.ring.header->follow && open_page(parent, gs_process.unit)) {
        if (gs_after_fork_in_child)
            gs_after_fork_in_child();
        if (forker && gs_recording())
            gs_attach(forker->name[0] ? forker->name : NULL);
    }
    errno = saved_errno;
}

void gs_process_revive(void) {
    if (gs_process.alive && !*gs_process.alive && gs_process.pid != (uint32_t)getpid())
        begin_in_child();
}

static bool wanted_here(const struct gs_file_header *header) {
    if (header->follow)
        return true;
    return header->root_pid == (uint32_t)getpid();
}

void gs_process_choose_stacks(const char *value) {
    gs_process.stack_ticks = gs_stacks_threshold(value, gs_process.ring.header->clock_hz);
}

/* From here on events are wanted, once the process has a page. */
static bool begin_life(const struct gs_ring *ring) {
    void *life =
        mmap(NULL, GS_UNIT_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (life == MAP_FAILED)
        return false;
    madvise(life, GS_UNIT_BYTES, MADV_WIPEONFORK);
    gs_process.ring = *ring;
    gs_process.clock = (enum gs_clock_source)ring->header->clock_source;
    gs_process_choose_stacks(getenv(GS_STACKS_VARIABLE));
    gs_process.alive = life;
    gs_process.pid = (uint32_t)getpid();
    end_key_made = pthread_key_create(&end_key, thread_ends) == 0;
    if (__register_atfork)
        __register_atfork(NULL, NULL, pause_in_child, NULL);
    return true;
}

void gs_process_start(void) {
    const char *path = getenv(GS_RINGS_VARIABLE);
    if (!path || !*path || gs_process.alive)
        return;
    int saved_errno = errno;
    struct gs_ring ring = {0};
    if (gs_ring_map(&ring, path) == 0) {
        if (wanted_here(ring.header) && begin_life(&ring))
            open_page(NULL, 0);
        else
            munmap(ring.header, ring.mapped_units * GS_UNIT_BYTES);
    }
    errno = saved_errno;
}

void gs_process_take_over(struct gs_process *other) {
    if (gs_process.alive || !other->alive || !*other->alive || !begin_life(&other->ring))
        return;
    *other->alive = 0;
    gs_process.page = other->page;
    gs_process.unit = other->unit;
    gs_process.newest_thread = other->newest_thread;
    gs_process.n_threads = other->n_threads;
    *gs_process.alive = 1;
}

void gs_process_describe(const char *feed, uint32_t state) {
    struct gs_process_page *page = gs_process.page;
    if (!page || page->interpreter)
        return;
    if (gs_python.get_version) {
        const char *version = gs_python.get_version();
        size_t n = strcspn(version, " ");
        if (n > sizeof page->python - 1)
            n = sizeof page->python - 1;
        memcpy(page->python, version, n);
    }
    copy_name(page->feed, sizeof page->feed, feed);
    page->interpreter = gs_python.free_threaded ? GS_FREE_THREADED : state;
}

#define DEFAULT_INTERVAL_US 5000 /* CPython's, from 3.2 on */

void gs_process_watch_interval(const unsigned long *interval_us) {
    uintptr_t at = (uintptr_t)interval_us;
    bool in_runtime = at >= gs_python.runtime && at + sizeof *interval_us <= gs_python.runtime_end;
    if (in_runtime && *interval_us == DEFAULT_INTERVAL_US)
        gs_process.switch_interval_us = interval_us;
    if (gs_recording())
        gs_note_switch_interval();
}

void gs_process_end(void) {
    /* The pid: a vfork's child that ends runs in its parent's memory. */
    if (!gs_process.alive || !*gs_process.alive || gs_process.pid != (uint32_t)getpid())
        return;
    gs_note_switch_interval();
    gs_process.page->end_ticks = gs_clock_now(gs_process.clock);
}

uint16_t gs_next_gil_index(uint16_t ended) {
    if (!gs_process.page)
        return 0;
    uint32_t *next = &gs_process.page->n_gils;
    if (ended != GS_NO_INDEX &&
        __atomic_load_n(next, __ATOMIC_RELAXED) > GS_GIL_MASK - GS_WATCHED_GILS)
        return ended;
    uint32_t index = __atomic_fetch_add(next, 1, __ATOMIC_RELAXED);
    return (uint16_t)(index <= GS_GIL_MASK ? index : GS_NO_INDEX);
}

bool gs_return_gil_index(uint16_t index) {
    uint32_t last = index + 1u;
    return gs_process.alive && *gs_process.alive &&
           __atomic_compare_exchange_n(&gs_process.page->n_gils, &last, index, false,
                                       __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

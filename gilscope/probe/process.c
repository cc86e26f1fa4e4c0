#define _GNU_SOURCE
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "memory.h"
#include "names.h"
#include "python.h"
#include "threads.h"
#include "waits.h"

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18 /* Linux 4.14 */
#endif

/* Weak: another C library (musl) has no such function, and must still load this library. */
extern int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void),
                             void *object) __attribute__((weak));

/* Aligned: read at every event, and should not lie in two cache lines. */
_Alignas(64) struct gs_process gs_process;
void (*gs_after_fork_in_child)(void);
void (*gs_after_begin_in_child)(void);

/* The words of the page that a fork wipes. A child's pid tells nothing: in a namespace of its own
 * it may be its parent's. */
enum { WANTED, BEGUN };

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

/* What a fork's child is, as its parent was. The page of a parent that is dead may have been taken
 * back, and be anybody's, by the time that its child first uses Python: then that is not known. */
static void copy_description(struct gs_process_page *page, const struct gs_process_page *parent) {
    const char *from = (const char *)&parent->python;
    size_t bytes = sizeof *parent - offsetof(struct gs_process_page, python);
    page->interpreter = parent->interpreter & ~(uint32_t)GS_BEGUN_LATE;
    memcpy(page->python, from, bytes);
    page->switch_interval_us = page->lost_stacks = 0;
    gs_fence();
    if (parent->header.magic == GS_PROCESS_PAGE && parent->header.ordinal == gs_process.serial)
        return;
    page->interpreter = 0;
    memset(page->python, 0, bytes);
}

/* Takes and publishes this process's page; `parent` is the one it was forked from. */
static bool open_page(const struct gs_process_page *parent, uint32_t parent_pid) {
    struct gs_ring *ring = &gs_process.ring;
    gs_ring_name_taker(ring, parent_pid);
    struct gs_process_page *page = gs_ring_take_any(ring, 1);
    if (!page) {
        gs_ring_is_full(ring);
        __atomic_fetch_add(&ring->header->lost_processes, 1, __ATOMIC_RELAXED);
        return false;
    }
    page->header.owner = ring->taker;
    page->header.ordinal = __atomic_add_fetch(&ring->header->n_processes, 1, __ATOMIC_RELAXED);
    page->pid = (uint32_t)getpid();
    gs_clock_snapshot(gs_process.clock, &page->start);
    if (!parent) {
        read_command(page);
    } else {
        page->parent = gs_process.serial;
        copy_description(page, parent);
    }
    gs_ring_publish(&page->header, GS_PROCESS_PAGE);
    gs_process.page = page;
    gs_process.unit = gs_unit_of(ring, page);
    gs_process.serial = page->header.ordinal;
    gs_process.n_stack_pages = 0;
    gs_threads_after_fork();
    gs_names_after_fork();
    *gs_process.alive = 1;
    return true;
}

/* The fork handler. Most children of a fork go on to exec, so a child is a process of its own only
 * when it uses Python: CPython makes its GIL anew then, and gs_process_revive does the rest. */
static void pause_in_child(void) {
    if (gs_process.alive) /* where the kernel knows no MADV_WIPEONFORK */
        gs_process.alive[WANTED] = gs_process.alive[BEGUN] = 0;
    gs_writer.last_release = NULL;
}

static void begin_in_child(void) {
    int saved_errno = errno;
    struct gs_process_page *parent = gs_process.page;
    gs_writer_follow();
    const struct gs_thread_page *forker = gs_writer.page;
    char name[GS_NAME_BYTES] = "";
    if (forker) /* its parent may be dead, and its page anybody's */
        gs_copy_name(name, sizeof name, forker->name);
    if (forker &&
        (forker->header.magic != GS_THREAD_PAGE || forker->header.owner != gs_process.unit))
        name[0] = 0;
    uint32_t parent_pid = gs_process.pid;
    gs_process.page = NULL; /* that one is the parent's, whether or not there is one of its own */
    gs_process.pid = (uint32_t)getpid();
    gs_process.alive[BEGUN] = 1;
    gs_writer_begin_anew();
    if (gs_process.ring.header->follow && open_page(parent, parent_pid)) {
        gs_waits_forget();
        if (gs_after_fork_in_child)
            gs_after_fork_in_child();
        if (forker && gs_counting())
            gs_attach(name[0] ? name : NULL);
    }
    if (gs_after_begin_in_child)
        gs_after_begin_in_child();
    errno = saved_errno;
}

void gs_process_revive(void) {
    if (gs_process.alive && !gs_process.alive[BEGUN])
        begin_in_child();
}

static bool wanted_here(const struct gs_file_header *header) {
    if (header->follow)
        return true;
    return header->root_pid == (uint32_t)getpid();
}

void gs_process_choose_stacks(const char *value) {
    const uint64_t hz = gs_process.ring.header->clock_hz;
    gs_process.stack_ticks = gs_stacks_threshold(value, hz);
    gs_process.gc_ticks = hz ? hz / 1000000 * GS_COLLECTIONS_US : UINT64_MAX;
    gs_process.long_ticks =
        gs_process.stack_ticks < gs_process.gc_ticks ? gs_process.stack_ticks : gs_process.gc_ticks;
}

/* What is needed once, however often the process is recorded. */
static bool make_life(void) {
    if (gs_process.alive)
        return true;
    void *life =
        mmap(NULL, GS_UNIT_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (life == MAP_FAILED)
        return false;
    madvise(life, GS_UNIT_BYTES, MADV_WIPEONFORK);
    gs_process.alive = life;
    gs_threads_start();
    if (__register_atfork)
        __register_atfork(NULL, NULL, pause_in_child, NULL);
    return true;
}

/* From here on events are wanted, once the process has a page. */
static bool begin_life(const struct gs_ring *ring, const char *stacks) {
    if (!make_life())
        return false;
    gs_process.ring = *ring;
    gs_process.clock = (enum gs_clock_source)ring->header->clock_source;
    gs_process_choose_stacks(stacks);
    gs_process.alive[BEGUN] = 1;
    gs_process.pid = (uint32_t)getpid();
    return true;
}

void gs_process_start(void) {
    const char *path = getenv(GS_RINGS_VARIABLE);
    if (!path || !*path || gs_process.alive)
        return;
    int saved_errno = errno;
    struct gs_ring ring = {0};
    if (gs_ring_map(&ring, path) == 0) {
        if (wanted_here(ring.header) && begin_life(&ring, getenv(GS_STACKS_VARIABLE)))
            open_page(NULL, 0);
        else
            munmap(ring.header, ring.mapped_units * GS_UNIT_BYTES);
    }
    errno = saved_errno;
}

/* Addresses that rings of this process had once, and keep: a thread that was stopped in the middle
 * of an event writes there when it goes on, however late. */
static struct {
    void *start;
    size_t bytes;
} kept;

/* Onto the addresses of the last recording, where they are as many; so they do not grow. */
static void move_to_kept(struct gs_ring *ring) {
    size_t bytes = ring->mapped_units * GS_UNIT_BYTES;
    if (kept.bytes < bytes)
        return;
    void *there = mremap(ring->header, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, kept.start);
    if (there != MAP_FAILED)
        ring->header = there;
}

int gs_process_begin_late(const char *path, const char *stacks) {
    struct gs_ring ring = {0};
    int error = gs_ring_map(&ring, path);
    if (error)
        return error;
    move_to_kept(&ring);
    if (!begin_life(&ring, stacks)) {
        munmap(ring.header, ring.mapped_units * GS_UNIT_BYTES);
        return ENOMEM;
    }
    if (open_page(NULL, 0))
        return 0;
    gs_process_leave_rings();
    return ENOSPC;
}

void gs_process_leave_rings(void) {
    struct gs_ring *ring = &gs_process.ring;
    if (!ring->header)
        return;
    char *start = (char *)ring->header;
    size_t bytes = ring->mapped_units * GS_UNIT_BYTES, used = ring->top_unit * GS_UNIT_BYTES;
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    /* Where there is no memory for that the rings stay; their file is gone, or will be. */
    if (mmap(start, used, PROT_READ | PROT_WRITE, flags, -1, 0) == MAP_FAILED)
        return;
    if (used < bytes)
        mmap(start + used, bytes - used, PROT_NONE, flags, -1, 0);
    if (bytes > kept.bytes) {
        kept.start = start;
        kept.bytes = bytes;
    }
}

void gs_process_take_over(struct gs_process *other) {
    if (gs_process.alive || !other->alive || !*other->alive ||
        !begin_life(&other->ring, getenv(GS_STACKS_VARIABLE)))
        return;
    *other->alive = 0;
    gs_process.page = other->page;
    gs_process.unit = other->unit;
    gs_process.serial = other->serial;
    gs_process.n_stack_pages = other->n_stack_pages;
    gs_process.n_threads = other->n_threads;
    gs_threads_adopt();
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
    gs_copy_name(page->feed, sizeof page->feed, feed);
    page->interpreter = gs_python.free_threaded ? GS_FREE_THREADED : state;
}

#define DEFAULT_INTERVAL_US 5000 /* CPython's, from 3.2 on */

void gs_process_watch_interval(const unsigned long *interval_us) {
    uintptr_t at = (uintptr_t)interval_us;
    bool in_runtime = at >= gs_python.runtime && at + sizeof *interval_us <= gs_python.runtime_end;
    if (in_runtime && *interval_us == DEFAULT_INTERVAL_US)
        gs_process.switch_interval_us = interval_us;
    if (gs_counting())
        gs_note_switch_interval();
}

void gs_process_interval_is(const unsigned long *interval_us) {
    gs_process.switch_interval_us = interval_us;
    if (gs_process.page)
        gs_note_switch_interval();
}

void gs_process_end(void) {
    /* The pid: a vfork's child that ends runs in its parent's memory. */
    if (!gs_process.alive || !*gs_process.alive || gs_process.pid != (uint32_t)getpid())
        return;
    /* A program that embeds Python may have closed libpython. */
    if (gs_process.switch_interval_us &&
        gs_readable(gs_process.switch_interval_us, sizeof *gs_process.switch_interval_us))
        gs_note_switch_interval();
    gs_process.page->end_ticks = gs_clock_now(gs_process.clock);
}

void gs_process_end_late(void) {
    gs_process_end();
    if (gs_process.alive)
        *gs_process.alive = 0;
    /* The page stays where it is: a thread may be about to write into it. */
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

/* The state of a story that is being told, and what opens and closes its intervals. Part of
 * story.c, which alone includes it (all is static, so that an event costs no call); story.c has
 * the invariants. What may fail returns false when memory is out.
 */
#ifndef GILSCOPE_TRACE_INTERVALS_H
#define GILSCOPE_TRACE_INTERVALS_H

#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

#include "story.h"
#include "wakers.h"

struct gs_story_error {
    uint32_t rule;
    uint32_t thread; /* of the event */
    uint32_t other;  /* the holder or the thread left open */
    uint32_t gil;    /* that it holds or waits for, or of the event */
    int64_t before_ns;
    struct gs_event event;
};

/* An array that grows in place. */
struct vector {
    char *data;
    uint64_t n;
    size_t bytes; /* mapped; pages that were not touched cost nothing */
    int file;     /* 1 + the descriptor that it is kept in; 0: in memory */
};

#define FIRST_BYTES ((size_t)1 << 16)
#define HUGE_BYTES  ((size_t)1 << 22)
#define STEP_BYTES  ((size_t)1 << 26) /* a file grows by no more: its disk must have that */

static void *map_vector(const struct vector *v, size_t bytes) {
    int fd = v->file - 1;
    /* A store to what the disk has no room for would end the process. */
    if (v->file && posix_fallocate(fd, (off_t)v->bytes, (off_t)(bytes - v->bytes)) != 0)
        return MAP_FAILED;
    if (v->data)
        return mremap(v->data, v->bytes, bytes, MREMAP_MAYMOVE);
    return mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                v->file ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, fd, 0);
}

static void *vector_add(struct vector *v, size_t size) {
    size_t need = (v->n + 1) * size;
    if (need > v->bytes) {
        size_t step = v->bytes ? v->bytes : FIRST_BYTES;
        size_t bytes = v->bytes + (v->file && step > STEP_BYTES ? STEP_BYTES : step);
        void *data = map_vector(v, bytes);
        if (data == MAP_FAILED)
            return NULL;
        if (bytes >= HUGE_BYTES && !v->file)
            madvise(data, bytes, MADV_HUGEPAGE); /* fewer page faults; at most one page too many */
        v->data = data;
        v->bytes = bytes;
    }
    return v->data + size * v->n++;
}

enum state { OUTSIDE, WAITING, HOLDING };

#define NESTING_MAX 4 /* waits for locks and conditions of one thread in one another */

struct open_sync {
    uint64_t object;
    int64_t start_ns;
    uint64_t interval; /* its index in sync_waits */
};

struct thread {
    int64_t time_ns;   /* of its last event */
    int64_t lost_ns;   /* valid while `lost` */
    int64_t since_ns;  /* OUTSIDE: unused; else the begin of the open interval */
    uint64_t interval; /* its index in waits or holds */
    uint32_t process;
    uint32_t epoch;          /* of `gil` at its last event there */
    uint32_t next, previous; /* in the list of waiters of `gil` */
    uint32_t leaf;           /* of the stack that its next GIL event is to end with */
    uint8_t leaf_flags;
    bool has_leaf;
    uint16_t gil;
    uint8_t state, cpu; /* of its wait */
    uint8_t started, ended;
    bool sync_known; /* else the end of a wait may come whose begin was not seen */
    bool depth_known;
    bool lost; /* records of it, since its last GIL event: it may be anywhere */
    uint8_t n_sync;
    uint32_t depth, sections; /* atomic sections: depth, and how many of them are seen open */
    uint64_t section;         /* index of the outermost */
    int64_t section_held_ns;  /* what the thread had held when it began */
    uint64_t resumed;    /* 1 + index of the wait that was last to end; 0: something came since */
    uint64_t slept;      /* the same, however it ended; 0: the thread has had a GIL since */
    uint32_t waker_leaf; /* of the stack of its next release or notify */
    bool has_waker_leaf;
    bool has_cpu;    /* of its hold, which ends next */
    uint32_t asleep; /* the same: percent, or GS_NO_LOOKS */
    uint64_t cpu_ns;
    int64_t processor_ns; /* of the last event of its processor */
    bool has_gc;          /* so are these, of its collections */
    uint32_t gc_count;
    uint64_t gc_least_ns, gc_most_ns;
    struct open_sync sync[NESTING_MAX];
    uint32_t next_of_process;
};

struct gil {
    int64_t time_ns;
    int64_t held_since_ns;
    int64_t contended_since_ns; /* valid while held and n_waiting > 0 */
    int64_t asked_ns;           /* the first request of the hold; valid while `requested` */
    int64_t unknown_since_ns;   /* valid while `unknown`; so are the next two */
    uint64_t gap;               /* index of the open gap */
    uint32_t process;
    uint32_t next; /* of the same process */
    uint32_t epoch;
    uint32_t holder; /* GS_NOBODY: free, or unknown */
    uint32_t last_holder;
    uint32_t first_waiter;
    uint32_t n_waiting;
    bool lost; /* the gap is none of a beginning */
    bool unknown, requested, seen;
};

struct gs_story {
    struct gs_story_error error;
    bool keep; /* build intervals, not only check */
    uint32_t n_processes, n_threads, n_gils;
    struct thread *threads;
    struct gil *gils;
    uint32_t *first_gil;    /* a process: head of the list of its GILs */
    uint32_t *first_thread; /* and of its threads */
    struct gs_thread_stats *thread_stats;
    struct gs_gil_stats *gil_stats;
    struct gs_process_stats *process_stats;
    struct vector holds, waits, requests, gaps, sync_waits, notifies, sections, stacks, sync_stacks,
        kept, collected, processors;
    struct gs_wakers wakers; /* value: the index of the release or notify */
};

static bool begin_gap(struct gs_story *s, uint16_t id, int64_t time_ns, uint64_t missing,
                      bool lost) {
    struct gil *g = &s->gils[id];
    g->unknown = true;
    g->lost = lost;
    g->unknown_since_ns = time_ns;
    g->holder = GS_NOBODY;
    g->epoch++;
    if (!s->keep)
        return true;
    g->gap = s->gaps.n;
    struct gs_gap *gap = vector_add(&s->gaps, sizeof *gap);
    if (!gap)
        return false;
    *gap = (struct gs_gap){time_ns, time_ns, missing > UINT32_MAX ? UINT32_MAX : (uint32_t)missing,
                           id, lost};
    return true;
}

static void end_gap(struct gs_story *s, struct gil *g, int64_t time_ns) {
    if (!g->unknown)
        return;
    g->unknown = false;
    if (g->lost)
        s->gil_stats[g - s->gils].unknown_ns += time_ns - g->unknown_since_ns;
    if (s->keep)
        ((struct gs_gap *)s->gaps.data)[g->gap].end_ns = time_ns;
}

static bool begin_wait(struct gs_story *s, const struct gs_event *e) {
    struct gil *g = &s->gils[e->gil];
    struct thread *t = &s->threads[e->thread];
    t->state = WAITING;
    t->cpu = (e->flags & GS_FLAG_CPU) != 0;
    t->since_ns = e->time_ns;
    t->next = g->first_waiter;
    t->previous = GS_NOBODY;
    if (g->first_waiter != GS_NOBODY)
        s->threads[g->first_waiter].previous = e->thread;
    g->first_waiter = e->thread;
    if (g->n_waiting++ == 0)
        g->contended_since_ns = e->time_ns;
    s->thread_stats[e->thread].waits++;
    s->thread_stats[e->thread].io_waits += !(e->flags & GS_FLAG_CPU);
    if (!s->keep)
        return true;
    t->interval = s->waits.n;
    struct gs_wait *wait = vector_add(&s->waits, sizeof *wait);
    if (!wait)
        return false;
    uint64_t holds = s->gil_stats[e->gil].holds;
    *wait = (struct gs_wait){
        .start_ns = e->time_ns,
        .end_ns = e->time_ns,
        .woken_ns = GS_NEVER,
        .hold = (uint32_t)(g->holder == GS_NOBODY ? holds : holds - 1),
        .gap = g->unknown ? (uint32_t)g->gap : GS_NO_GAP,
        .thread = e->thread,
        .gil = e->gil,
        .cpu = (e->flags & GS_FLAG_CPU) != 0,
    };
    return true;
}

static void end_wait(struct gs_story *s, uint32_t thread, int64_t time_ns, enum gs_ending how) {
    struct thread *t = &s->threads[thread];
    struct gil *g = &s->gils[t->gil];
    if (t->previous == GS_NOBODY)
        g->first_waiter = t->next;
    else
        s->threads[t->previous].next = t->next;
    if (t->next != GS_NOBODY)
        s->threads[t->next].previous = t->previous;
    if (--g->n_waiting == 0 && g->holder != GS_NOBODY)
        s->gil_stats[t->gil].contended_ns += time_ns - g->contended_since_ns;
    t->state = OUTSIDE;
    s->thread_stats[thread].waiting_ns += time_ns - t->since_ns;
    if (s->keep) {
        struct gs_wait *wait = (struct gs_wait *)s->waits.data + t->interval;
        wait->end_ns = time_ns;
        wait->ending = (uint8_t)how;
    }
}

/* The interval that a thread ends now has the stack that was told right before. */
static bool take_stack(struct gs_story *s, const struct thread *t) {
    if (!t->has_leaf || !s->keep)
        return true;
    struct gs_stack_of *stack = vector_add(&s->stacks, sizeof *stack);
    if (!stack)
        return false;
    *stack = (struct gs_stack_of){.interval = (uint32_t)t->interval,
                                  .leaf = t->leaf,
                                  .of_wait = (t->leaf_flags & GS_FLAG_OF_WAIT) != 0,
                                  .seen = (t->leaf_flags & GS_FLAG_SEEN) != 0};
    return true;
}

static bool begin_hold(struct gs_story *s, const struct gs_event *e) {
    struct gil *g = &s->gils[e->gil];
    struct thread *t = &s->threads[e->thread];
    struct gs_gil_stats *stats = &s->gil_stats[e->gil];
    t->state = HOLDING;
    t->since_ns = e->time_ns;
    g->holder = e->thread;
    g->held_since_ns = e->time_ns;
    g->contended_since_ns = e->time_ns;
    g->requested = false;
    stats->holds++;
    stats->acquires++;
    stats->switches += g->last_holder != e->thread && g->last_holder != GS_NOBODY;
    g->last_holder = e->thread;
    s->thread_stats[e->thread].acquires++;
    s->thread_stats[e->thread].contended_acquires += e->flags & GS_FLAG_WAITED;
    s->thread_stats[e->thread].holds++;
    if (!s->keep)
        return true;
    if (t->resumed)
        ((struct gs_sync_wait *)s->sync_waits.data)[t->resumed - 1].running_ns = e->time_ns;
    t->resumed = t->slept = 0;
    t->interval = s->holds.n;
    struct gs_hold *hold = vector_add(&s->holds, sizeof *hold);
    if (!hold)
        return false;
    *hold = (struct gs_hold){
        .start_ns = e->time_ns,
        .end_ns = e->time_ns,
        .thread = e->thread,
        .gil = e->gil,
        .flags = e->flags & GS_FLAG_WAITED ? GS_HOLD_WAITED : 0,
    };
    return true;
}

static bool end_hold(struct gs_story *s, uint32_t thread, int64_t time_ns, enum gs_ending how) {
    struct thread *t = &s->threads[thread];
    struct gil *g = &s->gils[t->gil];
    s->gil_stats[t->gil].held_ns += time_ns - g->held_since_ns;
    if (g->n_waiting)
        s->gil_stats[t->gil].contended_ns += time_ns - g->contended_since_ns;
    g->holder = GS_NOBODY;
    t->state = OUTSIDE;
    s->thread_stats[thread].held_ns += time_ns - t->since_ns;
    if (s->keep) {
        struct gs_hold *hold = (struct gs_hold *)s->holds.data + t->interval;
        hold->end_ns = time_ns;
        hold->ending = (uint8_t)how;
        if (g->requested)
            hold->flags |= GS_HOLD_REQUESTED;
        if (t->has_cpu && g->requested) {
            struct gs_kept *kept = vector_add(&s->kept, sizeof *kept);
            if (!kept)
                return false;
            *kept = (struct gs_kept){.late_ns = time_ns - g->asked_ns,
                                     .cpu_ns = (int64_t)t->cpu_ns,
                                     .hold = (uint32_t)t->interval,
                                     .asleep = t->asleep};
        }
        if (t->has_gc) {
            struct gs_collected *collected = vector_add(&s->collected, sizeof *collected);
            if (!collected)
                return false;
            *collected = (struct gs_collected){
                .least_ns = (int64_t)t->gc_least_ns,
                .most_ns = (int64_t)t->gc_most_ns,
                .late_ns = time_ns - (g->requested ? g->asked_ns : t->since_ns),
                .hold = (uint32_t)t->interval,
                .count = t->gc_count};
        }
    }
    t->has_cpu = t->has_gc = false;
    return true;
}

#include "sync_intervals.h"

/* Ends what a thread has open. A thread's end may bear a time before the last event of its GIL
 * (they are ordered apart); the interval ends no earlier than that event. */
static void close_thread(struct gs_story *s, uint32_t thread, int64_t time_ns, enum gs_ending how) {
    struct thread *t = &s->threads[thread];
    if (t->state == OUTSIDE)
        return;
    close_sync(s, thread, time_ns, how); /* what lies inside a wait for the GIL */
    struct gil *g = &s->gils[t->gil];
    int64_t last_ns = time_ns > g->time_ns ? time_ns : g->time_ns;
    g->time_ns = last_ns;
    if (t->state == WAITING)
        end_wait(s, thread, last_ns, how);
    else
        (void)end_hold(s, thread, last_ns, how); /* it was not told of: that comes with a release */
    struct gs_thread_stats *stats = &s->thread_stats[thread];
    if (stats->last_ns < last_ns)
        stats->last_ns = last_ns;
    struct gs_process_stats *process = &s->process_stats[t->process];
    if (process->last_ns < last_ns)
        process->last_ns = last_ns;
}

static void close_gil(struct gs_story *s, uint16_t id, int64_t time_ns, enum gs_ending how) {
    struct gil *g = &s->gils[id];
    if (g->holder != GS_NOBODY)
        close_thread(s, g->holder, time_ns, how);
    while (g->first_waiter != GS_NOBODY)
        close_thread(s, g->first_waiter, time_ns, how);
    end_gap(s, g, time_ns > g->time_ns ? time_ns : g->time_ns);
}

#endif

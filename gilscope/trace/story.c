/* The story: checks that a sequence of events could have happened, and builds its intervals.
 *
 * Actors: one caller that feeds batches of events in the order of their source, one event at a
 * time. There is no concurrency here.
 *
 * Invariants, per GIL: at most one holder; its holds do not overlap and ascend; a thread is in its
 * list of waiters exactly while it has an open wait on it. Per thread: it is outside, or it waits
 * for one GIL, or it holds one. It waits for locks and conditions outside of any GIL, or inside a
 * wait for one, never while it holds one; such waits end in the reverse order of their begins.
 * Atomic sections nest, and are bound to nothing else.
 *
 * What is not known: a GIL begins unknown, and so do its threads on it; gil.lost makes it unknown
 * again by opening a new *epoch*. A thread is known on a GIL when its last event there is of the
 * GIL's present epoch; only then can an event contradict what went before. Of threads with several
 * GILs only the last one is remembered, so coming back to another counts as not known: a table of
 * pairs would find little more and cost a look-up an event.
 *
 * Memory: intervals are appended to arrays that grow in place (mremap moves pages, not bytes), so
 * that what is not yet filled costs nothing. Everything else is proportional to the tables.
 */
#define _GNU_SOURCE /* mremap */
#include <stdbool.h>
#include <stdlib.h>

#include "intervals.h"

/* Why an event is impossible; story.py has the words. */
enum gs_rule {
    GS_POSSIBLE = 0,
    GS_OUT_OF_MEMORY = 1,
    GS_NO_SUCH_KIND = 2,
    GS_NO_SUCH_THREAD = 3,
    GS_NO_SUCH_GIL = 4,
    GS_FOREIGN_GIL = 5,
    GS_THREAD_OVER = 6,
    GS_PROCESS_OVER = 7,
    GS_THREAD_BEGAN = 8,
    GS_PROCESS_BEGAN = 9,
    GS_TIME_OF_GIL = 10,
    GS_TIME_OF_THREAD = 11,
    GS_HELD_BY_OTHER = 12,
    GS_HOLDS_ALREADY = 13,
    GS_WAITS_ALREADY = 14,
    GS_DOES_NOT_WAIT = 15,
    GS_IS_FREE = 16,
    GS_IS_OUTSIDE = 17,
    GS_LEFT_OPEN = 18,
    GS_NO_SUCH_TIME = 19, /* negative; what is left cannot overflow a sum of one thread */
    GS_WAITS_FOR_SYNC = 20,
    GS_OTHER_SYNC = 21,
    GS_NO_SYNC = 22,
    GS_TOO_DEEP = 23,
    GS_NO_SUCH_ARGUMENT = 24,
    GS_OTHER_DEPTH = 25,
    GS_WAKES_NO_WAITER = 26,
    GS_DOES_NOT_HOLD = 27,
};

/* ---- The rules ---------------------------------------------------------------------------- */

static int refuse(struct gs_story *s, enum gs_rule rule, const struct gs_event *e, uint32_t other,
                  uint32_t gil, int64_t before_ns) {
    s->error = (struct gs_story_error){rule, e->thread, other, gil, before_ns, *e};
    return -1;
}

#define REFUSE(rule, other, gil) return refuse(s, rule, e, other, gil, 0)

#include "sync_rules.h"

/* Whether a thread cannot be in a state, by what is known of it. */
static bool contradicts(const struct gs_story *s, const struct thread *t, uint8_t state) {
    bool known = t->gil != GS_NO_GIL && t->epoch == s->gils[t->gil].epoch;
    return !t->lost && t->state != state && (known || t->state != OUTSIDE);
}

/* Its next event shows that it has left its GIL: how is lost, and no later event of that GIL has
 * told so by its number. */
static bool leave_unseen(struct gs_story *s, const struct thread *t) {
    int64_t last_ns = s->gils[t->gil].time_ns;
    int64_t lost_ns = t->lost_ns > last_ns ? t->lost_ns : last_ns;
    uint16_t gil = t->gil;
    close_gil(s, gil, lost_ns, GS_ENDED_LOST);
    s->gils[gil].time_ns = lost_ns;
    return begin_gap(s, gil, lost_ns, 0, true);
}

static int take_gil_event(struct gs_story *s, const struct gs_event *e) {
    if (e->gil >= s->n_gils)
        REFUSE(GS_NO_SUCH_GIL, GS_NOBODY, e->gil);
    struct gil *g = &s->gils[e->gil];
    struct thread *t = &s->threads[e->thread];
    struct gs_thread_stats *mine = &s->thread_stats[e->thread];
    if (g->process != t->process)
        REFUSE(GS_FOREIGN_GIL, GS_NOBODY, e->gil);
    if (e->time_ns < g->time_ns && g->seen)
        return refuse(s, GS_TIME_OF_GIL, e, GS_NOBODY, e->gil, g->time_ns);
    if (!g->seen) {
        int64_t first_ns = s->process_stats[g->process].first_ns;
        if (!begin_gap(s, e->gil, first_ns < e->time_ns ? first_ns : e->time_ns, 0, false))
            REFUSE(GS_OUT_OF_MEMORY, GS_NOBODY, e->gil);
        g->seen = true;
    }
    g->time_ns = e->time_ns;
    if (e->kind == GS_GIL_LOST) {
        close_gil(s, e->gil, e->time_ns, GS_ENDED_LOST);
        s->gil_stats[e->gil].missing += e->arg;
        if (!begin_gap(s, e->gil, e->time_ns, e->arg, true))
            REFUSE(GS_OUT_OF_MEMORY, GS_NOBODY, e->gil);
        return 0;
    }

    bool known = t->gil == e->gil && t->epoch == g->epoch;
    if (t->state != OUTSIDE && t->gil != e->gil) {
        if (!t->lost)
            REFUSE(t->state == HOLDING ? GS_HOLDS_ALREADY : GS_WAITS_ALREADY, GS_NOBODY, t->gil);
        if (!leave_unseen(s, t))
            REFUSE(GS_OUT_OF_MEMORY, GS_NOBODY, t->gil);
    }
    if (mine->gil == GS_NO_GIL)
        mine->gil = e->gil;
    if (e->kind == GS_GIL_WAKEUP)
        return take_wakeup(s, e);
    if (e->kind != GS_GIL_REQUEST) {
        if (t->n_sync)
            REFUSE(GS_WAITS_FOR_SYNC, GS_NOBODY, e->gil);
        t->sync_known = true;
    }
    if (e->arg > s->gil_stats[e->gil].max_waiters)
        s->gil_stats[e->gil].max_waiters = e->arg;

    switch (e->kind) {
    case GS_GIL_WAIT:
        if (t->state != OUTSIDE)
            REFUSE(t->state == HOLDING ? GS_HOLDS_ALREADY : GS_WAITS_ALREADY, GS_NOBODY, e->gil);
        t->gil = e->gil;
        if (!begin_wait(s, e))
            REFUSE(GS_OUT_OF_MEMORY, GS_NOBODY, e->gil);
        break;
    case GS_GIL_ACQUIRE:
        if (t->state == HOLDING)
            REFUSE(GS_HOLDS_ALREADY, GS_NOBODY, e->gil);
        if (g->holder != GS_NOBODY)
            REFUSE(GS_HELD_BY_OTHER, g->holder, e->gil);
        if (e->flags & GS_FLAG_WAITED ? t->state != WAITING && known : t->state == WAITING)
            REFUSE(t->state == WAITING ? GS_WAITS_ALREADY : GS_DOES_NOT_WAIT, GS_NOBODY, e->gil);
        end_gap(s, g, e->time_ns);
        if (t->state == WAITING) {
            if (!take_stack(s, t))
                REFUSE(GS_OUT_OF_MEMORY, GS_NOBODY, e->gil);
            end_wait(s, e->thread, e->time_ns, GS_ACQUIRED);
        }
        t->gil = e->gil;
        if (!begin_hold(s, e))
            REFUSE(GS_OUT_OF_MEMORY, GS_NOBODY, e->gil);
        break;
    case GS_GIL_RELEASE:
    case GS_GIL_YIELD:
        if (g->holder != GS_NOBODY && g->holder != e->thread)
            REFUSE(GS_HELD_BY_OTHER, g->holder, e->gil);
        if (t->state == WAITING)
            REFUSE(GS_WAITS_ALREADY, GS_NOBODY, e->gil);
        if (t->state != HOLDING && (known || !g->unknown))
            REFUSE(known ? GS_IS_OUTSIDE : GS_IS_FREE, GS_NOBODY, e->gil);
        end_gap(s, g, e->time_ns);
        if (t->state == HOLDING) {
            if (!take_stack(s, t))
                REFUSE(GS_OUT_OF_MEMORY, GS_NOBODY, e->gil);
            if (!end_hold(s, e->thread, e->time_ns,
                          e->kind == GS_GIL_RELEASE ? GS_RELEASED : GS_YIELDED))
                REFUSE(GS_OUT_OF_MEMORY, GS_NOBODY, e->gil);
        } else {
            g->last_holder = e->thread;
        }
        mine->releases += e->kind == GS_GIL_RELEASE;
        mine->yields += e->kind == GS_GIL_YIELD;
        s->gil_stats[e->gil].yields += e->kind == GS_GIL_YIELD;
        break;
    case GS_GIL_REQUEST:
        if (t->state == HOLDING)
            REFUSE(GS_HOLDS_ALREADY, GS_NOBODY, e->gil);
        if (t->state != WAITING && known)
            REFUSE(GS_DOES_NOT_WAIT, GS_NOBODY, e->gil);
        if (!g->requested)
            g->asked_ns = e->time_ns;
        g->requested = true;
        mine->requests++;
        if (s->keep) {
            struct gs_request *request = vector_add(&s->requests, sizeof *request);
            if (!request)
                REFUSE(GS_OUT_OF_MEMORY, GS_NOBODY, e->gil);
            *request = (struct gs_request){e->time_ns, e->thread, g->holder, e->gil, {0}};
        }
        return 0; /* tells nothing about where a thread not yet known stands from here on */
    }
    t->gil = e->gil;
    t->epoch = g->epoch;
    t->has_leaf = t->lost = false;
    return 0;
}

/* Told by a thread that comes back from such a wait and has not had the GIL since, or that holds it
 * and is about to end another's. */
static int take_sync_stack(struct gs_story *s, const struct gs_event *e) {
    struct thread *t = &s->threads[e->thread];
    if (e->flags & GS_FLAG_OF_WAIT) {
        if (t->state == HOLDING && !t->lost)
            REFUSE(GS_HOLDS_ALREADY, GS_NOBODY, t->gil);
        if (t->slept && !add_sync_stack(s, t->slept - 1, (uint32_t)e->arg, true))
            REFUSE(GS_OUT_OF_MEMORY, GS_NOBODY, GS_NO_GIL);
        t->slept = 0;
        return 0;
    }
    if (contradicts(s, t, HOLDING))
        REFUSE(GS_DOES_NOT_HOLD, GS_NOBODY, t->gil);
    t->waker_leaf = (uint32_t)e->arg;
    t->has_waker_leaf = true;
    return 0;
}

/* Told by a thread that waits, of its wait, or that holds, of its hold; as far as that is known. */
static int take_stack_event(struct gs_story *s, const struct gs_event *e) {
    struct thread *t = &s->threads[e->thread];
    bool of_wait = e->flags & GS_FLAG_OF_WAIT;
    if (contradicts(s, t, of_wait ? WAITING : HOLDING))
        REFUSE(of_wait ? GS_DOES_NOT_WAIT : GS_DOES_NOT_HOLD, GS_NOBODY, t->gil);
    t->leaf = (uint32_t)e->arg;
    t->leaf_flags = e->flags;
    t->has_leaf = true;
    return 0;
}

/* Told by a holder of the hold that it ends next. */
static int take_hold_event(struct gs_story *s, const struct gs_event *e) {
    struct thread *t = &s->threads[e->thread];
    if (contradicts(s, t, HOLDING))
        REFUSE(GS_DOES_NOT_HOLD, GS_NOBODY, t->gil);
    const uint64_t most = e->kind == GS_HOLD_ASLEEP ? 100
                          : e->kind == GS_HOLD_GC   ? UINT32_MAX
                                                    : INT64_MAX;
    if (e->arg > most || (e->kind == GS_HOLD_ASLEEP && !t->has_cpu) ||
        ((e->kind == GS_HOLD_GC_LEAST || e->kind == GS_HOLD_GC_MOST) && !t->has_gc) ||
        (e->kind == GS_HOLD_GC_MOST && e->arg < t->gc_least_ns))
        REFUSE(GS_NO_SUCH_ARGUMENT, GS_NOBODY, GS_NO_GIL);
    switch (e->kind) {
    case GS_HOLD_ASLEEP:
        t->asleep = (uint32_t)e->arg;
        break;
    case GS_HOLD_CPU:
        t->cpu_ns = e->arg;
        t->asleep = GS_NO_LOOKS;
        t->has_cpu = true;
        break;
    case GS_HOLD_GC:
        t->has_gc = true;
        t->gc_count = (uint32_t)e->arg;
        t->gc_least_ns = t->gc_most_ns = 0;
        break;
    case GS_HOLD_GC_LEAST:
        t->gc_least_ns = t->gc_most_ns = e->arg;
        break;
    default: /* GS_HOLD_GC_MOST */
        t->gc_most_ns = e->arg;
    }
    return 0;
}

static int take_life_event(struct gs_story *s, const struct gs_event *e) {
    struct thread *t = &s->threads[e->thread];
    struct gs_process_stats *process = &s->process_stats[t->process];
    switch (e->kind) {
    case GS_STACK:
        return e->flags & GS_FLAG_OF_SYNC ? take_sync_stack(s, e) : take_stack_event(s, e);
    case GS_HOLD_GC:
    case GS_HOLD_GC_LEAST:
    case GS_HOLD_GC_MOST:
    case GS_HOLD_CPU:
    case GS_HOLD_ASLEEP:
        return take_hold_event(s, e);
    case GS_THREAD_START:
        if (t->started)
            REFUSE(GS_THREAD_BEGAN, GS_NOBODY, GS_NO_GIL);
        break;
    case GS_THREAD_LOST:
        close_own(s, e->thread, e->time_ns, GS_ENDED_LOST);
        t->lost = true;
        t->lost_ns = e->time_ns;
        break;
    case GS_THREAD_END:
        close_own(s, e->thread, e->time_ns, GS_END);
        close_thread(s, e->thread, e->time_ns, GS_END);
        t->ended = true;
        break;
    case GS_PROCESS_START:
        if (process->started)
            REFUSE(GS_PROCESS_BEGAN, GS_NOBODY, GS_NO_GIL);
        process->started = 1;
        break;
    case GS_PROCESS_END:
        for (uint32_t id = s->first_thread[t->process]; id != GS_NOBODY;
             id = s->threads[id].next_of_process)
            close_own(s, id, e->time_ns, GS_END);
        for (uint32_t id = s->first_gil[t->process]; id != GS_NOBODY; id = s->gils[id].next)
            close_gil(s, (uint16_t)id, e->time_ns, GS_END);
        process->ended = 1;
        process->unclean = e->arg != 0;
        break;
    default:
        REFUSE(GS_NO_SUCH_KIND, GS_NOBODY, GS_NO_GIL);
    }
    return 0;
}

/* A stream of its own: it is told by another clock's reader, and may come late. */
static int take_processor_event(struct gs_story *s, const struct gs_event *e) {
    struct thread *t = &s->threads[e->thread];
    if (e->time_ns < 0)
        REFUSE(GS_NO_SUCH_TIME, GS_NOBODY, GS_NO_GIL);
    if (e->time_ns < t->processor_ns)
        return refuse(s, GS_TIME_OF_THREAD, e, GS_NOBODY, GS_NO_GIL, t->processor_ns);
    if (!gs_is_processor(e->kind, e->arg))
        REFUSE(GS_NO_SUCH_ARGUMENT, GS_NOBODY, GS_NO_GIL);
    t->processor_ns = e->time_ns;
    if (!s->keep)
        return 0;
    struct gs_processor_row *row = vector_add(&s->processors, sizeof *row);
    if (!row)
        REFUSE(GS_OUT_OF_MEMORY, GS_NOBODY, GS_NO_GIL);
    *row = (struct gs_processor_row){
        .time_ns = e->time_ns,
        .thread = e->thread,
        .processor = (uint16_t)(e->arg & GS_PROCESSOR_MASK),
        .state = e->kind == GS_PROCESSOR_ON ? GS_IS_RUNNING : (uint16_t)(e->arg >> GS_WHY_SHIFT)};
    return 0;
}

static int take(struct gs_story *s, const struct gs_event *e) {
    if (e->thread >= s->n_threads)
        REFUSE(GS_NO_SUCH_THREAD, GS_NOBODY, GS_NO_GIL);
    if (gs_is_of_processor(e->kind))
        return take_processor_event(s, e);
    struct thread *t = &s->threads[e->thread];
    struct gs_thread_stats *mine = &s->thread_stats[e->thread];
    struct gs_process_stats *process = &s->process_stats[t->process];
    /* A gap is told in the name of a thread that has no part in it, and a process's life in that
     * of its main thread: neither belongs to the thread's own sequence. */
    bool own = e->kind != GS_GIL_LOST && e->kind != GS_PROCESS_START && e->kind != GS_PROCESS_END;
    if (e->time_ns < 0)
        REFUSE(GS_NO_SUCH_TIME, GS_NOBODY, GS_NO_GIL);
    if (process->ended)
        REFUSE(GS_PROCESS_OVER, GS_NOBODY, GS_NO_GIL);
    if (own) {
        if (t->ended)
            REFUSE(GS_THREAD_OVER, GS_NOBODY, GS_NO_GIL);
        if (e->time_ns < t->time_ns && t->started)
            return refuse(s, GS_TIME_OF_THREAD, e, GS_NOBODY, GS_NO_GIL, t->time_ns);
    }
    if (e->time_ns < process->first_ns)
        process->first_ns = e->time_ns;
    if (e->time_ns > process->last_ns)
        process->last_ns = e->time_ns;
    int refused;
    if (e->kind >= GS_GIL_WAIT && e->kind <= GS_GIL_WAKEUP)
        refused = take_gil_event(s, e);
    else if (e->kind >= GS_LOCK_WAIT && e->kind <= GS_COND_NOTIFY)
        refused = take_sync_event(s, e);
    else if (e->kind >= GS_ATOMIC_ENTER && e->kind <= GS_ATOMIC_DEFERRED)
        refused = take_atomic_event(s, e);
    else
        refused = take_life_event(s, e);
    if (refused || !own)
        return refused;
    t->started = true;
    t->time_ns = e->time_ns;
    if (e->time_ns < mine->first_ns)
        mine->first_ns = e->time_ns;
    if (e->time_ns > mine->last_ns)
        mine->last_ns = e->time_ns;
    return 0;
}

/* ---- The calls ---------------------------------------------------------------------------- */

enum { VECTORS = 12 };

static void vectors_of(struct gs_story *s, struct vector *vectors[VECTORS]) {
    struct vector *all[VECTORS] = {&s->holds,       &s->waits,    &s->requests,  &s->gaps,
                                   &s->sync_waits,  &s->notifies, &s->sections,  &s->stacks,
                                   &s->sync_stacks, &s->kept,     &s->collected, &s->processors};
    memcpy(vectors, all, sizeof all);
}

GS_EXPORT void gs_story_free(struct gs_story *s) {
    if (!s)
        return;
    struct vector *vectors[VECTORS];
    vectors_of(s, vectors);
    for (size_t i = 0; i < VECTORS; i++)
        if (vectors[i]->data)
            munmap(vectors[i]->data, vectors[i]->bytes);
    free(s->threads);
    free(s->gils);
    free(s->first_gil);
    free(s->first_thread);
    free(s->thread_stats);
    free(s->gil_stats);
    free(s->process_stats);
    free(s);
}

static bool grow(void **array, size_t n, size_t size) {
    void *moved = realloc(*array, (n + 1) * size);
    if (moved)
        *array = moved;
    return moved != NULL;
}

static bool add_thread(struct gs_story *s, uint32_t process) {
    uint32_t id = s->n_threads;
    if (process >= s->n_processes)
        return false;
    s->threads[id] = (struct thread){
        .process = process, .gil = GS_NO_GIL, .next_of_process = s->first_thread[process]};
    s->thread_stats[id] =
        (struct gs_thread_stats){.first_ns = INT64_MAX, .last_ns = INT64_MIN, .gil = GS_NO_GIL};
    s->first_thread[process] = id;
    s->n_threads++;
    return true;
}

/* The GILs of a process stand in its list in the order of their ids. */
static bool add_gil(struct gs_story *s, uint32_t process) {
    uint32_t id = s->n_gils;
    if (process >= s->n_processes)
        return false;
    s->gils[id] = (struct gil){.process = process,
                               .next = GS_NOBODY,
                               .holder = GS_NOBODY,
                               .last_holder = GS_NOBODY,
                               .first_waiter = GS_NOBODY};
    s->gil_stats[id] = (struct gs_gil_stats){0};
    uint32_t *last = &s->first_gil[process];
    while (*last != GS_NOBODY)
        last = &s->gils[*last].next;
    *last = id;
    s->n_gils++;
    return true;
}

/* Takes in what the tables have got behind what they had: the process of each thread and of each
 * GIL. 0, or -1: out of memory, or a process that is not there. */
GS_EXPORT int gs_story_grow(struct gs_story *s, uint32_t n_processes, uint32_t n_threads,
                            const uint32_t *thread_process, uint32_t n_gils,
                            const uint32_t *gil_process) {
    if (n_gils > GS_NO_GIL || !grow((void **)&s->threads, n_threads, sizeof *s->threads) ||
        !grow((void **)&s->gils, n_gils, sizeof *s->gils) ||
        !grow((void **)&s->first_gil, n_processes, sizeof *s->first_gil) ||
        !grow((void **)&s->first_thread, n_processes, sizeof *s->first_thread) ||
        !grow((void **)&s->thread_stats, n_threads, sizeof *s->thread_stats) ||
        !grow((void **)&s->gil_stats, n_gils, sizeof *s->gil_stats) ||
        !grow((void **)&s->process_stats, n_processes, sizeof *s->process_stats))
        return -1;
    for (; s->n_processes < n_processes; s->n_processes++) {
        s->first_gil[s->n_processes] = s->first_thread[s->n_processes] = GS_NOBODY;
        s->process_stats[s->n_processes] =
            (struct gs_process_stats){.first_ns = INT64_MAX, .last_ns = INT64_MIN};
    }
    while (s->n_threads < n_threads)
        if (!add_thread(s, thread_process[s->n_threads]))
            return -1;
    while (s->n_gils < n_gils)
        if (!add_gil(s, gil_process[s->n_gils]))
            return -1;
    return 0;
}

/* A story of these tables. With `keep` it builds intervals, else it only checks. NULL: out of
 * memory, or a process that is not there. */
GS_EXPORT struct gs_story *gs_story_new(uint32_t n_processes, uint32_t n_threads,
                                        const uint32_t *thread_process, uint32_t n_gils,
                                        const uint32_t *gil_process, int keep) {
    struct gs_story *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->keep = keep;
    if (gs_story_grow(s, n_processes, n_threads, thread_process, n_gils, gil_process)) {
        gs_story_free(s);
        return NULL;
    }
    return s;
}

/* Before the first event: intervals are kept in these files, one each, which the caller closes
 * behind gs_story_free; none is to have a name. Returns how many there have to be. */
GS_EXPORT uint32_t gs_story_spill(struct gs_story *s, const int *files, uint32_t n) {
    struct vector *vectors[VECTORS];
    vectors_of(s, vectors);
    for (uint32_t i = 0; i < VECTORS && i < n; i++)
        vectors[i]->file = files[i] + 1;
    return VECTORS;
}

/* Gives the memory of intervals in files back to the kernel, which has them. */
GS_EXPORT void gs_story_settle(struct gs_story *s) {
    struct vector *vectors[VECTORS];
    vectors_of(s, vectors);
    for (size_t i = 0; i < VECTORS; i++)
        if (vectors[i]->file && vectors[i]->data)
            madvise(vectors[i]->data, vectors[i]->bytes, MADV_DONTNEED);
}

/* Takes `n` events; returns how many of them were possible. Fewer than `n`: gs_story_error tells
 * why, and the story takes no more. */
GS_EXPORT uint64_t gs_story_feed(struct gs_story *s, const struct gs_event *events, uint64_t n) {
    for (uint64_t i = 0; i < n; i++)
        if (s->error.rule != GS_POSSIBLE || take(s, &events[i]))
            return i;
    return n;
}

/* To be called behind the last event: 0, or -1 where something was left open. */
GS_EXPORT int gs_story_finish(struct gs_story *s) {
    for (uint32_t i = 0; i < s->n_threads && s->error.rule == GS_POSSIBLE; i++) {
        const struct thread *t = &s->threads[i];
        if (t->state == OUTSIDE && !t->n_sync && !t->sections)
            continue;
        s->error.rule = GS_LEFT_OPEN;
        s->error.thread = s->error.other = i;
        s->error.gil = t->gil;
        s->error.event.kind = t->state == HOLDING   ? GS_GIL_ACQUIRE
                              : t->state == WAITING ? GS_GIL_WAIT
                              : t->n_sync           ? GS_LOCK_WAIT
                                                    : GS_ATOMIC_ENTER;
    }
    for (uint32_t i = 0; i < s->n_gils; i++)
        end_gap(s, &s->gils[i], s->gils[i].time_ns);
    return s->error.rule == GS_POSSIBLE ? 0 : -1;
}

/* What all threads and GILs do now, one row each. */
GS_EXPORT void gs_story_now(const struct gs_story *s, struct gs_thread_now *threads,
                            struct gs_gil_now *gils) {
    for (uint32_t i = 0; i < s->n_threads; i++) {
        const struct thread *t = &s->threads[i];
        threads[i] = (struct gs_thread_now){.n_sync = t->n_sync,
                                            .depth = t->depth,
                                            .sections = t->sections,
                                            .gil = t->gil,
                                            .state = t->state,
                                            .cpu = t->cpu,
                                            .started = t->started,
                                            .ended = t->ended};
        for (uint32_t n = 0; n < t->n_sync; n++)
            threads[i].sync[n] = t->sync[n].object;
    }
    for (uint32_t i = 0; i < s->n_gils; i++)
        gils[i] = (struct gs_gil_now){s->gils[i].seen, s->gils[i].unknown, s->gils[i].lost, 0};
}

GS_EXPORT const struct gs_story_error *gs_story_error(const struct gs_story *s) {
    return &s->error;
}

/* The arrays, by number: holds, waits, requests, gaps, waits for locks and conditions, notifies,
 * atomic sections, stacks; then stats of threads, of GILs, of processes; stacks of locks and
 * conditions; holds that were kept; holds with collections; processors. They stand until
 * gs_story_free. Returns the number of rows; `size` gets theirs in bytes. */
GS_EXPORT uint64_t gs_story_rows(const struct gs_story *s, uint32_t which, const void **data,
                                 uint32_t *size) {
    const struct {
        const void *data;
        uint64_t n;
        uint32_t size;
    } arrays[] = {
        {s->holds.data, s->holds.n, sizeof(struct gs_hold)},
        {s->waits.data, s->waits.n, sizeof(struct gs_wait)},
        {s->requests.data, s->requests.n, sizeof(struct gs_request)},
        {s->gaps.data, s->gaps.n, sizeof(struct gs_gap)},
        {s->sync_waits.data, s->sync_waits.n, sizeof(struct gs_sync_wait)},
        {s->notifies.data, s->notifies.n, sizeof(struct gs_notify)},
        {s->sections.data, s->sections.n, sizeof(struct gs_section)},
        {s->stacks.data, s->stacks.n, sizeof(struct gs_stack_of)},
        {s->thread_stats, s->n_threads, sizeof(struct gs_thread_stats)},
        {s->gil_stats, s->n_gils, sizeof(struct gs_gil_stats)},
        {s->process_stats, s->n_processes, sizeof(struct gs_process_stats)},
        {s->sync_stacks.data, s->sync_stacks.n, sizeof(struct gs_stack_of)},
        {s->kept.data, s->kept.n, sizeof(struct gs_kept)},
        {s->collected.data, s->collected.n, sizeof(struct gs_collected)},
        {s->processors.data, s->processors.n, sizeof(struct gs_processor_row)},
    };
    if (which >= sizeof arrays / sizeof *arrays) {
        *size = 0;
        *data = NULL;
        return 0;
    }
    *data = arrays[which].data;
    *size = arrays[which].size;
    return arrays[which].n;
}

/* Waits for locks and conditions, and atomic sections: what is possible, and what opens and closes
 * their intervals. Part of intervals.h, and so of story.c.
 *
 * What is not known: a thread that is seen for the first time, or that lost records, may be in the
 * midst of such waits and sections. So an end without its begin is possible until the thread begins
 * one, or uses a GIL, which it cannot do inside of such a wait. */
#ifndef GILSCOPE_TRACE_SYNC_INTERVALS_H
#define GILSCOPE_TRACE_SYNC_INTERVALS_H

static bool begin_sync(struct gs_story *s, const struct gs_event *e) {
    struct thread *t = &s->threads[e->thread];
    t->sync_known = true;
    t->resumed = 0;
    t->sync[t->n_sync++] = (struct open_sync){gs_sync_object(e), e->time_ns, s->sync_waits.n};
    if (!s->keep)
        return true;
    struct gs_sync_wait *wait = vector_add(&s->sync_waits, sizeof *wait);
    if (!wait)
        return false;
    *wait = (struct gs_sync_wait){.start_ns = e->time_ns,
                                  .end_ns = e->time_ns,
                                  .woken_ns = GS_NEVER,
                                  .running_ns = GS_NEVER,
                                  .object = gs_sync_object(e),
                                  .thread = e->thread,
                                  .waker = GS_NOBODY,
                                  .notify = GS_NOBODY};
    return true;
}

/* Of a wait, or of a release or notify. */
static bool add_sync_stack(struct gs_story *s, uint64_t interval, uint32_t leaf, bool of_wait) {
    if (!s->keep)
        return true;
    struct gs_stack_of *stack = vector_add(&s->sync_stacks, sizeof *stack);
    if (!stack)
        return false;
    *stack = (struct gs_stack_of){
        .interval = (uint32_t)interval, .leaf = leaf, .of_wait = of_wait, .seen = 1};
    return true;
}

/* Ends the innermost one. */
static void end_sync(struct gs_story *s, uint32_t thread, int64_t time_ns, enum gs_ending how) {
    struct thread *t = &s->threads[thread];
    const struct open_sync open = t->sync[--t->n_sync];
    struct gs_waker waker;
    bool woken = how == GS_ACQUIRED &&
                 gs_wakers_take(&s->wakers, t->process, open.object, open.start_ns, &waker);
    t->slept = how == GS_ACQUIRED || how == GS_TIMED_OUT ? open.interval + 1 : 0;
    if (!s->keep)
        return;
    struct gs_sync_wait *wait = (struct gs_sync_wait *)s->sync_waits.data + open.interval;
    wait->end_ns = time_ns > wait->start_ns ? time_ns : wait->start_ns;
    wait->ending = how;
    if (woken) {
        wait->woken_ns = waker.time_ns;
        wait->notify = (uint32_t)waker.value;
        wait->waker = ((struct gs_notify *)s->notifies.data)[waker.value].thread;
    }
    t->resumed = how == GS_ACQUIRED ? open.interval + 1 : 0;
}

static void close_sync(struct gs_story *s, uint32_t thread, int64_t time_ns, enum gs_ending how) {
    struct thread *t = &s->threads[thread];
    while (t->n_sync) {
        end_sync(s, thread, time_ns, how);
        t->sync_known = false;
    }
}

static bool notify(struct gs_story *s, const struct gs_event *e) {
    uint32_t woken = e->kind == GS_LOCK_RELEASE ? 1 : (uint32_t)(e->arg >> GS_SYNC_DETAIL_SHIFT);
    gs_wakers_put(&s->wakers, (struct gs_waker){.object = gs_sync_object(e),
                                                .time_ns = e->time_ns,
                                                .value = s->notifies.n,
                                                .process = s->threads[e->thread].process,
                                                .left = woken});
    if (!s->keep)
        return true;
    struct gs_notify *notify = vector_add(&s->notifies, sizeof *notify);
    if (!notify)
        return false;
    *notify = (struct gs_notify){e->time_ns, gs_sync_object(e), e->thread, woken};
    struct thread *t = &s->threads[e->thread];
    bool has_leaf = t->has_waker_leaf;
    t->has_waker_leaf = false;
    return !has_leaf || add_sync_stack(s, s->notifies.n - 1, t->waker_leaf, false);
}

/* What a thread has held of its GILs up to a moment. */
static int64_t held_until(const struct gs_story *s, uint32_t thread, int64_t time_ns) {
    const struct thread *t = &s->threads[thread];
    int64_t held_ns = s->thread_stats[thread].held_ns;
    return t->state == HOLDING && time_ns > t->since_ns ? held_ns + time_ns - t->since_ns : held_ns;
}

static bool begin_section(struct gs_story *s, const struct gs_event *e) {
    struct thread *t = &s->threads[e->thread];
    t->depth_known = true;
    t->depth = (uint32_t)e->arg;
    if (t->sections++ || !s->keep)
        return true;
    t->section = s->sections.n;
    t->section_held_ns = held_until(s, e->thread, e->time_ns);
    struct gs_section *section = vector_add(&s->sections, sizeof *section);
    if (!section)
        return false;
    *section =
        (struct gs_section){.start_ns = e->time_ns, .end_ns = e->time_ns, .thread = e->thread};
    return true;
}

static void end_section(struct gs_story *s, uint32_t thread, int64_t time_ns, enum gs_ending how) {
    struct thread *t = &s->threads[thread];
    if (!t->sections || --t->sections || !s->keep)
        return;
    struct gs_section *section = (struct gs_section *)s->sections.data + t->section;
    section->end_ns = time_ns;
    int64_t held_ns = held_until(s, thread, time_ns) - t->section_held_ns;
    section->held_ns =
        held_ns > 0 ? held_ns : 0; /* a gap may cut off what was counted at its begin */
    section->ending = how;
}

/* Ends all that a thread has open besides its GILs. Before its GIL's slice is closed. */
static void close_own(struct gs_story *s, uint32_t thread, int64_t time_ns, enum gs_ending how) {
    struct thread *t = &s->threads[thread];
    close_sync(s, thread, time_ns, how);
    if (t->sections > 1)
        t->sections = 1;
    end_section(s, thread, time_ns, how);
    t->sync_known = t->depth_known = false;
}

#endif

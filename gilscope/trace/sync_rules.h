/* The rules of wakeups, of waits for locks and conditions, and of atomic sections. Part of story.c,
 * which alone includes it. */
#ifndef GILSCOPE_TRACE_SYNC_RULES_H
#define GILSCOPE_TRACE_SYNC_RULES_H

/* A wakeup is in the name of its waker and tells nothing about that one. */
static int take_wakeup(struct gs_story *s, const struct gs_event *e) {
    if (e->arg == 0)
        return 0;
    if (e->arg > s->n_threads)
        REFUSE(GS_NO_SUCH_ARGUMENT, GS_NOBODY, e->gil);
    const uint32_t woken = (uint32_t)(e->arg - 1);
    const struct thread *w = &s->threads[woken];
    if (w->process != s->threads[e->thread].process)
        REFUSE(GS_NO_SUCH_ARGUMENT, GS_NOBODY, e->gil);
    const struct gil *g = &s->gils[e->gil];
    bool waits = w->state == WAITING && w->gil == e->gil;
    if (!waits && !w->ended && w->gil == e->gil && w->epoch == g->epoch)
        REFUSE(GS_WAKES_NO_WAITER, woken, e->gil);
    if (waits && s->keep)
        ((struct gs_wait *)s->waits.data)[w->interval].woken_ns = e->time_ns;
    return 0;
}

static int take_sync_event(struct gs_story *s, const struct gs_event *e) {
    struct thread *t = &s->threads[e->thread];
    uint64_t detail = e->arg >> GS_SYNC_DETAIL_SHIFT;
    bool ends = e->kind == GS_LOCK_ACQUIRE || e->kind == GS_COND_WAKE;
    if ((e->arg & GS_SYNC_KIND_MASK) >= GS_SYNC_KINDS ||
        (e->kind != GS_COND_NOTIFY && detail > ends))
        REFUSE(GS_NO_SUCH_ARGUMENT, GS_NOBODY, GS_NO_GIL);
    switch (e->kind) {
    case GS_LOCK_WAIT:
    case GS_COND_WAIT:
        if (t->state == HOLDING)
            REFUSE(GS_HOLDS_ALREADY, GS_NOBODY, t->gil);
        if (t->n_sync == NESTING_MAX)
            REFUSE(GS_TOO_DEEP, GS_NOBODY, GS_NO_GIL);
        if (!begin_sync(s, e))
            REFUSE(GS_OUT_OF_MEMORY, GS_NOBODY, GS_NO_GIL);
        break;
    case GS_LOCK_ACQUIRE:
    case GS_COND_WAKE:
        if (t->n_sync == 0 && t->sync_known)
            REFUSE(GS_NO_SYNC, GS_NOBODY, GS_NO_GIL);
        if (t->n_sync && t->sync[t->n_sync - 1].object != gs_sync_object(e))
            REFUSE(GS_OTHER_SYNC, GS_NOBODY, GS_NO_GIL);
        if (t->n_sync)
            end_sync(s, e->thread, e->time_ns, detail ? GS_TIMED_OUT : GS_ACQUIRED);
        break;
    default:
        if (!notify(s, e))
            REFUSE(GS_OUT_OF_MEMORY, GS_NOBODY, GS_NO_GIL);
    }
    return 0;
}

static int take_atomic_event(struct gs_story *s, const struct gs_event *e) {
    struct thread *t = &s->threads[e->thread];
    bool enters = e->kind == GS_ATOMIC_ENTER;
    if (e->arg < 1 || e->arg > GS_DEPTH_MAX)
        REFUSE(GS_NO_SUCH_ARGUMENT, GS_NOBODY, GS_NO_GIL);
    if (t->depth_known && e->arg != t->depth + enters)
        return refuse(s, GS_OTHER_DEPTH, e, GS_NOBODY, GS_NO_GIL, t->depth);
    if (enters) {
        if (!begin_section(s, e))
            REFUSE(GS_OUT_OF_MEMORY, GS_NOBODY, GS_NO_GIL);
    } else if (e->kind == GS_ATOMIC_EXIT) {
        end_section(s, e->thread, e->time_ns, GS_EXITED);
        t->depth_known = true;
        t->depth = (uint32_t)e->arg - 1;
    } else if (t->sections && s->keep) {
        ((struct gs_section *)s->sections.data)[t->section].deferred++;
    }
    return 0;
}

#endif

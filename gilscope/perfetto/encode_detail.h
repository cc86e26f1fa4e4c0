/* What is told of a long hold or wait besides its own packets. Part of encode.c, which alone
 * includes it. Of a wait it tells the hold that kept it longest; holds shorter than WORTH_NS are
 * not looked at, so that a crowd of waiters costs nothing. */
#ifndef GILSCOPE_PERFETTO_ENCODE_DETAIL_H
#define GILSCOPE_PERFETTO_ENCODE_DETAIL_H

#define WORTH_NS INT64_C(100000)

/* Brings the time that threads have waited for this GIL up to date. */
static void count_waiting(struct gs_gil_state *gil, int64_t now) {
    if (now > gil->counted_ns) {
        gil->waited_ns += gil->n_waiting * (now - gil->counted_ns);
        gil->counted_ns = now;
    }
}

static void end_waiting(struct gs_gil_state *gil, struct gs_sequence *pair, int64_t now) {
    count_waiting(gil, now);
    gil->n_waiting--;
    pair->waiting = false;
}

#define GC_WORTH_NS 2500000 /* half of what a waiter waits before it asks */

/* Whether the time of a hold that ends now went to collections: at least half of what came after
 * the first request, or of all where nobody asked. gilscope.analysis.collections has the same. */
static bool was_collection(const struct gs_sequences *all, const struct gs_sequence *hold,
                           int64_t now) {
    const struct gs_gil_state *gil = &all->gils[hold->gil];
    const int64_t from = gil->asked_ns ? gil->asked_ns : hold->since_ns;
    const int64_t gc_ns = all->threads[hold->thread].gc_ns;
    return gc_ns >= GC_WORTH_NS && gc_ns >= (now - from + 1) / 2;
}

/* A hold ends: the waits that it kept longer than any before remember it. */
static void remember(struct gs_sequences *all, const struct gs_sequence *hold, int64_t now) {
    const struct gs_thread_state *thread = &all->threads[hold->thread];
    for (uint32_t i = all->gils[hold->gil].pairs; i != GS_NONE; i = all->sequences[i].next_of_gil) {
        struct gs_sequence *wait = &all->sequences[i];
        if (!wait->waiting)
            continue;
        int64_t from = wait->since_ns > hold->since_ns ? wait->since_ns : hold->since_ns;
        if (now - from <= wait->worst_ns)
            continue;
        wait->worst_ns = now - from;
        wait->worst = hold->thread;
        wait->worst_leaf = thread->has_leaf ? thread->leaf : GS_NONE;
        wait->worst_seen = thread->leaf_flags & GS_FLAG_SEEN;
        wait->worst_gc = was_collection(all, hold, now);
    }
}

/* 2, 5, 10, 20, 50 …, so that few names tell of any number of holds. */
static uint16_t about(uint32_t number) {
    uint32_t unit = 1;
    while (number / unit >= 10 && unit < 1000)
        unit *= 10;
    return (uint16_t)(unit * (number / unit >= 5 ? 5 : number / unit >= 2 ? 2 : 1));
}

/* Before the packets of an event: whether it ends a slice that is worth a detail. */
static bool detail_of(const struct gs_encoder *encoder, const struct gs_event *event,
                      const struct gs_sequence *pair, struct gs_detail *out) {
    bool release = event->kind == GS_GIL_RELEASE || event->kind == GS_GIL_YIELD;
    bool wait = event->kind == GS_GIL_ACQUIRE && pair->slice == GS_SLICE_WAIT;
    if (!(wait || (release && pair->slice == GS_SLICE_HOLD)) ||
        event->time_ns - pair->since_ns < GS_DETAIL_NS)
        return false;
    const struct gs_thread_state *thread = &encoder->all.threads[event->thread];
    const struct gs_gil_state *gil = &encoder->all.gils[event->gil];
    *out = (struct gs_detail){
        .start_ns = pair->since_ns,
        .end_ns = event->time_ns,
        .thread = event->thread,
        .leaf = thread->has_leaf ? thread->leaf : GS_NONE,
        .seen = (thread->leaf_flags & GS_FLAG_SEEN) != 0,
        .gil = event->gil,
        .of_wait = wait,
        .yielded = event->kind == GS_GIL_YIELD,
        .holder = GS_NONE,
        .other_leaf = GS_NONE,
    };
    if (wait) {
        out->others = gil->n_holds - pair->holds_before;
        if (out->others > 1 && 2 * pair->worst_ns < event->time_ns - pair->since_ns)
            out->some = about(out->others);
        out->other_ns = pair->worst_ns;
        out->holder = pair->worst_ns ? pair->worst : GS_NONE;
        out->other_leaf = pair->worst_ns ? pair->worst_leaf : GS_NONE;
        out->other_seen = pair->worst_seen;
        out->other_gc = pair->worst_ns && pair->worst_gc;
    } else {
        int64_t since = event->time_ns > gil->counted_ns ? event->time_ns - gil->counted_ns : 0;
        out->other_ns = gil->waited_ns + gil->n_waiting * since - gil->held_waited_ns;
        out->others = gil->n_begun - gil->held_begun;
        out->gc = was_collection(&encoder->all, pair, event->time_ns);
    }
    return true;
}

/* Keeps count, at each event of a GIL that can be encoded. */
static void account(struct gs_encoder *encoder, const struct gs_event *event,
                    struct gs_sequence *pair) {
    struct gs_gil_state *gil = &encoder->all.gils[event->gil];
    const int64_t now = event->time_ns;
    switch (event->kind) {
    case GS_GIL_WAIT:
        count_waiting(gil, now);
        gil->n_waiting++;
        gil->n_begun++;
        pair->since_ns = now;
        pair->worst_ns = 0;
        pair->holds_before = gil->n_holds - (gil->holder != GS_NONE);
        pair->waiting = true;
        break;
    case GS_GIL_ACQUIRE:
        if (pair->waiting)
            end_waiting(gil, pair, now);
        count_waiting(gil, now);
        pair->since_ns = now;
        gil->held_waited_ns = gil->waited_ns;
        gil->held_begun = gil->n_begun - gil->n_waiting;
        gil->n_holds++;
        gil->asked_ns = 0;
        encoder->all.threads[event->thread].has_leaf = false;
        encoder->all.threads[event->thread].gc_ns = 0;
        break;
    case GS_GIL_REQUEST:
        if (!gil->asked_ns)
            gil->asked_ns = now;
        break;
    case GS_GIL_RELEASE:
    case GS_GIL_YIELD:
        if (pair->slice == GS_SLICE_HOLD && gil->n_waiting && now - pair->since_ns >= WORTH_NS)
            remember(&encoder->all, pair, now);
        encoder->all.threads[event->thread].has_leaf = false;
        break;
    default:
        break;
    }
}

#endif

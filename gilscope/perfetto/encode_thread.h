/* The events without GIL: lives, waits for locks and conditions, atomic sections. Part of encode.c,
 * which alone includes it and has what it calls. NULL with `status` means: not encoded. */
#ifndef GILSCOPE_PERFETTO_ENCODE_THREAD_H
#define GILSCOPE_PERFETTO_ENCODE_THREAD_H

/* By its flags; 0: they make no sense. */
static enum gs_name name_of_stack(uint8_t flags) {
    static const uint8_t names[] = {
        [0] = GS_NAME_STACK_HOLD,
        [GS_FLAG_SEEN] = GS_NAME_STACK_SEEN,
        [GS_FLAG_OF_WAIT] = GS_NAME_STACK_WAIT,
        [GS_FLAG_OF_SYNC] = GS_NAME_STACK_WAKER,
        [GS_FLAG_OF_SYNC | GS_FLAG_OF_WAIT] = GS_NAME_STACK_SYNC_WAIT,
    };
    return flags < sizeof names ? (enum gs_name)names[flags] : 0;
}

static const char *check_thread_event(const struct gs_encoder *encoder,
                                      const struct gs_event *event) {
    const struct gs_thread_state *thread = &encoder->all.threads[event->thread];
    const uint64_t detail = event->arg >> GS_SYNC_DETAIL_SHIFT;
    const bool stack = event->kind == GS_STACK;
    if (event->gil != GS_NO_GIL || (stack ? !name_of_stack(event->flags) : event->flags))
        return "an event without GIL has a flag or a GIL";
    switch (event->kind) {
    case GS_THREAD_START:
    case GS_THREAD_END:
    case GS_PROCESS_START:
    case GS_PROCESS_END:
        return event->arg > (event->kind == GS_PROCESS_END) ? "a life with an argument" : NULL;
    case GS_STACK:
        return event->arg < encoder->all.n_stacks ? NULL : "a stack that is not in the table";
    case GS_THREAD_LOST:
    case GS_HOLD_CPU:
    case GS_HOLD_GC:
    case GS_HOLD_GC_LEAST:
    case GS_HOLD_GC_MOST:
        return NULL;
    case GS_HOLD_ASLEEP:
        return event->arg > 100 ? "more than a hundred percent" : NULL;
    case GS_ATOMIC_ENTER:
    case GS_ATOMIC_EXIT:
    case GS_ATOMIC_DEFERRED:
        if (event->arg < 1 || event->arg > GS_DEPTH_MAX)
            return "an atomic section of an impossible depth";
        return event->kind == GS_ATOMIC_EXIT && thread->n_sections && event->arg != thread->depth
                   ? "the end of an atomic section that is not the innermost"
                   : NULL;
    }
    if (event->kind < GS_LOCK_WAIT || event->kind > GS_COND_NOTIFY)
        return "an event of a kind that is not known";
    if ((event->arg & GS_SYNC_KIND_MASK) >= GS_SYNC_KINDS)
        return "a lock or a condition of a kind that is not known";
    switch (event->kind) {
    case GS_LOCK_WAIT:
    case GS_COND_WAIT:
        if (thread->n_holds)
            return "a wait for a lock or a condition by a thread that holds the GIL";
        if (thread->n_waits == GS_NESTING_MAX)
            return "too many waits for locks and conditions in one another";
        return detail ? "a wait with a detail" : NULL;
    case GS_LOCK_ACQUIRE:
    case GS_COND_WAKE:
        if (thread->n_waits && thread->waits[thread->n_waits - 1].object != gs_sync_object(event))
            return "the end of a wait for another lock or condition";
        return detail > 1 ? "the end of a wait with a detail that is not known" : NULL;
    case GS_LOCK_RELEASE:
        return detail ? "a release with a detail" : NULL;
    default:
        return NULL;
    }
}

/* An instant or the begin of a slice about a lock or a condition. */
static uint8_t *put_sync(uint8_t *p, struct gs_sequence *own, const struct gs_event *event,
                         enum gs_type type, enum gs_name name, enum gs_annotation annotation,
                         uint64_t flow, uint32_t n_flows) {
    return put_packet(
        p, own, event->time_ns,
        (struct packet){.type = type,
                        .category = GS_CATEGORY_OF_SORT(event->arg & GS_SYNC_KIND_MASK),
                        .of_object = true,
                        .object = event->arg & GS_SYNC_OBJECT_MASK,
                        .annotation = (uint8_t)annotation,
                        .value = event->arg >> GS_SYNC_DETAIL_SHIFT,
                        .name = name,
                        .waiters = -1,
                        .flow = flow,
                        .n_flows = n_flows});
}

static uint8_t *put_wait_end(struct gs_encoder *encoder, uint8_t *p, struct gs_sequence *own,
                             const struct gs_event *event, uint64_t *packets) {
    struct gs_thread_state *thread = &encoder->all.threads[event->thread];
    const bool timed_out = event->arg >> GS_SYNC_DETAIL_SHIFT;
    const enum gs_annotation annotation = timed_out ? GS_ANNOTATION_TIMED_OUT : GS_ANNOTATION_NONE;
    ++*packets;
    if (!thread->n_waits)
        return put_sync(p, own, event, GS_INSTANT,
                        event->kind == GS_COND_WAKE ? GS_NAME_COND_WAKE : GS_NAME_LOCK_ACQUIRE,
                        annotation, 0, 0);
    const struct gs_open_wait wait = thread->waits[--thread->n_waits];
    p = put_packet(
        p, own, event->time_ns,
        (struct packet){
            .type = GS_END, .annotation = (uint8_t)annotation, .value = timed_out, .waiters = -1});
    struct gs_waker waker;
    if (timed_out ||
        !gs_wakers_take(&encoder->all.wakers, thread->process, wait.object, wait.since_ns, &waker))
        return p;
    ++*packets;
    return put_packet(p, own, event->time_ns,
                      (struct packet){.type = GS_INSTANT,
                                      .name = GS_NAME_WOKEN,
                                      .waiters = -1,
                                      .terminating = {waker.value - waker.left}});
}

static uint8_t *put_sync_event(struct gs_encoder *encoder, uint8_t *p, struct gs_sequence *own,
                               const struct gs_event *event, uint64_t *packets) {
    struct gs_thread_state *thread = &encoder->all.threads[event->thread];
    bool notify = event->kind == GS_COND_NOTIFY;
    switch (event->kind) {
    case GS_LOCK_WAIT:
    case GS_COND_WAIT:
        thread->waits[thread->n_waits++] =
            (struct gs_open_wait){gs_sync_object(event), event->time_ns};
        ++*packets;
        return put_sync(p, own, event, GS_BEGIN,
                        event->kind == GS_COND_WAIT ? GS_NAME_COND_WAITS : GS_NAME_LOCK_WAITS,
                        GS_ANNOTATION_NONE, 0, 0);
    case GS_LOCK_ACQUIRE:
    case GS_COND_WAKE:
        return put_wait_end(encoder, p, own, event, packets);
    default: { /* GS_LOCK_RELEASE, GS_COND_NOTIFY */
        uint32_t n_flows = gs_flows_of(event);
        p = put_sync(p, own, event, GS_INSTANT, notify ? GS_NAME_COND_NOTIFY : GS_NAME_LOCK_RELEASE,
                     notify ? GS_ANNOTATION_WOKEN : GS_ANNOTATION_NONE, encoder->flows + 1,
                     n_flows);
        encoder->flows += n_flows;
        gs_wakers_put(&encoder->all.wakers, (struct gs_waker){.object = gs_sync_object(event),
                                                              .time_ns = event->time_ns,
                                                              .value = encoder->flows,
                                                              .process = thread->process,
                                                              .left = n_flows});
        ++*packets;
        return p;
    }
    }
}

static uint8_t *put_atomic_event(struct gs_encoder *encoder, uint8_t *p,
                                 struct gs_sequence *sequence, const struct gs_event *event) {
    struct gs_thread_state *thread = &encoder->all.threads[event->thread];
    struct packet packet = {.type = GS_INSTANT,
                            .name = GS_NAME_DEFERRED,
                            .annotation = GS_ANNOTATION_DEPTH,
                            .value = event->arg,
                            .waiters = -1};
    if (event->kind == GS_ATOMIC_ENTER) {
        packet.type = GS_BEGIN;
        packet.name = GS_NAME_ATOMIC;
        thread->n_sections++;
        thread->depth = (uint32_t)event->arg;
    } else if (event->kind == GS_ATOMIC_EXIT && thread->n_sections) {
        packet = (struct packet){.type = GS_END, .waiters = -1};
        thread->n_sections--;
        thread->depth--;
    } else if (event->kind == GS_ATOMIC_EXIT) {
        packet.name = GS_NAME_ATOMIC_EXIT;
    }
    return put_packet(p, sequence, event->time_ns, packet);
}

static uint8_t *put_life_event(uint8_t *p, struct gs_sequence *own, const struct gs_event *event) {
    static const uint8_t names[] = {
        [GS_THREAD_START] = GS_NAME_THREAD_START,
        [GS_THREAD_END] = GS_NAME_THREAD_END,
        [GS_PROCESS_START] = GS_NAME_PROCESS_START,
        [GS_PROCESS_END] = GS_NAME_PROCESS_END,
        [GS_THREAD_LOST] = GS_NAME_THREAD_LOST,
        [GS_STACK] = GS_NAME_STACK_HOLD,
        [GS_HOLD_CPU] = GS_NAME_HOLD_CPU,
        [GS_HOLD_ASLEEP] = GS_NAME_HOLD_ASLEEP,
        [GS_HOLD_GC] = GS_NAME_HOLD_GC,
        [GS_HOLD_GC_LEAST] = GS_NAME_HOLD_GC_LEAST,
        [GS_HOLD_GC_MOST] = GS_NAME_HOLD_GC_MOST,
    };
    bool killed = event->kind == GS_PROCESS_END && event->arg;
    bool stack = event->kind == GS_STACK;
    uint32_t name = killed ? GS_NAME_PROCESS_KILLED : names[event->kind];
    if (stack)
        name = name_of_stack(event->flags);
    return put_packet(p, own, event->time_ns,
                      (struct packet){.type = GS_INSTANT,
                                      .name = name,
                                      .annotation = gs_annotation_of(event->kind, event->arg),
                                      .value = event->arg,
                                      .waiters = -1});
}

static uint8_t *put_thread_event(struct gs_encoder *encoder, uint8_t *p,
                                 const struct gs_event *event, enum gs_encode_status *status,
                                 struct gs_encode_result *result) {
    struct gs_sequences *all = &encoder->all;
    *status = GS_ENCODE_IMPOSSIBLE;
    result->message = check_thread_event(encoder, event);
    if (result->message)
        return NULL;
    bool atomic = event->kind >= GS_ATOMIC_ENTER && event->kind <= GS_ATOMIC_DEFERRED;
    uint32_t index = atomic ? all->threads[event->thread].atomic : all->threads[event->thread].own;
    if (index == GS_NONE) {
        *status = introduce(encoder, atomic ? GS_ROLE_ATOMIC : GS_ROLE_THREAD, event->thread,
                            GS_NO_GIL, result);
        return NULL;
    }
    struct gs_sequence *sequence = &all->sequences[index];
    if (event->time_ns < sequence->time_ns) {
        result->message = "time runs backwards";
        return NULL;
    }
    if (event->kind <= GS_COND_NOTIFY)
        return put_sync_event(encoder, p, sequence, event, &result->packets);
    result->packets++;
    if (event->kind == GS_STACK && !(event->flags & GS_FLAG_OF_SYNC)) {
        all->threads[event->thread].leaf = (uint32_t)event->arg;
        all->threads[event->thread].leaf_flags = event->flags;
        all->threads[event->thread].has_leaf = true;
    }
    if (event->kind == GS_HOLD_GC_LEAST)
        all->threads[event->thread].gc_ns = (int64_t)event->arg;
    if (atomic)
        return put_atomic_event(encoder, p, sequence, event);
    p = put_life_event(p, sequence, event);
    if (event->kind == GS_THREAD_END || event->kind == GS_PROCESS_END ||
        event->kind == GS_THREAD_LOST) {
        encoder->closing_ns = event->time_ns;
        gs_sequences_close(all, event, close_slices, encoder);
    }
    return p;
}

#endif

/* The packets of events without GIL: lives, waits for locks and conditions, atomic sections. Part
 * of decode.c, which alone includes it and has what it calls. */
#ifndef GILSCOPE_PERFETTO_DECODE_THREAD_H
#define GILSCOPE_PERFETTO_DECODE_THREAD_H

static const char foreign_field[] = "a packet on a thread's track with a field that is not its own";

/* What must and what may stand in a packet. */
static bool has_only(const struct packet *packet, bool object, enum gs_annotation annotation) {
    return packet->has_object == object && packet->annotation == (uint8_t)annotation &&
           !packet->has_waiters && !packet->terminating[0] && (object || !packet->category);
}

static const char *on_life(struct gs_decoder *decoder, const struct packet *packet,
                           struct gs_event *event) {
    static const uint8_t kinds[] = {
        [GS_NAME_THREAD_START] = GS_THREAD_START,
        [GS_NAME_THREAD_END] = GS_THREAD_END,
        [GS_NAME_PROCESS_START] = GS_PROCESS_START,
        [GS_NAME_PROCESS_END] = GS_PROCESS_END,
        [GS_NAME_PROCESS_KILLED] = GS_PROCESS_END,
        [GS_NAME_THREAD_LOST] = GS_THREAD_LOST,
        [GS_NAME_STACK_HOLD] = GS_STACK,
        [GS_NAME_STACK_SEEN] = GS_STACK,
        [GS_NAME_STACK_WAIT] = GS_STACK,
        [GS_NAME_STACK_SYNC_WAIT] = GS_STACK,
        [GS_NAME_STACK_WAKER] = GS_STACK,
        [GS_NAME_HOLD_CPU] = GS_HOLD_CPU,
        [GS_NAME_HOLD_ASLEEP] = GS_HOLD_ASLEEP,
        [GS_NAME_HOLD_GC] = GS_HOLD_GC,
        [GS_NAME_HOLD_GC_LEAST] = GS_HOLD_GC_LEAST,
        [GS_NAME_HOLD_GC_MOST] = GS_HOLD_GC_MOST,
    };
    if (packet->type != GS_INSTANT || packet->name >= sizeof kinds || !kinds[packet->name])
        return "an unknown packet on a thread's track";
    const enum gs_event_kind kind = kinds[packet->name];
    bool lost = kind == GS_THREAD_LOST, stack = kind == GS_STACK;
    enum gs_annotation annotation = gs_annotation_of(kind, packet->value);
    if (!has_only(packet, false, annotation) || packet->n_flows ||
        (kind == GS_HOLD_ASLEEP && packet->value > 100))
        return foreign_field;
    if (stack && packet->value >= decoder->all.n_stacks)
        return "a stack that is not in the table";
    event->kind = (uint8_t)kind;
    event->arg = annotation ? packet->value : packet->name == GS_NAME_PROCESS_KILLED;
    event->flags = packet->name == GS_NAME_STACK_SEEN        ? GS_FLAG_SEEN
                   : packet->name == GS_NAME_STACK_WAIT      ? GS_FLAG_OF_WAIT
                   : packet->name == GS_NAME_STACK_WAKER     ? GS_FLAG_OF_SYNC
                   : packet->name == GS_NAME_STACK_SYNC_WAIT ? GS_FLAG_OF_SYNC | GS_FLAG_OF_WAIT
                                                             : 0;
    if (event->kind == GS_THREAD_END || event->kind == GS_PROCESS_END || lost)
        gs_sequences_close(&decoder->all, event, close_slices, decoder);
    return NULL;
}

/* An instant or the begin of a slice about a lock or a condition: its argument but for the detail.
 * False: there is no such. */
static bool get_sync(const struct packet *packet, uint64_t *arg) {
    uint64_t sort =
        packet->category ? packet->category - GS_CATEGORY_PYTHON + UINT64_C(1) : GS_SYNC_UNKNOWN;
    *arg = packet->object | sort;
    return sort < GS_SYNC_KINDS && !(packet->object & ~GS_SYNC_OBJECT_MASK);
}

static const char *on_wait_begin(struct gs_decoder *decoder, const struct packet *packet,
                                 struct gs_event *event) {
    struct gs_thread_state *thread = &decoder->all.threads[event->thread];
    bool of_condition = packet->name == GS_NAME_COND_WAITS;
    if (packet->name != GS_NAME_LOCK_WAITS && !of_condition)
        return "an unknown slice on a thread's track";
    if (!has_only(packet, true, GS_ANNOTATION_NONE) || packet->n_flows ||
        !get_sync(packet, &event->arg))
        return foreign_field;
    if (thread->n_waits == GS_NESTING_MAX || thread->n_holds)
        return "a wait for a lock or a condition that cannot begin here";
    event->kind = of_condition ? GS_COND_WAIT : GS_LOCK_WAIT;
    thread->waits[thread->n_waits++] = (struct gs_open_wait){gs_sync_object(event), event->time_ns};
    return NULL;
}

/* An end that no gap implied; "woken" follows where the waker is known. */
static const char *on_wait_end(struct gs_decoder *decoder, uint32_t index,
                               const struct packet *packet, struct gs_event *event) {
    struct gs_thread_state *thread = &decoder->all.threads[event->thread];
    bool timed_out = packet->annotation == GS_ANNOTATION_TIMED_OUT;
    if (!has_only(packet, false, timed_out ? GS_ANNOTATION_TIMED_OUT : GS_ANNOTATION_NONE) ||
        packet->name || packet->n_flows || packet->value != timed_out)
        return foreign_field;
    if (!thread->n_waits)
        return "an end of a slice that did not begin";
    const struct gs_open_wait wait = thread->waits[--thread->n_waits];
    bool of_condition = wait.object >> 63;
    event->kind = of_condition ? GS_COND_WAKE : GS_LOCK_ACQUIRE;
    event->arg = (wait.object & (GS_SYNC_OBJECT_MASK | GS_SYNC_KIND_MASK)) |
                 (uint64_t)timed_out << GS_SYNC_DETAIL_SHIFT;
    struct gs_waker waker;
    if (!timed_out &&
        gs_wakers_take(&decoder->all.wakers, thread->process, wait.object, wait.since_ns, &waker)) {
        decoder->woken = waker.value - waker.left;
        decoder->next = index;
    }
    return NULL;
}

static const char *on_woken(struct gs_decoder *decoder, const struct packet *packet) {
    if (packet->type != GS_INSTANT || packet->name != GS_NAME_WOKEN || packet->delta ||
        packet->category || packet->has_object || packet->annotation || packet->has_waiters ||
        packet->n_flows || packet->terminating[0] != decoder->woken || packet->terminating[1])
        return "a packet that does not tell who woke the wait before";
    decoder->woken = 0;
    return NULL;
}

/* A notify, a release, or the end of a wait whose beginning is not known. */
static const char *on_sync_instant(struct gs_decoder *decoder, const struct packet *packet,
                                   struct gs_event *event) {
    static const uint8_t kinds[] = {
        [GS_NAME_LOCK_ACQUIRE] = GS_LOCK_ACQUIRE,
        [GS_NAME_COND_WAKE] = GS_COND_WAKE,
        [GS_NAME_LOCK_RELEASE] = GS_LOCK_RELEASE,
        [GS_NAME_COND_NOTIFY] = GS_COND_NOTIFY,
    };
    struct gs_thread_state *thread = &decoder->all.threads[event->thread];
    bool ends = packet->name <= GS_NAME_COND_WAKE;
    enum gs_annotation annotation = GS_ANNOTATION_NONE;
    if (packet->name == GS_NAME_COND_NOTIFY)
        annotation = GS_ANNOTATION_WOKEN;
    else if (ends && packet->annotation == GS_ANNOTATION_TIMED_OUT && packet->value == 1)
        annotation = GS_ANNOTATION_TIMED_OUT;
    if (!has_only(packet, true, annotation) || !get_sync(packet, &event->arg) ||
        packet->value > GS_SYNC_DETAIL_MAX)
        return foreign_field;
    event->kind = kinds[packet->name];
    event->arg |= packet->value << GS_SYNC_DETAIL_SHIFT;
    if (ends)
        return thread->n_waits || packet->n_flows ? "the end of a wait that cannot be here" : NULL;
    uint32_t n_flows = gs_flows_of(event);
    if (packet->n_flows != n_flows || (n_flows && packet->flow != decoder->flows + 1))
        return "a flow out of turn";
    decoder->flows += n_flows;
    gs_wakers_put(&decoder->all.wakers, (struct gs_waker){.object = gs_sync_object(event),
                                                          .time_ns = event->time_ns,
                                                          .value = decoder->flows,
                                                          .process = thread->process,
                                                          .left = n_flows});
    return NULL;
}

static const char *on_thread(struct gs_decoder *decoder, uint32_t index,
                             const struct packet *packet, struct gs_event *event) {
    event->arg = 0;
    if (decoder->woken)
        return on_woken(decoder, packet);
    if (packet->type == GS_BEGIN)
        return on_wait_begin(decoder, packet, event);
    if (packet->type == GS_END)
        return on_wait_end(decoder, index, packet, event);
    if (packet->type == GS_INSTANT && packet->name >= GS_NAME_LOCK_ACQUIRE &&
        packet->name <= GS_NAME_COND_NOTIFY)
        return on_sync_instant(decoder, packet, event);
    return on_life(decoder, packet, event);
}

static const char *on_atomic(struct gs_decoder *decoder, const struct packet *packet,
                             struct gs_event *event) {
    struct gs_thread_state *thread = &decoder->all.threads[event->thread];
    bool ends = packet->type == GS_END;
    if (!has_only(packet, false, ends ? GS_ANNOTATION_NONE : GS_ANNOTATION_DEPTH) ||
        packet->n_flows)
        return "a packet of atomic sections with a field that is not its own";
    if (ends) {
        if (packet->name || !thread->n_sections)
            return "an end of an atomic section that did not begin";
        event->kind = GS_ATOMIC_EXIT;
        event->arg = thread->depth--;
        thread->n_sections--;
        return NULL;
    }
    event->arg = packet->value;
    if (packet->value < 1 || packet->value > GS_DEPTH_MAX)
        return "an atomic section of an impossible depth";
    if (packet->type == GS_BEGIN && packet->name == GS_NAME_ATOMIC) {
        event->kind = GS_ATOMIC_ENTER;
        thread->n_sections++;
        thread->depth = (uint32_t)packet->value;
    } else if (packet->type == GS_INSTANT && packet->name == GS_NAME_DEFERRED) {
        event->kind = GS_ATOMIC_DEFERRED;
    } else if (packet->type == GS_INSTANT && packet->name == GS_NAME_ATOMIC_EXIT &&
               !thread->n_sections) {
        event->kind = GS_ATOMIC_EXIT;
    } else {
        return "an unknown packet of atomic sections";
    }
    return NULL;
}

#endif

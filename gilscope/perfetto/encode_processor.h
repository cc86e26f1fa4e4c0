/* The packets of a thread's processors. Part of encode.c, which alone includes it and has what it
 * calls. */
#ifndef GILSCOPE_PERFETTO_ENCODE_PROCESSOR_H
#define GILSCOPE_PERFETTO_ENCODE_PROCESSOR_H

#include "processors.h"

/* What of such a packet follows its sequence. `boottime_ns`: the event's time on that clock. */
static inline uint8_t *gs_put_processor(uint8_t *p, const struct gs_event *event, uint32_t tid,
                                        uint64_t boottime_ns) {
    const bool on = event->kind == GS_PROCESSOR_ON;
    *p++ = GS_TAG_FTRACE;
    uint8_t *bundle = ++p;
    *p++ = GS_TAG_CPU;
    p = gs_put_varint(p, event->arg & GS_PROCESSOR_MASK);
    *p++ = GS_TAG_FTRACE_EVENT;
    uint8_t *inside = ++p;
    *p++ = GS_TAG_FTRACE_TIME;
    p = gs_put_varint(p, boottime_ns);
    *p++ = GS_TAG_FTRACE_PID;
    p = gs_put_varint(p, on ? 0 : tid);
    *p++ = GS_TAG_SCHED_SWITCH;
    uint8_t *fields = ++p;
    *p++ = GS_TAG_PREV_PID;
    p = gs_put_varint(p, on ? 0 : tid);
    *p++ = GS_TAG_PREV_PRIO;
    *p++ = GS_USUAL_PRIO;
    *p++ = GS_TAG_PREV_STATE;
    *p++ = on ? 0 : gs_prev_states[event->arg >> GS_WHY_SHIFT];
    *p++ = GS_TAG_NEXT_PID;
    p = gs_put_varint(p, on ? tid : 0);
    *p++ = GS_TAG_NEXT_PRIO;
    *p++ = GS_USUAL_PRIO;
    fields[-1] = (uint8_t)(p - fields);
    inside[-1] = (uint8_t)(p - inside);
    bundle[-1] = (uint8_t)(p - bundle);
    return p;
}

static uint8_t *put_processor_event(struct gs_encoder *encoder, uint8_t *p,
                                    const struct gs_event *event, enum gs_encode_status *status,
                                    struct gs_encode_result *result) {
    struct gs_sequences *all = &encoder->all;
    *status = GS_ENCODE_IMPOSSIBLE;
    if (event->gil != GS_NO_GIL || event->flags || !gs_is_processor(event->kind, event->arg)) {
        result->message =
            "an event of a processor with a flag, a GIL or a reason that is not known";
        return NULL;
    }
    const uint32_t index = all->threads[event->thread].processor;
    if (index == GS_NONE) {
        *status = introduce(encoder, GS_ROLE_PROCESSOR, event->thread, GS_NO_GIL, result);
        return NULL;
    }
    struct gs_sequence *sequence = &all->sequences[index];
    if (event->time_ns < sequence->time_ns) {
        result->message = "time runs backwards";
        return NULL;
    }
    uint8_t *head = p;
    p[0] = GS_TAG_PACKET;
    p[2] = GS_TAG_TIMESTAMP;
    p = gs_put_varint(p + 3, (uint64_t)(event->time_ns - sequence->time_ns));
    sequence->time_ns = event->time_ns;
    memcpy(p, sequence->tag, sizeof sequence->tag);
    p = gs_put_processor(p + sequence->tag_bytes, event, sequence->tid,
                         (uint64_t)(event->time_ns + encoder->boottime_offset_ns));
    head[1] = (uint8_t)(p - head - 2);
    result->packets++;
    return p;
}

#endif

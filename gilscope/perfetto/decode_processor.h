/* The packets of a thread's processors. Part of decode.c, which alone includes it and has what it
 * calls. */
#ifndef GILSCOPE_PERFETTO_DECODE_PROCESSOR_H
#define GILSCOPE_PERFETTO_DECODE_PROCESSOR_H

#include "processors.h"

/* Inverts it, of what goes from `p` to `end` and is readable past that; false: it is in no form
 * that is written. Time and thread are the sequence's. */
static inline bool gs_get_processor(const uint8_t *p, const uint8_t *end, struct gs_event *event) {
    uint64_t cpu, time, pid, previous, next;
    if (end - p < 4 || p[0] != GS_TAG_FTRACE || p[1] != end - p - 2 || p[2] != GS_TAG_CPU)
        return false;
    p = get_varint(p + 3, &cpu);
    if (cpu > GS_PROCESSOR_MASK || p[0] != GS_TAG_FTRACE_EVENT || p[1] != end - p - 2 ||
        p[2] != GS_TAG_FTRACE_TIME)
        return false;
    p = get_varint(p + 3, &time);
    if (*p != GS_TAG_FTRACE_PID)
        return false;
    p = get_varint(p + 1, &pid);
    if (p[0] != GS_TAG_SCHED_SWITCH || p[1] != end - p - 2 || p[2] != GS_TAG_PREV_PID)
        return false;
    p = get_varint(p + 3, &previous);
    if (p[0] != GS_TAG_PREV_PRIO || p[1] != GS_USUAL_PRIO || p[2] != GS_TAG_PREV_STATE ||
        p[4] != GS_TAG_NEXT_PID)
        return false;
    const uint8_t state = p[3];
    p = get_varint(p + 5, &next);
    if (p + 2 != end || p[0] != GS_TAG_NEXT_PRIO || p[1] != GS_USUAL_PRIO || pid != previous ||
        !previous == !next)
        return false;
    event->kind = next ? GS_PROCESSOR_ON : GS_PROCESSOR_OFF;
    event->arg = cpu;
    if (next)
        return state == 0;
    for (uint64_t why = 0; why < GS_WHYS; why++)
        if (gs_prev_states[why] == state) {
            event->arg |= why << GS_WHY_SHIFT;
            return true;
        }
    return false;
}

/* A packet of a sequence of processors, whose bundle goes from `p` to `end`. */
static const char *on_processor(struct gs_decoder *decoder, uint32_t index, uint64_t delta,
                                const uint8_t *p, const uint8_t *end, struct gs_event *event) {
    struct gs_sequence *sequence = &decoder->all.sequences[index];
    if (decoder->next != GS_NONE || decoder->closing)
        return apart;
    if (delta > (uint64_t)(INT64_MAX - sequence->time_ns))
        return "a time past the end of time";
    sequence->time_ns += (int64_t)delta;
    *event = (struct gs_event){
        .time_ns = sequence->time_ns, .thread = sequence->thread, .gil = GS_NO_GIL};
    return gs_get_processor(p, end, event) ? NULL : "a packet of processors in another form";
}

#endif

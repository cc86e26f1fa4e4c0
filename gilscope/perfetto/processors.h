/* What the packets of a thread's processors are made of (format.h); encode_processor.h writes them,
 * decode_processor.h reads them back. */
#ifndef GILSCOPE_PERFETTO_PROCESSORS_H
#define GILSCOPE_PERFETTO_PROCESSORS_H

#include "sequences.h"

enum {
    GS_TAG_FTRACE = 0x0a,
    GS_TAG_CPU = 0x08,
    GS_TAG_FTRACE_EVENT = 0x12,
    GS_TAG_FTRACE_TIME = 0x08,
    GS_TAG_FTRACE_PID = 0x10,
    GS_TAG_SCHED_SWITCH = 0x22,
    GS_TAG_PREV_PID = 0x10,
    GS_TAG_PREV_PRIO = 0x18,
    GS_TAG_PREV_STATE = 0x20,
    GS_TAG_NEXT_PID = 0x30,
    GS_TAG_NEXT_PRIO = 0x38,
    GS_USUAL_PRIO = 120,
};

/* prev_state by enum gs_why_off: TASK_INTERRUPTIBLE, TASK_RUNNING, EXIT_DEAD. */
static const uint8_t gs_prev_states[GS_WHYS] = {1, 0, 16};

#endif

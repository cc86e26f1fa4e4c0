/* The event as everything behind the rings sees it: ordered, on CLOCK_MONOTONIC, with ids that
 * are unique in the trace. The ring reader makes them, the Perfetto encoder takes them, the
 * Perfetto decoder makes them again, the story checks them. schema.py holds the numpy twin. */
#ifndef GILSCOPE_TRACE_EVENT_H
#define GILSCOPE_TRACE_EVENT_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#include "../probe/event_abi.h"

#define GS_NO_GIL UINT16_C(0xffff)

struct gs_event {
    int64_t time_ns; /* CLOCK_MONOTONIC */
    uint64_t arg; /* GIL events: waiters; gil.lost: missing records; gil.wakeup: 1 + the id of the
                     woken thread, 0: not known; stack: id of its leaf, an index into the trace's
                     table of stacks; others: see the table */
    uint32_t thread; /* id: index into the trace's table of threads */
    uint16_t gil;    /* id: index into the trace's table of GILs, or GS_NO_GIL */
    uint8_t kind;    /* enum gs_event_kind */
    uint8_t flags;   /* GS_FLAG_… */
};
static_assert(sizeof(struct gs_event) == 24, "an event is 24 bytes");

/* Flags of a stack event. */
enum {
    GS_FLAG_OF_WAIT = 1, /* of the wait that the thread's next GIL event ends; else of the hold */
    GS_FLAG_SEEN = 2,    /* where the thread that asked for the GIL saw the holder */
    GS_FLAG_OF_SYNC = 4, /* of the wait for a lock or a condition that the thread ended last;
                            without GS_FLAG_OF_WAIT: of the release or notify that it tells next */
};

/* What the probe writes: readers make the events of a process's life and the gaps of its GILs by
 * themselves. */
static inline bool gs_is_gil_event(uint64_t kind) {
    return kind >= GS_GIL_WAIT && kind <= GS_GIL_WAKEUP && kind != GS_GIL_LOST;
}

/* Told by a holder of the hold that it ends next, as a number. */
static inline bool gs_is_of_hold(uint64_t kind) {
    return kind == GS_HOLD_GC || kind == GS_HOLD_GC_LEAST || kind == GS_HOLD_GC_MOST ||
           kind == GS_HOLD_CPU || kind == GS_HOLD_ASLEEP;
}

/* Of the kernel's side: a stream of its own, beside what the thread tells of itself. */
static inline bool gs_is_of_processor(uint64_t kind) {
    return kind == GS_PROCESSOR_ON || kind == GS_PROCESSOR_OFF;
}

/* Whether the argument of such an event makes sense. */
static inline bool gs_is_processor(uint64_t kind, uint64_t arg) {
    return arg >> GS_WHY_SHIFT < (kind == GS_PROCESSOR_ON ? 1 : GS_WHYS);
}

static inline bool gs_is_thread_event(uint64_t kind) {
    return (kind >= GS_LOCK_WAIT && kind <= GS_THREAD_LOST) || kind == GS_THREAD_START ||
           kind == GS_THREAD_END || (kind >= GS_ATOMIC_ENTER && kind <= GS_STACK) ||
           gs_is_of_hold(kind);
}

#define GS_EXPORT __attribute__((visibility("default")))

#endif

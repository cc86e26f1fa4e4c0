/* The events of locks, conditions and atomic sections.
 *
 * Who calls: Python Plus's own lock code, gilscope's extension module, and, through api.h, whatever
 * knows more than the probe. Each call is for the calling thread, costs a predictable branch where
 * nothing records, and keeps to emit.h's promises: no lock, no system call, no allocation.
 *
 * So that slices nest on a thread's track, gs_on_lock_wait and gs_on_cond_wait come after the
 * thread has released the GIL and their ends before it asks for it again (a wait on the GIL's own
 * condition lies inside the wait for the GIL). Waits may nest, and end in the reverse order. A wait
 * that did not have to block is no event. Notify, release and what is atomic come from anywhere; a
 * notify or a release stands before whatever lets the woken thread run, else the end of its wait
 * may bear the earlier time, and nobody is known to have woken it. */
#ifndef GILSCOPE_EMIT_SYNC_H
#define GILSCOPE_EMIT_SYNC_H

#include "emit.h"

static inline uint64_t gs_sync_argument(const void *object, enum gs_sync_kind kind,
                                        uint64_t detail) {
    return detail << GS_SYNC_DETAIL_SHIFT | ((uint64_t)(uintptr_t)object & GS_SYNC_OBJECT_MASK) |
           (uint64_t)kind;
}

static inline void gs_emit_sync(enum gs_event_kind event, const void *object,
                                enum gs_sync_kind kind, uint64_t detail) {
    if (gs_recording())
        gs_emit(event, gs_sync_argument(object, kind, detail));
}

/* When the wait began that the calling thread tells now: as it let the GIL go, if it told nothing
 * since. Whoever gets the GIL then may wake it before it comes to tell, and would seem to have been
 * too early. */
static inline uint64_t gs_wait_begin(void) {
    const struct gs_record *release = gs_writer.last_release, *last = gs_writer.cursor;
    if (release && (--last == release ||
                    (last - 1 == release && (last->stamp_kind & GS_KIND_MASK) == GS_GIL_WAKEUP)))
        return last->stamp_kind >> GS_KIND_BITS;
    return gs_clock_now(gs_process.clock);
}

/* `argument` as event_abi.h has it. Of a kind that is not known the caller may be a library that
 * does other things after it let the GIL go: its wait begins now. */
static inline void gs_emit_sync_wait(enum gs_event_kind event, uint64_t argument) {
    if (!gs_recording())
        return;
    bool known = (argument & GS_SYNC_KIND_MASK) != GS_SYNC_UNKNOWN;
    gs_emit_at(event, argument, known ? gs_wait_begin() : gs_clock_now(gs_process.clock));
}

static inline void gs_on_lock_wait(const void *object, enum gs_sync_kind kind) {
    gs_emit_sync_wait(GS_LOCK_WAIT, gs_sync_argument(object, kind, 0));
}

/* `timed_out`: it timed out or was given up; the thread does not have the lock. */
static inline void gs_on_lock_acquire(const void *object, enum gs_sync_kind kind, bool timed_out) {
    gs_emit_sync(GS_LOCK_ACQUIRE, object, kind, timed_out);
}

/* Only where somebody waits for the lock. */
static inline void gs_on_lock_release(const void *object, enum gs_sync_kind kind) {
    gs_emit_sync(GS_LOCK_RELEASE, object, kind, 0);
}

static inline void gs_on_cond_wait(const void *object, enum gs_sync_kind kind) {
    gs_emit_sync_wait(GS_COND_WAIT, gs_sync_argument(object, kind, 0));
}

static inline void gs_on_cond_wake(const void *object, enum gs_sync_kind kind, bool timed_out) {
    gs_emit_sync(GS_COND_WAKE, object, kind, timed_out);
}

/* `woken`: how many waiters it wakes, 0 where nobody waited. */
static inline void gs_on_cond_notify(const void *object, enum gs_sync_kind kind, unsigned woken) {
    gs_emit_sync(GS_COND_NOTIFY, object, kind,
                 woken < GS_SYNC_DETAIL_MAX ? woken : GS_SYNC_DETAIL_MAX);
}

/* `depth`: how many sections the thread is in, this one included; the outermost is 1. */
static inline void gs_on_atomic_enter(unsigned depth) {
    if (gs_recording())
        gs_emit(GS_ATOMIC_ENTER, depth);
}

/* `depth`: as at the enter of the section that ends here. */
static inline void gs_on_atomic_exit(unsigned depth) {
    if (gs_recording())
        gs_emit(GS_ATOMIC_EXIT, depth);
}

/* The section that the thread is in has held back a yield. */
static inline void gs_on_atomic_deferred(unsigned depth) {
    if (gs_recording())
        gs_emit(GS_ATOMIC_DEFERRED, depth);
}

#endif

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
#include "waits.h"

static inline uint64_t gs_sync_argument(const void *object, enum gs_sync_kind kind,
                                        uint64_t detail) {
    return detail << GS_SYNC_DETAIL_SHIFT | ((uint64_t)(uintptr_t)object & GS_SYNC_OBJECT_MASK) |
           (uint64_t)kind;
}

/* When the wait began that the calling thread tells now: as it let the GIL go, if it told nothing
 * since but whom it woke by that. Whoever gets the GIL then may wake it before it comes to tell,
 * and would seem to have been too early. */
static inline uint64_t gs_wait_begin(void) {
    const struct gs_record *release = gs_writer.last_release, *last = gs_writer.cursor;
    /* A wakeup may be in a chunk of its own; it never comes but behind its release. */
    if (release && (--last == release || (last->stamp_kind & GS_KIND_MASK) == GS_GIL_WAKEUP))
        return release->stamp_kind >> GS_KIND_BITS;
    return gs_clock_now(gs_process.clock);
}

/* The GIL that the calling thread holds, or NULL. In the feed. */
struct gs_gil *gs_gil_in_hand(void);

static inline uint64_t gs_sync_object_of(uint64_t argument) {
    return argument & (GS_SYNC_OBJECT_MASK | GS_SYNC_KIND_MASK);
}

static inline bool gs_is_long(uint64_t since) {
    uint64_t now = gs_clock_now(gs_process.clock);
    return ((now - since) & UINT64_MAX >> GS_KIND_BITS) >= gs_process.stack_ticks;
}

/* The calling thread tells that it waits since then. Returns whether that was recorded. */
static inline bool gs_tell_wait(enum gs_event_kind event, uint64_t argument, uint64_t since) {
    if (!gs_emit_at(event, argument, since))
        return false;
    gs_writer.sleeping++;
    return true;
}

static inline void gs_tell_wait_over(enum gs_event_kind event, uint64_t argument, uint64_t since) {
    if (gs_writer.sleeping)
        gs_writer.sleeping--;
    if (!gs_recording())
        return;
    if (since && gs_is_long(since))
        gs_writer.slept_long = true;
    gs_emit(event, argument);
}

/* `argument` as event_abi.h has it. Of a kind that is not known the caller may be a library that
 * does other things after it let the GIL go: its wait begins now. */
static inline void gs_emit_sync_wait(enum gs_event_kind event, uint64_t argument) {
    if (!gs_recording())
        return;
    bool known = (argument & GS_SYNC_KIND_MASK) != GS_SYNC_UNKNOWN;
    uint64_t since = known ? gs_wait_begin() : gs_clock_now(gs_process.clock);
    since &= UINT64_MAX >> GS_KIND_BITS;
    if (gs_tell_wait(event, argument, since))
        gs_waits_begin(gs_sync_object_of(argument), since);
}

/* The begin of the wait that ends, if its record was this thread's last, as it is where nothing
 * went on inside of it; else 0. */
static inline uint64_t gs_since_of(enum gs_event_kind wait, uint64_t argument) {
    const struct gs_record *last = gs_writer.cursor ? gs_writer.cursor - 1 : NULL;
    return last && (last->stamp_kind & GS_KIND_MASK) == (uint64_t)wait &&
                   gs_sync_object_of(last->payload) == gs_sync_object_of(argument)
               ? last->stamp_kind >> GS_KIND_BITS
               : 0;
}

static inline void gs_emit_sync_end(enum gs_event_kind event, uint64_t argument) {
    uint64_t since = gs_since_of(event == GS_LOCK_ACQUIRE ? GS_LOCK_WAIT : GS_COND_WAIT, argument);
    if (since)
        gs_waits_end(gs_sync_object_of(argument), since);
    gs_tell_wait_over(event, argument, since);
}

/* A release or a notify, which ends one of these waits; where that is a long one, its place is told
 * as well. */
static inline void gs_emit_waker_of(const struct gs_waits *waits, enum gs_event_kind event,
                                    uint64_t argument) {
    bool is_long = waits->any && gs_process.stack_ticks != GS_STACKS_OFF &&
                   (!waits->since || gs_is_long(waits->since));
    struct gs_gil *gil = is_long ? gs_gil_in_hand() : NULL;
    if (gil)
        gs_stacks_take(gil, GS_STACK_OF_SYNC);
    gs_emit(event, argument);
}

static inline void gs_emit_waker(enum gs_event_kind event, uint64_t argument) {
    struct gs_waits waits = {0};
    if (!gs_recording())
        return;
    if (gs_process.stack_ticks != GS_STACKS_OFF)
        waits = gs_waits_for(gs_sync_object_of(argument));
    gs_emit_waker_of(&waits, event, argument);
}

static inline void gs_on_lock_wait(const void *object, enum gs_sync_kind kind) {
    gs_emit_sync_wait(GS_LOCK_WAIT, gs_sync_argument(object, kind, 0));
}

/* `timed_out`: it timed out or was given up; the thread does not have the lock. */
static inline void gs_on_lock_acquire(const void *object, enum gs_sync_kind kind, bool timed_out) {
    gs_emit_sync_end(GS_LOCK_ACQUIRE, gs_sync_argument(object, kind, timed_out));
}

/* Only where somebody waits for the lock. */
static inline void gs_on_lock_release(const void *object, enum gs_sync_kind kind) {
    gs_emit_waker(GS_LOCK_RELEASE, gs_sync_argument(object, kind, 0));
}

static inline void gs_on_cond_wait(const void *object, enum gs_sync_kind kind) {
    gs_emit_sync_wait(GS_COND_WAIT, gs_sync_argument(object, kind, 0));
}

static inline void gs_on_cond_wake(const void *object, enum gs_sync_kind kind, bool timed_out) {
    gs_emit_sync_end(GS_COND_WAKE, gs_sync_argument(object, kind, timed_out));
}

/* `woken`: how many waiters it wakes, 0 where nobody waited. */
static inline void gs_on_cond_notify(const void *object, enum gs_sync_kind kind, unsigned woken) {
    uint64_t detail = woken < GS_SYNC_DETAIL_MAX ? woken : GS_SYNC_DETAIL_MAX;
    gs_emit_waker(GS_COND_NOTIFY, gs_sync_argument(object, kind, detail));
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

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

static inline void gs_emit_sync(enum gs_event_kind event, const void *object,
                                enum gs_sync_kind kind, uint64_t detail) {
    if (gs_recording())
        gs_emit(event, detail << GS_SYNC_DETAIL_SHIFT |
                           ((uint64_t)(uintptr_t)object & GS_SYNC_OBJECT_MASK) | (uint64_t)kind);
}

static inline void gs_on_lock_wait(const void *object, enum gs_sync_kind kind) {
    gs_emit_sync(GS_LOCK_WAIT, object, kind, 0);
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
    gs_emit_sync(GS_COND_WAIT, object, kind, 0);
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

/* Who woke whom. A notify or a release is put here; the end of a wait on the same object takes the
 * oldest one that came after the wait had begun. Of a lock that is a semaphore it is the newest:
 * such a lock is free or it is not, and whoever comes by may take it before the thread that a
 * release has woken. Bounded and without allocation: a bucket keeps the
 * newest few, so a waker may be forgotten, but none is made up. Story, encoder and decoder share it
 * and so agree. Owner: one of these, one thread. */
#ifndef GILSCOPE_TRACE_WAKERS_H
#define GILSCOPE_TRACE_WAKERS_H

#include <stdbool.h>
#include <string.h>

#include "event.h"

enum { GS_WAKER_BUCKETS = 256, GS_WAKERS_IN_BUCKET = 8 };

struct gs_waker {
    uint64_t object; /* of the event's argument, with its kind; bit 63: a condition */
    int64_t time_ns;
    uint64_t value; /* its user's: the last of its flows, or the thread that woke */
    uint32_t process;
    uint32_t left; /* how many it woke that did not come for it yet */
};

struct gs_wakers {
    uint8_t n[GS_WAKER_BUCKETS];
    struct gs_waker buckets[GS_WAKER_BUCKETS][GS_WAKERS_IN_BUCKET]; /* oldest first */
};

/* The object that an event of locks or conditions is about, without its detail. */
static inline uint64_t gs_sync_object(const struct gs_event *event) {
    bool of_condition = event->kind >= GS_COND_WAIT;
    return (event->arg & (GS_SYNC_OBJECT_MASK | GS_SYNC_KIND_MASK)) | (uint64_t)of_condition << 63;
}

static inline unsigned gs_waker_bucket(uint32_t process, uint64_t object) {
    uint64_t hash = (object ^ (uint64_t)process << 48) * UINT64_C(0x9e3779b97f4a7c15);
    return (unsigned)(hash >> 56);
}

static inline void gs_wakers_remove(struct gs_wakers *wakers, unsigned bucket, unsigned i) {
    struct gs_waker *its = &wakers->buckets[bucket][i];
    wakers->n[bucket]--;
    memmove(its, its + 1, (wakers->n[bucket] - i) * sizeof *its);
}

static inline void gs_wakers_put(struct gs_wakers *wakers, struct gs_waker waker) {
    unsigned bucket = gs_waker_bucket(waker.process, waker.object);
    struct gs_waker *its = wakers->buckets[bucket];
    bool newest_counts = (waker.object & GS_SYNC_KIND_MASK) == GS_SYNC_SEM_LOCK;
    if (waker.left == 0)
        return;
    for (unsigned i = 0; newest_counts && i < wakers->n[bucket]; i++)
        if (its[i].object == waker.object && its[i].process == waker.process)
            gs_wakers_remove(wakers, bucket, i);
    if (wakers->n[bucket] == GS_WAKERS_IN_BUCKET)
        gs_wakers_remove(wakers, bucket, 0);
    its[wakers->n[bucket]++] = waker;
}

/* False: nobody is known to have woken it. Else *taken is the waker, its `left` counted down. */
static inline bool gs_wakers_take(struct gs_wakers *wakers, uint32_t process, uint64_t object,
                                  int64_t since_ns, struct gs_waker *taken) {
    unsigned bucket = gs_waker_bucket(process, object);
    struct gs_waker *its = wakers->buckets[bucket];
    for (unsigned i = 0; i < wakers->n[bucket]; i++) {
        if (its[i].object != object || its[i].process != process || its[i].time_ns < since_ns)
            continue;
        its[i].left--;
        *taken = its[i];
        if (its[i].left == 0)
            gs_wakers_remove(wakers, bucket, i);
        return true;
    }
    return false;
}

#endif

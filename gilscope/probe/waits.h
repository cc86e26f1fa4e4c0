/* Who waits for a lock or a condition now, and since when: what whoever ends such a wait has to
 * know. A release that nobody waits for is no event; one that ends a long wait has its stack taken.
 *
 * Actors: every thread of the process, with the GIL or without, in signal handlers too (a semaphore
 * may be posted from one). So there is no lock: a wait counts itself in a bucket of its object's
 * address and puts its begin into one of the places behind that.
 * Invariants: a bucket counts at least the waits that are in it, so 0 means that nobody waits. A
 * wait that finds no place is counted as unplaced; while there is one, whoever asks about a bucket
 * that is not empty is told that somebody waits.
 *
 * An object is told as events tell it (event_abi.h): address and kind. */
#ifndef GILSCOPE_WAITS_H
#define GILSCOPE_WAITS_H

#include <stdbool.h>
#include <stdint.h>

#define GS_WAIT_BUCKETS_BITS 12u

extern uint32_t gs_waiting[1u << GS_WAIT_BUCKETS_BITS];

static inline unsigned gs_wait_bucket(uint64_t object) {
    return (unsigned)(object >> 4) & ((1u << GS_WAIT_BUCKETS_BITS) - 1);
}

/* Whether somebody may wait for what is at this address; no is certain. */
static inline bool gs_somebody_waits(const void *object) {
    unsigned bucket = gs_wait_bucket((uintptr_t)object);
    return __builtin_expect(__atomic_load_n(&gs_waiting[bucket], __ATOMIC_RELAXED) != 0, 0);
}

/* The calling thread is about to wait, since then (ticks, not 0): from here on a release is told.
 */
void gs_waits_begin(uint64_t object, uint64_t since);

/* It does not wait any more. Both as given. */
void gs_waits_end(uint64_t object, uint64_t since);

struct gs_waits {
    bool any;
    uint64_t since;  /* the begin of the oldest; 0: not known */
    uint64_t object; /* as it was told; 0: not known */
};

/* What is known of the waits for what is at this object's address, of whatever kind. */
struct gs_waits gs_waits_for(uint64_t object);

/* In the child of a fork: nobody waits there. */
void gs_waits_forget(void);

#endif

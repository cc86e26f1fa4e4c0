#include "waits.h"

#include <string.h>

#include "event_abi.h"

enum { BUCKETS = 1 << GS_WAIT_BUCKETS_BITS, PLACES = 8 };

uint32_t gs_waiting[BUCKETS];

/* `object` is stored first and taken back last; 0: free. */
static struct place {
    uint64_t object;
    uint64_t since;
} places[BUCKETS];

static uint32_t unplaced;

static struct place *place_at(unsigned bucket, unsigned i) {
    return &places[(bucket + i) % BUCKETS];
}

void gs_waits_begin(uint64_t object, uint64_t since) {
    unsigned bucket = gs_wait_bucket(object);
    /* A full fence: the caller looks next whether it has to wait at all. */
    __atomic_add_fetch(&gs_waiting[bucket], 1, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < PLACES; i++) {
        struct place *at = place_at(bucket, i);
        uint64_t nobody = 0;
        if (__atomic_load_n(&at->object, __ATOMIC_RELAXED) == 0 &&
            __atomic_compare_exchange_n(&at->object, &nobody, object, false, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED)) {
            __atomic_store_n(&at->since, since, __ATOMIC_RELEASE);
            return;
        }
    }
    __atomic_add_fetch(&unplaced, 1, __ATOMIC_RELAXED);
}

/* Waits of equal begin for one object are alike. */
static bool leave(struct place *at, uint64_t object, uint64_t since) {
    if (__atomic_load_n(&at->object, __ATOMIC_RELAXED) != object ||
        !__atomic_compare_exchange_n(&at->since, &since, 0, false, __ATOMIC_RELAXED,
                                     __ATOMIC_RELAXED))
        return false;
    __atomic_store_n(&at->object, 0, __ATOMIC_RELEASE);
    return true;
}

void gs_waits_end(uint64_t object, uint64_t since) {
    unsigned bucket = gs_wait_bucket(object), i = 0;
    if (__atomic_load_n(&gs_waiting[bucket], __ATOMIC_RELAXED) == 0)
        return; /* a fork forgot it */
    while (i < PLACES && !leave(place_at(bucket, i), object, since))
        i++;
    if (i == PLACES)
        __atomic_sub_fetch(&unplaced, 1, __ATOMIC_RELAXED);
    __atomic_sub_fetch(&gs_waiting[bucket], 1, __ATOMIC_RELEASE);
}

struct gs_waits gs_waits_for(uint64_t object) {
    struct gs_waits found = {0};
    unsigned bucket = gs_wait_bucket(object);
    if (__atomic_load_n(&gs_waiting[bucket], __ATOMIC_ACQUIRE) == 0)
        return found;
    for (unsigned i = 0; i < PLACES; i++) {
        struct place *at = place_at(bucket, i);
        uint64_t its = __atomic_load_n(&at->object, __ATOMIC_RELAXED);
        if (!its || (its ^ object) & GS_SYNC_OBJECT_MASK)
            continue;
        uint64_t since = __atomic_load_n(&at->since, __ATOMIC_ACQUIRE);
        found.any = true;
        found.object = its;
        if (since && (!found.since || since < found.since))
            found.since = since;
    }
    if (!found.any)
        found.any = __atomic_load_n(&unplaced, __ATOMIC_RELAXED) != 0;
    return found;
}

void gs_waits_forget(void) {
    memset(gs_waiting, 0, sizeof gs_waiting);
    memset(places, 0, sizeof places);
    unplaced = 0;
}

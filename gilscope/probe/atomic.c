/* Entering and leaving atomic sections on a stock interpreter: see atomic.h. */
#define _GNU_SOURCE
#include "atomic.h"

#include <errno.h>
#include <time.h>

#include "api.h"
#include "emit_sync.h"
#include "switches.h"

#if GILSCOPE_WITH_ATOMIC

enum { HAND_OVER_NS = 20000, HAND_OVER_TURNS = 250 };

int gilscope_atomic_enter(void) {
    if (gs_gave_way_to)
        return gs_gave_way_to->atomic_enter();
    struct gs_writer *writer = &gs_writer;
    int result = 0;
    if (!writer->atomic_depth) {
        const bool *requested;
        if (!gs_held_gil(&requested))
            return -1;
        writer->atomic_deferred = false;
        __atomic_store_n(&writer->atomic_depth, 1, __ATOMIC_SEQ_CST);
        result = __atomic_load_n(requested, __ATOMIC_SEQ_CST);
    } else if (writer->atomic_depth < UINT16_MAX) {
        writer->atomic_depth++;
    } else {
        return -1;
    }
    gs_on_atomic_enter(writer->atomic_depth);
    return result;
}

int gilscope_atomic_exit(void) {
    if (gs_gave_way_to)
        return gs_gave_way_to->atomic_exit();
    struct gs_writer *writer = &gs_writer;
    unsigned depth = writer->atomic_depth;
    if (!depth)
        return 0;
    bool owed = depth == 1 && __atomic_load_n(&writer->atomic_deferred, __ATOMIC_RELAXED);
    if (owed)
        gs_on_atomic_deferred(depth);
    gs_on_atomic_exit(depth);
    /* The next request may come at once; one that was held back is owed whatever it does. */
    __atomic_store_n(&writer->atomic_depth, (uint16_t)(depth - 1), __ATOMIC_RELEASE);
    if (owed)
        writer->atomic_deferred = false;
    return owed;
}

unsigned gilscope_atomic_depth(void) {
    if (gs_gave_way_to)
        return gs_gave_way_to->atomic_depth();
    return gs_writer.atomic_depth;
}

const void *gilscope_atomic_gil(void) {
    if (gs_gave_way_to)
        return gs_gave_way_to->atomic_gil();
    const bool *requested;
    return gs_held_gil(&requested);
}

void gilscope_atomic_hand_over(const void *held) {
    if (gs_gave_way_to) {
        gs_gave_way_to->atomic_hand_over(held);
        return;
    }
    const struct gs_gil *gil = held;
    int saved_errno = errno;
    struct timespec nap = {.tv_nsec = HAND_OVER_NS};
    /* The waiter was woken by the release and is on its way; it may give up, so not for ever. */
    for (int i = 0; i < HAND_OVER_TURNS; i++) {
        if (!__atomic_load_n(&gil->waiters, __ATOMIC_RELAXED) ||
            __atomic_load_n(&gil->holder, __ATOMIC_RELAXED))
            break;
        nanosleep(&nap, NULL);
    }
    errno = saved_errno;
}

#endif

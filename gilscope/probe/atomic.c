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

/* What is noted is out of line, so that a section that nothing records needs no frame. */
__attribute__((noinline)) static int enter_noted(unsigned depth, int result) {
    gs_on_atomic_enter(depth);
    return result;
}

static int nest(void) {
    struct gs_writer *writer = &gs_writer;
    if (writer->atomic_depth == UINT16_MAX)
        return -1;
    return enter_noted(++writer->atomic_depth, 0);
}

int gilscope_atomic_enter(void) {
    if (gs_gave_way_to)
        return gs_gave_way_to->atomic_enter();
    struct gs_writer *writer = &gs_writer;
    if (writer->atomic_depth)
        return nest();
    const bool *requested = gs_request_to_yield();
    if (!requested)
        return -1;
    writer->atomic_deferred = false;
    __atomic_store_n(&writer->atomic_depth, 1, __ATOMIC_SEQ_CST);
    int result = __atomic_load_n(requested, __ATOMIC_SEQ_CST);
    return __builtin_expect(gs_recording(), 0) ? enter_noted(1, result) : result;
}

static bool owed_at_exit(const struct gs_writer *writer) {
    return writer->atomic_depth == 1 && __atomic_load_n(&writer->atomic_deferred, __ATOMIC_RELAXED);
}

/* The next request may come at once; one that was held back is owed whatever it does. */
static inline int end_section(struct gs_writer *writer, bool owed) {
    __atomic_store_n(&writer->atomic_depth, (uint16_t)(writer->atomic_depth - 1), __ATOMIC_RELEASE);
    if (owed)
        writer->atomic_deferred = false;
    return owed;
}

__attribute__((noinline)) static int exit_noted(void) {
    struct gs_writer *writer = &gs_writer;
    bool owed = owed_at_exit(writer);
    if (owed)
        gs_on_atomic_deferred(writer->atomic_depth);
    gs_on_atomic_exit(writer->atomic_depth);
    return end_section(writer, owed);
}

int gilscope_atomic_exit(void) {
    if (gs_gave_way_to)
        return gs_gave_way_to->atomic_exit();
    struct gs_writer *writer = &gs_writer;
    if (!writer->atomic_depth)
        return 0;
    if (__builtin_expect(gs_recording(), 0))
        return exit_noted();
    return end_section(writer, owed_at_exit(writer));
}

unsigned gilscope_atomic_depth(void) {
    if (gs_gave_way_to)
        return gs_gave_way_to->atomic_depth();
    return gs_writer.atomic_depth;
}

const void *gilscope_atomic_gil(void) {
    if (gs_gave_way_to)
        return gs_gave_way_to->atomic_gil();
    return gs_held_gil();
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

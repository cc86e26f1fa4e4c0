/* Entering and leaving atomic sections on a stock interpreter: see atomic.h. */
#define _GNU_SOURCE
#include "atomic.h"

#include <errno.h>
#include <time.h>

#include "api.h"
#include "emit_sync.h"
#include "fence.h"
#include "gil_condvar.h"
#include "policy.h"
#include "switches.h"
#include "windows.h"

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

static void set_depth(struct gs_writer *writer, unsigned depth) {
    gs_window("a section's depth");
    __atomic_store_n(&writer->atomic_depth, (uint16_t)depth, __ATOMIC_RELEASE);
    gs_window("a section's look");
    gs_fence_of_holder();
}

/* The caller lets the GIL go; under a policy its release ends when another thread has had it. */
__attribute__((noinline)) static int give_way(struct gs_writer *writer) {
    writer->atomic_deferred = false;
    if (gs_scheduling())
        gs_gil_thread_yields();
    gs_window("a section's answer");
    return 1;
}

/* No GIL is watched, or a waiter asked before the section began: that one is let through first. */
__attribute__((noinline)) static int enter_after(struct gs_writer *writer, int asked) {
    if (asked > 0)
        return enter_noted(1, give_way(writer));
    writer->atomic_depth = 0;
    return -1;
}

int gilscope_atomic_enter(void) {
    if (gs_gave_way_to)
        return gs_gave_way_to->atomic_enter();
    struct gs_writer *writer = &gs_writer;
    if (writer->atomic_depth)
        return nest();
    set_depth(writer, 1);
    int asked = gs_asked_to_yield();
    if (__builtin_expect(asked, 0))
        return enter_after(writer, asked);
    return __builtin_expect(gs_recording(), 0) ? enter_noted(1, 0) : 0;
}

/* Whether a yield is due, which the end of the outermost section gives. */
static inline bool end_section(struct gs_writer *writer) {
    if (writer->atomic_depth > 1) {
        writer->atomic_depth--;
        return false;
    }
    set_depth(writer, 0);
    return gs_asked_to_yield() > 0;
}

__attribute__((noinline)) static int exit_noted(void) {
    struct gs_writer *writer = &gs_writer;
    unsigned depth = writer->atomic_depth;
    bool due = end_section(writer);
    if (due)
        gs_on_atomic_deferred(depth);
    gs_on_atomic_exit(depth);
    return due ? give_way(writer) : 0;
}

int gilscope_atomic_exit(void) {
    if (gs_gave_way_to)
        return gs_gave_way_to->atomic_exit();
    struct gs_writer *writer = &gs_writer;
    if (__builtin_expect(!writer->atomic_depth, 0))
        return -1;
    if (__builtin_expect(gs_recording(), 0))
        return exit_noted();
    return __builtin_expect(end_section(writer), 0) ? give_way(writer) : 0;
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

/* Entering and leaving atomic sections on a stock interpreter: see atomic.h. */
#define _GNU_SOURCE
#include "atomic.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "api.h"
#include "emit_sync.h"
#include "gil_condvar.h"
#include "policy.h"
#include "switches.h"

#if GILSCOPE_WITH_ATOMIC

enum { HAND_OVER_NS = 20000, HAND_OVER_TURNS = 250 };

/* Who executes the fence of whoever enters a section. NOT_KNOWN: nobody has entered one. */
static enum { NOT_KNOWN, THE_WAITER, THE_ENTERER } fencer;

/* A fence that checkers of threads understand too: of two, the second sees what the first did. */
static void fence(void) {
    static unsigned meeting;
    __atomic_fetch_add(&meeting, 1, __ATOMIC_SEQ_CST);
}

static bool membarrier(int command) {
    int saved_errno = errno;
    bool done = syscall(SYS_membarrier, command, 0, 0) == 0;
    errno = saved_errno;
    return done;
}

/* The first sections of a process, and all where the kernel has no such call. */
__attribute__((noinline)) static void fence_of_enterer(void) {
    if (__atomic_load_n(&fencer, __ATOMIC_RELAXED) == NOT_KNOWN) {
        bool can = membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
        __atomic_store_n(&fencer, can ? THE_WAITER : THE_ENTERER, __ATOMIC_RELEASE);
    }
    fence();
}

/* Returns false where enterers' fences could not be executed this time. */
static bool fence_of_waiter(void) {
    fence();
    if (__atomic_load_n(&fencer, __ATOMIC_RELAXED) != THE_WAITER)
        return true;
    if (membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED))
        return true;
    __atomic_store_n(&fencer, THE_ENTERER, __ATOMIC_RELEASE);
    return false;
}

bool gs_atomic_holds_back(const struct gs_gil *gil, bool *requested) {
    bool before = *requested;
    __atomic_store_n(requested, true, __ATOMIC_RELAXED);
    bool fenced = fence_of_waiter();
    struct gs_writer *holder = (struct gs_writer *)gil->holder;
    bool in_section = __atomic_load_n(&holder->atomic_depth, __ATOMIC_RELAXED);
    if (__builtin_expect(!in_section && fenced, 1))
        return false;
    if (in_section)
        __atomic_store_n(&holder->atomic_deferred, true, __ATOMIC_RELAXED);
    __atomic_store_n(requested, before, __ATOMIC_RELAXED);
    return true;
}

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
    __atomic_store_n(&writer->atomic_depth, 1, __ATOMIC_RELAXED);
    if (__builtin_expect(__atomic_load_n(&fencer, __ATOMIC_ACQUIRE) == THE_WAITER, 1))
        __atomic_signal_fence(__ATOMIC_SEQ_CST); /* of the compiler alone */
    else
        fence_of_enterer();
    int result = __atomic_load_n(requested, __ATOMIC_RELAXED);
    return __builtin_expect(gs_recording(), 0) ? enter_noted(1, result) : result;
}

static bool owed_at_exit(const struct gs_writer *writer) {
    return writer->atomic_depth == 1 && __atomic_load_n(&writer->atomic_deferred, __ATOMIC_RELAXED);
}

/* The caller lets the GIL go; under a policy its release ends when another thread has had it. */
__attribute__((noinline)) static int owe(struct gs_writer *writer) {
    writer->atomic_deferred = false;
    if (gs_scheduling())
        gs_gil_thread_yields();
    return 1;
}

/* The next request may come at once; one that was held back is owed whatever it does. */
static inline int end_section(struct gs_writer *writer, bool owed) {
    __atomic_store_n(&writer->atomic_depth, (uint16_t)(writer->atomic_depth - 1), __ATOMIC_RELEASE);
    return __builtin_expect(owed, 0) ? owe(writer) : 0;
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
    if (__builtin_expect(!writer->atomic_depth, 0))
        return -1;
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

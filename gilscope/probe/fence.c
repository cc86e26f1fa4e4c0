#define _GNU_SOURCE
#include "fence.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

enum gs_fencer gs_fencer;

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
__attribute__((noinline)) void gs_fence_of_holder_itself(void) {
    if (__atomic_load_n(&gs_fencer, __ATOMIC_RELAXED) == GS_FENCER_NOT_KNOWN) {
        bool can = membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
        __atomic_store_n(&gs_fencer, can ? GS_THE_WAITER : GS_THE_HOLDER, __ATOMIC_RELEASE);
    }
    fence();
}

bool gs_fence_of_waiter(void) {
    fence();
    if (__atomic_load_n(&gs_fencer, __ATOMIC_RELAXED) != GS_THE_WAITER)
        return true;
    if (membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED))
        return true;
    __atomic_store_n(&gs_fencer, GS_THE_HOLDER, __ATOMIC_RELEASE);
    return false;
}

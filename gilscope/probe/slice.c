#define _GNU_SOURCE
#include "slice.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SHORT_NS UINT64_C(100000) /* Linux knows no shorter one */

/* Of this process's threads before one was shortened; 0: none has been. */
static uint64_t ordinary_ns;

/* What sched_setattr takes, in its first version. */
struct scheduling {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period; /* ns; runtime: the slice */
};

static bool get(struct scheduling *own) {
    return syscall(SYS_sched_getattr, 0, own, sizeof *own, 0) == 0 && own->policy == SCHED_OTHER;
}

static bool set(struct scheduling *own, uint64_t slice_ns) {
    own->runtime = slice_ns;
    return syscall(SYS_sched_setattr, 0, own, 0) == 0;
}

void gs_slice_shorten(void) {
    struct scheduling own = {.size = sizeof own};
    int saved_errno = errno;
    if (get(&own) && own.runtime != SHORT_NS) {
        uint64_t before = own.runtime;
        if (set(&own, SHORT_NS))
            __atomic_store_n(&ordinary_ns, before, __ATOMIC_RELAXED);
    }
    errno = saved_errno;
}

void gs_slice_restore(void) {
    uint64_t slice_ns = __atomic_load_n(&ordinary_ns, __ATOMIC_RELAXED);
    if (!slice_ns)
        return;
    struct scheduling own = {.size = sizeof own};
    int saved_errno = errno;
    if (get(&own) && own.runtime == SHORT_NS)
        set(&own, slice_ns);
    errno = saved_errno;
}

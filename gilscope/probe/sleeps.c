/* Tells who slept: a thread that asks for a very short sleep polls, and nobody waits for what it
 * does next. The policy serves it as such (rule 2 of gil_condvar.h), a recording counts such
 * sleeps. How long it slept in fact is the machine's doing.
 *
 * time.sleep is clock_nanosleep from 3.11 on and a select of no descriptor before.
 *
 * Actors: any thread of the host. Like the calls that they wrap these may be called in a signal
 * handler and in a vfork's child: they touch the thread's own storage and its page's counter alone.
 * errno is kept. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/select.h>
#include <time.h>

#include "clock.h"
#include "emit.h"
#include "gil_condvar.h"
#include "policy.h"
#include "wrapped.h"

#define INTERPOSE __attribute__((visibility("default")))

static struct {
    int (*select)(int, fd_set *, fd_set *, fd_set *, struct timeval *);
    int (*clock_nanosleep)(clockid_t, int, const struct timespec *, struct timespec *);
} real;

__attribute__((constructor)) static void resolve(void) {
    *(void **)&real.select = dlsym(RTLD_NEXT, "select");
    *(void **)&real.clock_nanosleep = dlsym(RTLD_NEXT, "clock_nanosleep");
}

static inline void ensure_resolved(void) {
    if (__builtin_expect(!real.clock_nanosleep, 0))
        resolve();
}

static uint64_t nanoseconds(time_t s, long ns) {
    return (uint64_t)s * UINT64_C(1000000000) + (uint64_t)ns;
}

static bool is_told(void) {
    return gs_scheduling() || gs_writer.page;
}

static void slept(uint64_t ns) {
    if (gs_scheduling())
        gs_gil_thread_slept(ns);
    gs_on_slept(ns);
}

INTERPOSE int clock_nanosleep(clockid_t clock, int flags, const struct timespec *how_long,
                              struct timespec *left) {
    ensure_resolved();
    bool until = (flags & TIMER_ABSTIME) != 0;
    bool tell = is_told() && how_long && (!until || clock == CLOCK_MONOTONIC);
    uint64_t begin = tell && until ? gs_clock_monotonic() : 0;
    int error = real.clock_nanosleep(clock, flags, how_long, left);
    if (tell && error == 0) {
        uint64_t end = nanoseconds(how_long->tv_sec, how_long->tv_nsec);
        slept(end > begin ? end - begin : 0);
    }
    return error;
}

INTERPOSE int select(int descriptors, fd_set *readable, fd_set *writable, fd_set *exceptional,
                     struct timeval *timeout) {
    ensure_resolved();
    bool tell = is_told() && descriptors == 0 && timeout;
    uint64_t ns = tell ? nanoseconds(timeout->tv_sec, timeout->tv_usec * 1000L) : 0;
    int result = real.select(descriptors, readable, writable, exceptional, timeout);
    if (tell)
        slept(ns);
    return result;
}

GS_WRAPPER(clock_nanosleep);
GS_WRAPPER(select);

const struct gs_wrapped gs_wrapped_sleeps[] = {
    GS_WRAPPED(clock_nanosleep, &real.clock_nanosleep),
    GS_WRAPPED(select, &real.select),
    {NULL, NULL, NULL},
};

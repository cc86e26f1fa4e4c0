/* The locks of a stock interpreter, seen by their semaphores.
 *
 * From 3.9 to 3.15 a thread that has to wait for one of CPython's locks ends in sem_wait (with a
 * timeout in sem_clockwait or sem_timedwait), after it has let the GIL go, and whoever ends the
 * wait calls sem_post. Two sorts are told apart by where the semaphore lies:
 *   - a PyThread lock *is* a semaphore, on the heap: every lock of threading up to 3.12 and in
 *     3.13.0, and what CPython itself keeps such locks for. Free ones are taken by sem_trywait.
 *   - what parks in CPython's parking lot (PyMutex, PyEvent, and so threading's locks later on)
 *     waits for a semaphore on the waiting thread's own stack. Which lock it is, is not known; who
 *     posted that semaphore, and when, is.
 * Condition, Event, Queue, Thread.join, import locks and all the rest come down to these.
 *
 * Actors: every thread of the host. sem_trywait and sem_post are on a hot path: a free lock is
 * taken and given back by them. Waits with the GIL held (for the parking lot itself) are none for
 * the trace, nor are those of code that is not CPython's, nor those inside a wait that was told
 * already (gilscope.locks). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <semaphore.h>
#include <stdbool.h>
#include <time.h>

#include "emit_sync.h"
#include "names.h"
#include "process.h"
#include "python.h"
#include "wrapped.h"

#define INTERPOSE __attribute__((visibility("default")))

static int first_post(sem_t *semaphore);
static int first_try(sem_t *semaphore);

static struct {
    int (*post)(sem_t *);
    int (*try_wait)(sem_t *);
    int (*wait)(sem_t *);
    int (*timed_wait)(sem_t *, const struct timespec *);
    int (*clock_wait)(sem_t *, clockid_t, const struct timespec *); /* glibc has it from 2.30 on */
} real = {.post = first_post, .try_wait = first_try};

/* When the probe is loaded: later the loader may be waiting for the very thread that asks it. Other
 * libraries' constructors may call the wrappers before. */
__attribute__((constructor)) static void resolve(void) {
    *(void **)&real.wait = dlsym(RTLD_NEXT, "sem_wait");
    *(void **)&real.timed_wait = dlsym(RTLD_NEXT, "sem_timedwait");
    *(void **)&real.clock_wait = dlsym(RTLD_NEXT, "sem_clockwait");
    *(void **)&real.try_wait = dlsym(RTLD_NEXT, "sem_trywait");
    /* Last: it is the one whose presence is tested. */
    __atomic_store_n((void **)&real.post, dlsym(RTLD_NEXT, "sem_post"), __ATOMIC_RELEASE);
}

static void ensure_resolved(void) {
    if (__builtin_expect(real.post == first_post, 0))
        resolve();
}

static int first_post(sem_t *semaphore) {
    resolve();
    return real.post(semaphore);
}

static int first_try(sem_t *semaphore) {
    resolve();
    return real.try_wait(semaphore);
}

/* ---- free locks -------------------------------------------------------------------------------
 * Both calls together add a dozen instructions. */

__attribute__((noinline, cold)) static int try_table_lock(sem_t *semaphore) {
    if (gs_gil_in_hand()) {
        int saved_errno = errno;
        gs_refresh_own_name();
        gs_refresh_names();
        errno = saved_errno;
    }
    return real.try_wait(semaphore);
}

/* A thread takes the lock of threading's table before it leaves it, still in the table and with the
 * GIL held: the last moment at which its name, which it may have changed, can be asked for. */
INTERPOSE int sem_trywait(sem_t *semaphore) {
    bool of_table = __builtin_expect((const void *)semaphore == gs_table_lock, 0);
    return of_table ? try_table_lock(semaphore) : real.try_wait(semaphore);
}

static uint64_t object_of(const sem_t *semaphore) {
    return (uint64_t)(uintptr_t)semaphore & GS_SYNC_OBJECT_MASK;
}

/* Before the post: whoever is woken tells the end of its wait with a later time. */
__attribute__((noinline, cold)) static int post_told(sem_t *semaphore) {
    int saved_errno = errno;
    struct gs_waits waits = gs_waits_for(object_of(semaphore));
    if (waits.any && gs_recording())
        gs_emit_waker_of(&waits, GS_LOCK_RELEASE,
                         waits.object ? waits.object : object_of(semaphore) | GS_SYNC_SEM_LOCK);
    errno = saved_errno;
    return real.post(semaphore);
}

INTERPOSE int sem_post(sem_t *semaphore) {
    return gs_somebody_waits(semaphore) ? post_told(semaphore) : real.post(semaphore);
}

/* ---- waits ------------------------------------------------------------------------------------
 */

struct told {
    uint64_t object, since;
    uint32_t epoch;
    bool waits; /* else it need not wait, or nobody is told */
    bool taken;
};

/* A waiter's own semaphore lies in a frame right above its call of sem_wait. */
static enum gs_sync_kind kind_of(const sem_t *semaphore) {
    enum { NEAR = 16384 };
    uintptr_t here = (uintptr_t)__builtin_frame_address(0), there = (uintptr_t)semaphore;
    return there > here && there < here + NEAR ? GS_SYNC_PARKED : GS_SYNC_SEM_LOCK;
}

static bool is_watched(const void *caller) {
    ensure_resolved();
    return gs_recording() && gs_python_owns(caller) && !gs_writer.sleeping && !gs_gil_in_hand();
}

static struct told begin(sem_t *semaphore, const void *caller) {
    struct told told = {0};
    if (!is_watched(caller))
        return told;
    int saved_errno = errno;
    told.epoch = gs_writer.epoch;
    told.since = gs_wait_begin() & UINT64_MAX >> GS_KIND_BITS;
    told.object = object_of(semaphore) | kind_of(semaphore);
    gs_waits_begin(told.object, told.since);
    told.taken = real.try_wait(semaphore) == 0;
    told.waits = !told.taken && gs_tell_wait(GS_LOCK_WAIT, told.object, told.since);
    if (!told.waits)
        gs_waits_end(told.object, told.since);
    errno = saved_errno;
    return told;
}

static int end(const struct told *told, int result) {
    /* The recording may have come or gone meanwhile: late.h. */
    if (!told->waits || told->epoch != __atomic_load_n(&gs_process.epoch, __ATOMIC_ACQUIRE))
        return result;
    int saved_errno = errno;
    gs_waits_end(told->object, told->since);
    uint64_t gave_up = (uint64_t)(result != 0) << GS_SYNC_DETAIL_SHIFT;
    gs_tell_wait_over(GS_LOCK_ACQUIRE, told->object | gave_up, told->since);
    errno = saved_errno;
    return result;
}

INTERPOSE int sem_wait(sem_t *semaphore) {
    struct told told = begin(semaphore, __builtin_return_address(0));
    return told.taken ? 0 : end(&told, real.wait(semaphore));
}

INTERPOSE int sem_timedwait(sem_t *semaphore, const struct timespec *until) {
    struct told told = begin(semaphore, __builtin_return_address(0));
    return told.taken ? 0 : end(&told, real.timed_wait(semaphore, until));
}

/* What glibc before 2.30 has instead: nobody but the probe's own parker calls it there. */
static int wait_on_the_other_clock(sem_t *semaphore, clockid_t clock,
                                   const struct timespec *until) {
    struct timespec now, real_time;
    clock_gettime(clock, &now);
    clock_gettime(CLOCK_REALTIME, &real_time);
    real_time.tv_sec += until->tv_sec - now.tv_sec;
    real_time.tv_nsec += until->tv_nsec - now.tv_nsec;
    if (real_time.tv_nsec < 0) {
        real_time.tv_nsec += 1000000000;
        real_time.tv_sec--;
    } else if (real_time.tv_nsec >= 1000000000) {
        real_time.tv_nsec -= 1000000000;
        real_time.tv_sec++;
    }
    return real.timed_wait(semaphore, &real_time);
}

INTERPOSE int sem_clockwait(sem_t *semaphore, clockid_t clock, const struct timespec *until) {
    struct told told = begin(semaphore, __builtin_return_address(0));
    if (told.taken)
        return 0;
    return end(&told, real.clock_wait ? real.clock_wait(semaphore, clock, until)
                                      : wait_on_the_other_clock(semaphore, clock, until));
}

GS_WRAPPER(sem_post);
GS_WRAPPER(sem_trywait);
GS_WRAPPER(sem_wait);
GS_WRAPPER(sem_timedwait);
GS_WRAPPER(sem_clockwait);

const struct gs_wrapped gs_wrapped_locks[] = {
    GS_WRAPPED(sem_post, &real.post),
    GS_WRAPPED(sem_trywait, &real.try_wait),
    GS_WRAPPED(sem_wait, &real.wait),
    GS_WRAPPED(sem_timedwait, &real.timed_wait),
    GS_WRAPPED(sem_clockwait, &real.clock_wait),
    {NULL, NULL, NULL},
};

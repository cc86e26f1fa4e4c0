/* The feed for stock CPython: wrapped pthread calls.
 *
 * CPython's GIL is a mutex, a flag and two condition variables. From 3.9 to 3.15 its code makes
 * these calls in this order:
 *   take:  lock(mutex), while locked: timedwait(cond, interval); locked = 1; signal(switch_cond);
 *          unlock(mutex)
 *   drop:  lock(mutex), locked = 0, signal(cond), unlock(mutex); if a waiter asked and nobody else
 *          took it yet: wait(switch_cond)
 * So each call tells one thing: timedwait on cond, a wait begins; ETIMEDOUT from it while the same
 * holder still holds, a request; signal on switch_cond, acquired; signal on cond, released. Whether
 * the release was forced its caller tells (release.h), or else the wait on switch_cond.
 *
 * Which condition variables are the GIL's is found by watching too: CPython initialises `cond` and
 * then `switch_cond` (find_gil.h). What is watched stands in watched.h.
 *
 * Actors: every thread of the host. All wrappers but those for init, destroy and create are on the
 * host's hot path: one or two compares when the call is not the GIL's. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api.h"
#include "atomic.h"
#include "emit_sync.h"
#include "find_gil.h"
#include "late.h"
#include "modules.h"
#include "names.h"
#include "policy.h"
#include "process.h"
#include "python.h"
#include "release.h"
#include "request.h"
#include "rules.h"
#include "schedule.h"
#include "threads.h"
#include "watched.h"
#include "wrapped.h"

#define INTERPOSE   __attribute__((visibility("default")))
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

/* Weak: only glibc has it, and only x86-64 needs it, where the unversioned look-up may find the
 * condition variables of before glibc 2.3.2. */
extern void *dlvsym(void *handle, const char *name, const char *version) __attribute__((weak));

static struct {
    int (*init)(pthread_cond_t *, const pthread_condattr_t *);
    int (*destroy)(pthread_cond_t *);
    int (*signal)(pthread_cond_t *);
    int (*wait)(pthread_cond_t *, pthread_mutex_t *);
    int (*timedwait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    int (*create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    int (*set_name)(pthread_t, const char *);
    void (*exit)(int) __attribute__((noreturn));
} real;

/* Where a signal goes: to the real call where nothing is watched, as where there is no Python, or
 * one with a probe of its own. */
static int signal_watched(pthread_cond_t *cond);
static int (*on_signal)(pthread_cond_t *) = signal_watched;

static void *next_version(const char *name) {
    void *next = dlsym(RTLD_NEXT, name);
#if defined(__x86_64__) && defined(__GLIBC__)
    void *versioned = dlvsym ? dlvsym(RTLD_NEXT, name, "GLIBC_2.3.2") : NULL;
    Dl_info of_next, of_versioned;
    /* What another preloaded library wraps has no version: it comes first, if it is there. */
    if (versioned && (!next || !dladdr(next, &of_next) || !dladdr(versioned, &of_versioned) ||
                      of_next.dli_fbase == of_versioned.dli_fbase))
        return versioned;
#endif
    return next;
}

/* Idempotent; other libraries' constructors may call the wrappers before ours has run. */
static void resolve(void) {
    *(void **)&real.init = next_version("pthread_cond_init");
    *(void **)&real.destroy = next_version("pthread_cond_destroy");
    *(void **)&real.signal = next_version("pthread_cond_signal");
    *(void **)&real.wait = next_version("pthread_cond_wait");
    *(void **)&real.create = dlsym(RTLD_NEXT, "pthread_create");
    *(void **)&real.set_name = dlsym(RTLD_NEXT, "pthread_setname_np");
    *(void **)&real.exit = dlsym(RTLD_NEXT, "_exit");
    gs_modules_start();
    gs_find_gil_start(real.init);
    /* Last: it is the one whose presence is tested. */
    __atomic_store_n((void **)&real.timedwait, next_version("pthread_cond_timedwait"),
                     __ATOMIC_RELEASE);
}

static inline void ensure_resolved(void) {
    if (UNLIKELY(!real.timedwait))
        resolve();
}

/* ---- which are the GIL's ----------------------------------------------------------------------
 */

/* CPython's own have attributes, for the monotonic clock. Whose have none is not asked for: it may
 * be an allocator on its way up (jemalloc). */
static void cond_initialised(pthread_cond_t *cond, const pthread_condattr_t *attributes,
                             const void *caller) {
    if (!gs_gave_way_to)
        gs_process_revive();
    bool known = gs_watched_forget(cond); /* an interpreter that starts again, a fork's child */
    /* Recorded or not: atomic sections need its GIL. Not where the interpreter has its own probe.
     */
    if (!attributes || gs_gave_way_to || !gs_python_begins(caller))
        return;
    struct gs_gil_memory *gil = gs_find_gil(cond, caller, known);
    if (!gil)
        return;
    gs_process_describe("interposed", GS_GIL_FOUND | GS_LOCKS_TOLD);
    if (gs_watch(gil))
        __atomic_store_n(&on_signal, signal_watched, __ATOMIC_RELEASE);
    gs_process_watch_interval(&gil->interval);
}

const struct gs_gil *gs_held_gil(void) {
    const struct gs_watched *its = gs_watched_held();
    return its ? &its->gil : NULL;
}

struct gs_gil *gs_gil_in_hand(void) {
    struct gs_watched *its = gs_watched_held();
    return its ? &its->gil : NULL;
}

int gs_asked_to_yield(void) {
    const struct gs_watched *its = gs_watched_held();
    return its ? gs_request_pending(&its->gil) : -1;
}

/* ---- the wrapped calls ------------------------------------------------------------------------
 */

INTERPOSE int pthread_cond_init(pthread_cond_t *cond, const pthread_condattr_t *attributes) {
    ensure_resolved();
    int result = real.init(cond, attributes);
    int saved_errno = errno;
    cond_initialised(cond, attributes, __builtin_return_address(0));
    errno = saved_errno;
    return result;
}

INTERPOSE int pthread_cond_destroy(pthread_cond_t *cond) {
    ensure_resolved();
    struct gs_watched *its = gs_watched_by_cond(cond);
    if (its && its->scheduled)
        gs_schedule_end(gs_watched_slot(its));
    gs_watched_forget(cond);
    return real.destroy(cond);
}

/* After a release that somebody asked for, or that can teach where its caller stands. `stack`
 * begins with the return address into CPython. Returns whether it was forced; where that cannot be
 * told, whether it was asked for. */
__attribute__((cold, noinline)) static bool look_at_caller(bool requested, const uintptr_t *stack) {
    if (!requested) {
        gs_release_learn(stack);
        if (gs_release_can_tell() && gs_process.page)
            gs_process.page->interpreter |= GS_YIELDS_TOLD;
        return false;
    }
    if (!gs_release_can_tell())
        return true;
    if (!gs_release_was_forced(stack))
        return false;
    gs_on_yield();
    return true;
}

static inline void acquired(struct gs_watched *its) {
    gs_on_acquire(&its->gil);
    if (UNLIKELY(its->scheduled))
        gs_schedule_acquired(gs_watched_slot(its));
    else
        gs_request_answered(&its->gil);
}

/* Where the probe came late, of an interpreter with a GIL of its own that was there before. */
__attribute__((cold, noinline)) static void signal_unknown(pthread_cond_t *cond,
                                                           const void *caller) {
    struct gs_watched *its = gs_late_adopt(cond, caller);
    if (its)
        acquired(its);
}

/* Twice a turn of the GIL. Aligned, as the data that it reads: the code between two calls evicts
 * most of it, and each line that need not be fetched again is worth some nanoseconds. */
__attribute__((aligned(64), noinline)) static int signal_watched(pthread_cond_t *cond) {
    ensure_resolved();
    unsigned n = gs_n_watched;
    for (struct gs_watched *its = gs_watched; its < gs_watched + n; its++) {
        if (its->cond == cond) {
            gs_on_release(&its->gil);
            bool forced = false, asked = gs_request_pending(&its->gil);
            if (UNLIKELY(asked || gs_release_teaches(__builtin_return_address(0))))
                forced = look_at_caller(asked, (const uintptr_t *)__builtin_frame_address(0) + 1);
            if (UNLIKELY(its->scheduled) && gs_schedule_released(gs_watched_slot(its), forced))
                return 0;
            return real.signal(cond);
        }
        if (its->switch_cond == cond && its->cond) {
            if (UNLIKELY(!gs_watched_is_proved(its)) &&
                !gs_watched_prove(its, __builtin_return_address(0)))
                break;
            acquired(its);
            return real.signal(cond);
        }
    }
    if (gs_late_is_in())
        signal_unknown(cond, __builtin_return_address(0));
    return real.signal(cond);
}

/* A jump, not a call, so that signal_watched's frame lies where this one would. */
INTERPOSE __attribute__((aligned(64))) int pthread_cond_signal(pthread_cond_t *cond) {
    return __atomic_load_n(&on_signal, __ATOMIC_RELAXED)(cond);
}

INTERPOSE int pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex) {
    ensure_resolved();
    gs_writer_follow();
    struct gs_watched *its = gs_watched_by_switch_cond(cond);
    if (its && !gs_release_can_tell())
        gs_on_yield();
    else if (its && its->scheduled && gs_writer.last_forced &&
             gs_rule(GS_RULE_ONCE)) /* it waits for its own turn instead */
        return gs_schedule_wait_after_yield(gs_watched_slot(its), &its->gil, mutex);
    return real.wait(cond, mutex);
}

INTERPOSE int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
                                     const struct timespec *until) {
    ensure_resolved();
    struct gs_watched *its = gs_watched_by_cond(cond);
    if (!its)
        return real.timedwait(cond, mutex, until);
    struct gs_gil *gil = &its->gil;
    gs_on_wait(gil);
    uint64_t switches = gil->switches;
    uint32_t epoch = gs_writer.epoch;
    struct gs_own_wait own = {.timed_wait = real.timedwait, .cond = cond, .until = until};
    int result = gs_schedule_wait(gs_watched_slot(its), its->scheduled, mutex, &own);
    if (UNLIKELY(epoch != __atomic_load_n(&gs_process.epoch, __ATOMIC_ACQUIRE)))
        return result; /* the recording came or went meanwhile: late.h */
    if (result == ETIMEDOUT && gil->holder && gil->switches == switches)
        gs_on_request(gil);
    return result;
}

INTERPOSE int pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                             void *(*start)(void *), void *argument) {
    ensure_resolved();
    int saved_errno = errno;
    bool ours = gs_counting() && gs_python_owns(__builtin_return_address(0));
    char name[GS_NAME_BYTES] = "";
    if (ours && gs_watched_held()) { /* an extension may start a thread with the GIL given up */
        gs_name_new_thread(argument, name, sizeof name);
        gs_refresh_names();
    }
    gs_gil_thread_starts_another();
    errno = saved_errno;
    return ours ? gs_thread_create(thread, attributes, start, argument, name, real.create)
                : real.create(thread, attributes, start, argument);
}

/* Threads of C and C++ that tell the kernel their names, and from 3.14 on Thread.name = … */
INTERPOSE int pthread_setname_np(pthread_t thread, const char *name) {
    ensure_resolved();
    if (!real.set_name)
        return ENOSYS;
    int error = real.set_name(thread, name);
    const struct gs_api *other = gs_gave_way_to;
    if (error || (!other && !gs_counting()) || !pthread_equal(thread, pthread_self()))
        return error;
    int saved_errno = errno;
    if (other)
        other->thread_names_itself(name, false);
    else
        gs_thread_names_itself(name,
                               gs_python_owns(__builtin_return_address(0)) && gs_watched_held());
    errno = saved_errno;
    return 0;
}

/* os._exit, as every multiprocessing worker ends: no destructor runs, yet the end is known. */
INTERPOSE void _exit(int status) {
    ensure_resolved();
    if (gs_gave_way_to)
        gs_gave_way_to->process_end();
    else
        gs_process_end();
    real.exit(status);
}

GS_WRAPPER(_exit);

INTERPOSE void _Exit(int status) {
    gs_wrapper__exit(status);
}

GS_WRAPPER(pthread_cond_init);
GS_WRAPPER(pthread_cond_destroy);
GS_WRAPPER(pthread_cond_signal);
GS_WRAPPER(pthread_cond_wait);
GS_WRAPPER(pthread_cond_timedwait);
GS_WRAPPER(pthread_create);
GS_WRAPPER(pthread_setname_np);
GS_WRAPPER(_Exit);

const struct gs_wrapped gs_wrapped_exit[] = {
    GS_WRAPPED(_exit, &real.exit),
    GS_WRAPPED(_Exit, NULL),
    {NULL, NULL, NULL},
};

const struct gs_wrapped gs_wrapped_threads[] = {
    GS_WRAPPED(pthread_cond_init, &real.init),
    GS_WRAPPED(pthread_cond_destroy, &real.destroy),
    GS_WRAPPED(pthread_create, &real.create),
    GS_WRAPPED(pthread_setname_np, &real.set_name),
    GS_WRAPPED(pthread_cond_wait, &real.wait),
    GS_WRAPPED(pthread_cond_timedwait, &real.timedwait),
    GS_WRAPPED(pthread_cond_signal, &real.signal),
    {NULL, NULL, NULL},
};

/* ---- loading ----------------------------------------------------------------------------------
 */

void gs_feed_begins(void) {
    __atomic_store_n(&on_signal, signal_watched, __ATOMIC_RELEASE);
}

struct gs_process *gilscope_give_way(int abi_version, const struct gs_api *to) {
    if (abi_version != GS_ABI_VERSION)
        return NULL;
    gs_gave_way_to = to;
    gs_policy = GS_CLASSIC; /* the interpreter schedules its GIL itself */
    return &gs_process;
}

/* The version of Python Plus's, if it was not left to this feed. */
static const int *version_built_in(void) {
    const char *feed = getenv("GILSCOPE_FEED"); /* as built_in.c reads it */
    bool chosen = !feed || strcmp(feed, "interposed") != 0;
    return chosen ? dlsym(RTLD_DEFAULT, "gilscope_built_in") : NULL;
}

/* One of a version that can write this recording. */
static bool interpreter_has_a_probe(void) {
    const int *version = version_built_in();
    return gs_gave_way_to || (version && *version == GS_ABI_VERSION);
}

bool gs_interpreter_probe(const struct gs_api **found) {
    const int *version = version_built_in();
    bool known = version && *version == GS_ABI_VERSION;
    *found = known ? dlsym(RTLD_DEFAULT, "gilscope_built_in_api") : NULL;
    return !version || *found;
}

__attribute__((constructor)) static void load(void) {
    resolve();
    if (gs_n_watched == 0) /* unless another library's constructor started Python */
        __atomic_store_n(&on_signal, real.signal, __ATOMIC_RELAXED);
    gs_after_fork_in_child = gs_watched_after_fork;
    if (gilscope_late.state != GS_LATE_PRELOADED || interpreter_has_a_probe())
        return; /* the environment speaks to what is preloaded, not to what is opened late */
    gs_process_start();
    gs_policy_start();
    gs_schedule_start();
}

__attribute__((destructor)) static void unload(void) {
    gs_process_end();
}

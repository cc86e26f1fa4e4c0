/* The feed for Python Plus: what the patched interpreter calls.
 *
 * Each hook is one predictable branch on one global where nothing is recorded; what it does else is
 * in built_in.c. The patched files of CPython include this header and know nothing more of the
 * probe. It is plain C11, and C that CPython's own headers may precede.
 *
 * `storage` is the room that every GIL of the interpreter has for the probe (GS_GIL_WORDS words in
 * struct _gil_runtime_state). Hooks with a storage run under that GIL's mutex. */
#ifndef GILSCOPE_HOOKS_H
#define GILSCOPE_HOOKS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "switches.h"

#define GS_GIL_WORDS 64 /* as in patches/3.13/0002-gil.patch */

/* Why hooks have work, a bit each. */
enum { GS_HOOKS_RECORDING = 1, GS_HOOKS_LOCKS = 2, GS_HOOKS_CONDVAR = 4 };

/* What a thread blocks on beside the GIL. */
enum gs_blocker {
    GS_ON_PYMUTEX,
    GS_ON_THREAD_LOCK,
    GS_ON_INTERPRETER, /* whatever else parks: events, queues */
    GS_ON_CONDITION,   /* a PyMutex too: threading's Condition in Python makes a lock a wait */
};

#if GILSCOPE_WITH_PROBE

#pragma GCC visibility push(hidden)
/* Atomic: written when the process starts, and when a recording begins or ends. */
extern unsigned gs_hooks_on;
void gs_built_in_gil_created(uint64_t *storage, const unsigned long *interval, const void *holder,
                             pthread_cond_t *cond);
void gs_built_in_waits(uint64_t *storage);
void gs_built_in_leaves(uint64_t *storage);
void gs_built_in_requests(uint64_t *storage);
void gs_built_in_acquired(uint64_t *storage);
void gs_built_in_released(uint64_t *storage);
void gs_built_in_yields(void);
void gs_built_in_collects(void);
void gs_built_in_collected(void);
bool gs_built_in_holds_back(void);
bool gs_built_in_timed_wait(uint64_t *storage, pthread_mutex_t *mutex, unsigned long us);
bool gs_built_in_acquired_signals(uint64_t *storage);
bool gs_built_in_released_signals(uint64_t *storage, pthread_mutex_t *mutex);
void gs_built_in_switch_wait(uint64_t *storage, pthread_mutex_t *mutex,
                             pthread_mutex_t *switch_mutex);
void gs_built_in_gil_destroyed(uint64_t *storage, pthread_mutex_t *mutex);
void gs_built_in_slept(uint64_t ns);
bool gs_built_in_blocks(const void *object, enum gs_blocker on);
void gs_built_in_blocked(const void *object, enum gs_blocker on, bool gave_up);
void gs_built_in_wakes(const void *object, enum gs_blocker on, unsigned woken);
enum gs_blocker gs_built_in_mutex_at(const void *mutex);
void gs_built_in_condition_waits(const void *condition, const void *mutex);
void gs_built_in_condition_notifies(const void *condition, unsigned woken);
void gs_built_in_thread_named(uint32_t tid, const char *name);
/* The switches are known; before the first GIL is made. Returns what is wrong with them, in one
 * line; NULL: nothing. */
const char *gs_built_in_configure(void);
int gs_built_in_thread_create(pthread_t *thread, const pthread_attr_t *attributes,
                              void *(*start)(void *), void *argument);
#pragma GCC visibility pop

#define GS_HOOK(call)                                                                              \
    do {                                                                                           \
        if (__builtin_expect(gs_hooks_on != 0, 0))                                                 \
            call;                                                                                  \
    } while (0)

#else /* without the probe: nothing is left of a hook */

#define GS_HOOK(call) ((void)0)

#endif

/* create_gil, in a fork's child too; before any thread can use the GIL. The addresses of the GIL's
 * switch interval in µs, of its last_holder, of its condition variable. */
static inline void gs_hook_gil_created(uint64_t *storage, const unsigned long *interval,
                                       const void *holder, pthread_cond_t *cond) {
    (void)storage, (void)interval, (void)holder, (void)cond;
#if GILSCOPE_WITH_PROBE
    gs_built_in_gil_created(storage, interval, holder, cond);
#endif
}

/* take_gil, before each timed wait. */
static inline void gs_hook_waits(uint64_t *storage) {
    (void)storage;
    GS_HOOK(gs_built_in_waits(storage));
}

/* take_gil: the thread leaves its wait without the GIL, to exit. */
static inline void gs_hook_leaves(uint64_t *storage) {
    (void)storage;
    GS_HOOK(gs_built_in_leaves(storage));
}

/* take_gil: the drop request. */
static inline void gs_hook_requests(uint64_t *storage) {
    (void)storage;
    GS_HOOK(gs_built_in_requests(storage));
}

/* take_gil: the thread has it. */
static inline void gs_hook_acquired(uint64_t *storage) {
    (void)storage;
    GS_HOOK(gs_built_in_acquired(storage));
}

/* drop_gil: it is free; nobody was signalled yet. */
static inline void gs_hook_released(uint64_t *storage) {
    (void)storage;
    GS_HOOK(gs_built_in_released(storage));
}

/* Whether the three below stand in for the GIL's condition variables: a policy, or another kind of
 * condition variable, was chosen. */
static inline bool gs_hook_has_condvar(void) {
#if GILSCOPE_WITH_POLICIES
    return __builtin_expect(gs_hooks_on & GS_HOOKS_CONDVAR, 0);
#else
    return false;
#endif
}

#if GILSCOPE_WITH_POLICIES

/* take_gil: the timed wait on `cond`. Returns whether its time is up. */
static inline bool gs_hook_timed_wait(uint64_t *storage, pthread_mutex_t *mutex, unsigned long us) {
    return gs_built_in_timed_wait(storage, mutex, us);
}

/* drop_gil: the wait on `switch_cond`, with switch_mutex held. */
static inline void gs_hook_switch_wait(uint64_t *storage, pthread_mutex_t *mutex,
                                       pthread_mutex_t *switch_mutex) {
    gs_built_in_switch_wait(storage, mutex, switch_mutex);
}

/* destroy_gil, before anything is destroyed. */
static inline void gs_hook_gil_destroyed(uint64_t *storage, pthread_mutex_t *mutex) {
    gs_built_in_gil_destroyed(storage, mutex);
}

#else

#define gs_hook_timed_wait(storage, mutex, us)            ((void)(us), false)
#define gs_hook_switch_wait(storage, mutex, switch_mutex) ((void)0)
#define gs_hook_gil_destroyed(storage, mutex)             ((void)0)

#endif

/* The thread, which is without the GIL, has slept for so long. */
static inline void gs_hook_slept(uint64_t ns) {
    (void)ns;
#if GILSCOPE_WITH_POLICIES
    if (__builtin_expect(gs_hooks_on != 0, 0))
        gs_built_in_slept(ns);
#endif
}

/* gs_hook_acquired where take_gil signals `switch_cond`, and gs_hook_released where drop_gil
 * signals `cond`. One branch for both, off; returns whether the signal is done. */
static inline bool gs_hook_acquired_signals(uint64_t *storage) {
#if GILSCOPE_WITH_POLICIES
    return __builtin_expect(gs_hooks_on != 0, 0) && gs_built_in_acquired_signals(storage);
#else
    gs_hook_acquired(storage);
    return false;
#endif
}

static inline bool gs_hook_released_signals(uint64_t *storage, pthread_mutex_t *mutex) {
#if GILSCOPE_WITH_POLICIES
    return __builtin_expect(gs_hooks_on != 0, 0) && gs_built_in_released_signals(storage, mutex);
#else
    (void)mutex;
    gs_hook_released(storage);
    return false;
#endif
}

/* The evaluation loop's handler: the release that comes next in this thread is forced. */
static inline void gs_hook_yields(void) {
    GS_HOOK(gs_built_in_yields());
}

/* The same place, before: whether the thread is in an atomic section, so that the request stays
 * pending until the section is over. */
static inline bool gs_hook_holds_back(void) {
#if GILSCOPE_WITH_ATOMIC
    return gs_built_in_holds_back();
#else
    return false;
#endif
}

/* The collector, between the callbacks that it calls: a collection begins, is over. */
static inline void gs_hook_collects(void) {
    GS_HOOK(gs_built_in_collects());
}

static inline void gs_hook_collected(void) {
    GS_HOOK(gs_built_in_collected());
}

/* Whether waits for locks are told, for what a hook below needs prepared. */
static inline bool gs_hook_locks_on(void) {
#if GILSCOPE_WITH_LOCKS
    return __builtin_expect(gs_hooks_on & GS_HOOKS_LOCKS, 0);
#else
    return false;
#endif
}

/* The thread is about to block. True: it is told, and gs_hook_blocked must tell the end. */
static inline bool gs_hook_blocks(const void *object, enum gs_blocker on) {
    (void)object, (void)on;
#if GILSCOPE_WITH_LOCKS
    if (gs_hook_locks_on())
        return gs_built_in_blocks(object, on);
#endif
    return false;
}

/* It was woken, or gave up; it has not asked for the GIL again. */
static inline void gs_hook_blocked(const void *object, enum gs_blocker on, bool gave_up) {
    (void)object, (void)on, (void)gave_up;
#if GILSCOPE_WITH_LOCKS
    gs_built_in_blocked(object, on, gave_up);
#endif
}

/* Threads that block on the object are about to be woken. Any thread, with the GIL or without. */
static inline void gs_hook_wakes(const void *object, enum gs_blocker on, unsigned woken) {
    (void)object, (void)on, (void)woken;
#if GILSCOPE_WITH_LOCKS
    if (gs_hook_locks_on())
        gs_built_in_wakes(object, on, woken);
#endif
}

/* What the calling thread blocks on, where it is this PyMutex. */
static inline enum gs_blocker gs_hook_mutex_at(const void *mutex) {
    (void)mutex;
#if GILSCOPE_WITH_LOCKS
    if (gs_hook_locks_on())
        return gs_built_in_mutex_at(mutex);
#endif
    return GS_ON_PYMUTEX;
}

/* Until the next call the calling thread waits for a Condition by waiting for this PyMutex. */
static inline void gs_hook_condition_waits(const void *condition, const void *mutex) {
    (void)condition, (void)mutex;
#if GILSCOPE_WITH_LOCKS
    gs_built_in_condition_waits(condition, mutex);
#endif
}

/* A Condition in Python is about to wake so many. */
static inline void gs_hook_condition_notifies(const void *condition, unsigned woken) {
    (void)condition, (void)woken;
#if GILSCOPE_WITH_LOCKS
    if (gs_hook_locks_on())
        gs_built_in_condition_notifies(condition, woken);
#endif
}

/* In place of pthread_create. */
static inline int gs_hook_thread_create(pthread_t *thread, const pthread_attr_t *attributes,
                                        void *(*start)(void *), void *argument) {
#if GILSCOPE_WITH_PROBE
    if (__builtin_expect(gs_hooks_on != 0, 0))
        return gs_built_in_thread_create(thread, attributes, start, argument);
#endif
    return pthread_create(thread, attributes, start, argument);
}

#endif

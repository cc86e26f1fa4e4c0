#define _GNU_SOURCE
#include "gil_condvar.h"

#include <errno.h>
#include <sched.h>
#include <stddef.h>
#include <unistd.h>

#include "clock.h"
#include "emit.h"
#include "gil_hold.h"
#include "gil_queue.h"
#include "gil_thread.h"
#include "process.h"
#include "request.h"
#include "slice.h"
#include "windows.h"

enum {
    RECHECK_NS = 100000,     /* the first in line looks for itself, at first … */
    RECHECK_MAX_NS = 800000, /* … and at the least */
    LOOKOUT = 1024,          /* grants, from the last forced release of a cpu thread on */
};

static __thread struct gs_gil_thread self;

struct gs_gil_parameters gs_gil_parameters = {
    .grace = 5000, .quantum = 10000000, .spin = 25000, .stay = 1000000, .backend = GS_FUTEX};

static inline void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Its holder is about to let the mutex go. */
static void lock_soon(pthread_mutex_t *mutex) {
    for (unsigned i = 0; i < 100; i++) {
        if (pthread_mutex_trylock(mutex) == 0)
            return;
        relax();
    }
    pthread_mutex_lock(mutex);
}

/* ---- forks --------------------------------------------------------------------------------------
 */

static uint32_t forks; /* between the first process that used a GIL here and this one */

static void child_of_fork(void) {
    forks++;
}

/* Weak: another C library (musl) has no such function, and must still load this library. */
extern int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void),
                             void *object) __attribute__((weak));

void gs_gil_start(void) {
    static bool started;
    if (!started && __register_atfork)
        __register_atfork(NULL, NULL, child_of_fork, NULL);
    started = true;
}

/* In a fork's child all waiters are another process's threads, and so are those who asked. CPython
 * makes its GIL anew there; a child that was forked behind its back goes on with this one. */
static inline void forget_parent(struct gs_gil_condvar *condvar) {
    if (__builtin_expect(condvar->forks == forks, 1))
        return;
    gs_request_withdraw(condvar->gil);
    *condvar = (struct gs_gil_condvar){.gil = condvar->gil, .held = condvar->held, .forks = forks};
}

/* ---- taking -------------------------------------------------------------------------------------
 */

/* Whether there are io threads only (rule 8). A waiter that sits out a whole switch interval finds
 * a cpu thread all the same. */
static bool is_calm(const struct gs_gil_condvar *condvar, const struct gs_gil_thread *me) {
    return gs_rule(GS_RULE_CALM) && !condvar->lookout && !me->burst && !condvar->first[GS_CPU];
}

void gs_gil_acquired(struct gs_gil_condvar *condvar) {
    struct gs_gil_thread *me = &self;
    forget_parent(condvar);
    if (!me->begun) {
        me->begun = true;
        gs_slice_restore();
    }
    uint64_t now = is_calm(condvar, me) ? 0 : gs_clock_monotonic();
    if (now)
        gs_thread_learn(me, now);
    bool cpu = me->burst >= GS_CPU_NS;
    if (condvar->lookout)
        condvar->lookout--;
    enum gs_class served = me->waiting ? (enum gs_class)me->wait_class : GS_CLASSES;
    if (cpu && me->ticket) /* it may have found the GIL free, but it is still its turn */
        served = GS_CPU;
    for (unsigned class = 0; class < GS_CLASSES; class++) {
        if (class == served || !condvar->first[class])
            condvar->passed[class] = 0;
        else
            condvar->passed[class]++;
    }
    me->waiting = NULL;
    condvar->grants++;
    condvar->since = now;
    condvar->burst = me->burst;
    condvar->used = me->used;
    condvar->turn_ended = false;
    gs_request_answered(condvar->gil);
    if (cpu) {
        gs_owe(condvar, now);
        /* One that slept because the last holder had been asked already has this one to ask. */
        gs_queue_wake(condvar, gs_queue_first_asleep(condvar));
    }
    if (now)
        __atomic_store_n(&condvar->processor, sched_getcpu(), __ATOMIC_RELAXED);
    __atomic_store_n(&condvar->held, 1, __ATOMIC_RELAXED);
    gs_queue_wake_stalled(condvar);
}

/* ---- waiting ----------------------------------------------------------------------------------
 */

/* Without the mutex, until something may have changed or until `until`. Returns the time. */
static uint64_t spin(struct gs_gil_condvar *condvar, pthread_mutex_t *mutex,
                     const struct gs_waiter *waiter, uint64_t until) {
    bool cpu = waiter->class == GS_CPU;
    uint64_t now;
    condvar->spinning++;
    pthread_mutex_unlock(mutex);
    do {
        for (unsigned i = 0; i < 8; i++)
            relax();
        now = gs_clock_monotonic();
        if (__atomic_load_n(&condvar->held, __ATOMIC_RELAXED) &&
            __atomic_load_n(&condvar->processor, __ATOMIC_RELAXED) == sched_getcpu())
            break;
        if (cpu && __atomic_load_n(&condvar->io_waiting, __ATOMIC_RELAXED))
            break;
        if (!__atomic_load_n(&condvar->held, __ATOMIC_RELAXED) &&
            (!cpu || __atomic_load_n(&condvar->lazy_until, __ATOMIC_RELAXED) <= now))
            break;
    } while (now < until);
    lock_soon(mutex);
    condvar->spinning--;
    return now;
}

/* How long CPython would wait before it asks, ns. */
static uint64_t interval(const struct gs_own_wait *own, uint64_t now) {
    if (!own)
        return GS_INTERVAL_NS;
    uint64_t until = (uint64_t)own->until->tv_sec * 1000000000u + (uint64_t)own->until->tv_nsec;
    return until > now && until - now < GS_INTERVAL_NS ? until - now : GS_INTERVAL_NS;
}

static void begin_wait(struct gs_gil_condvar *condvar, struct gs_gil_thread *me,
                       const struct gs_own_wait *own, uint64_t now) {
    if (me->waiting == condvar)
        return;
    me->patience = me->slept && gs_rule(GS_RULE_POLLS) ? interval(own, now) : 0;
    gs_thread_learn(me, now);
    me->waiting = condvar;
    me->since = now;
    me->wait_class = me->burst >= GS_CPU_NS ? GS_CPU : GS_IO;
    if (me->wait_class == GS_CPU && !me->brief && gs_rule(GS_RULE_SLICE)) {
        me->brief = true;
        gs_slice_shorten();
    }
    if (me->wait_class == GS_IO || !me->ticket)
        me->ticket = ++condvar->tickets;
    if (me->wait_class == GS_CPU && !condvar->kept_since && !gs_holder_is_cpu(condvar, now))
        condvar->kept_since = now;
}

/* Returns whether CPython is to be told. */
static bool ask(struct gs_gil_condvar *condvar, uint64_t now) {
    condvar->asks_again = now + GS_INTERVAL_NS;
    return gs_request_ask(condvar->gil);
}

static int wait_until(struct gs_gil_condvar *condvar, pthread_mutex_t *mutex, bool may_ask,
                      uint64_t now, uint64_t end) {
    struct gs_gil_thread *me = &self;
    struct gs_waiter waiter = {
        .ticket = me->ticket, .class = (enum gs_class)me->wait_class, .number = gs_thread_number()};
    uint64_t spin_end = now + gs_gil_parameters.spin;
    uint64_t recheck = RECHECK_NS;
    uint64_t grants = condvar->grants;
    int result = 0;
    bool parker = false;
    gs_queue_insert(condvar, &waiter);
    while (now < end && !condvar->closing) {
        if (!condvar->since) /* nobody looked at the clock: as if the hold began now */
            condvar->since = now;
        if (!condvar->held) {
            if (gs_queue_may_take(condvar, &waiter, now))
                break;
        } else if (now >= gs_asks_at(condvar, &waiter, me)) {
            /* CPython takes the request for the holder that it saw before it called. */
            if (!may_ask || grants != condvar->grants)
                break;
            condvar->turn_ended = waiter.class == GS_CPU;
            if (ask(condvar, now)) {
                result = ETIMEDOUT;
                break;
            }
        }
        uint64_t look = gs_looks_at(condvar, &waiter, me, now, recheck);
        if (look > end)
            look = end;
        if (now < spin_end && gs_may_spin(condvar, &waiter, me, now)) {
            now = spin(condvar, mutex, &waiter, look < spin_end ? look : spin_end);
            continue;
        }
        if (!parker) {
            gs_parker_init(&waiter.parker, gs_gil_parameters.backend);
            parker = true;
        }
        waiter.parker.precise = gs_rule(GS_RULE_SLACK) && look < end;
        gs_queue_set_asleep(condvar, &waiter, look);
        gs_park(&waiter.parker, mutex, look);
        gs_queue_set_asleep(condvar, &waiter, 0);
        if (recheck < RECHECK_MAX_NS)
            recheck *= 2;
        now = gs_clock_monotonic();
    }
    gs_queue_remove(condvar, &waiter);
    if (parker)
        gs_parker_destroy(&waiter.parker);
    return result;
}

/* `own` is NULL for a thread that may not ask. */
static int wait_in_queue(struct gs_gil_condvar *condvar, pthread_mutex_t *mutex,
                         const struct gs_own_wait *own) {
    uint64_t now = gs_clock_monotonic();
    begin_wait(condvar, &self, own, now);
    return wait_until(condvar, mutex, own != NULL, now, now + GS_INTERVAL_NS);
}

/* On CPython's own condition variable, for its own interval (rule 8). */
static int wait_as_ever(struct gs_gil_condvar *condvar, pthread_mutex_t *mutex,
                        const struct gs_own_wait *own) {
    if (!condvar->since)
        condvar->since = gs_clock_monotonic();
    condvar->cond = own->cond;
    condvar->on_cond++;
    int result = own->timed_wait(own->cond, mutex, own->until);
    condvar->on_cond--;
    if (result == ETIMEDOUT && condvar->held && !ask(condvar, gs_clock_monotonic()))
        result = 0;
    return result;
}

/* Whoever died of a cancellation in here would leave the mutex locked, and nothing would go on any
 * more, as happens in CPython's own wait. It ends at its next blocking call instead. */
static int enter(struct gs_gil_condvar *condvar) {
    int cancel_state;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    forget_parent(condvar);
    condvar->inside++;
    return cancel_state;
}

static void leave(struct gs_gil_condvar *condvar, int cancel_state) {
    condvar->inside--;
    pthread_setcancelstate(cancel_state, &cancel_state);
}

int gs_gil_wait(struct gs_gil_condvar *condvar, pthread_mutex_t *mutex,
                const struct gs_own_wait *own) {
    if (condvar->closing) /* CPython looks after the interpreter's end where a wait's time is up */
        return ETIMEDOUT;
    int saved_errno = errno, cancel_state = enter(condvar);
    int result = is_calm(condvar, &self) ? wait_as_ever(condvar, mutex, own)
                                         : wait_in_queue(condvar, mutex, own);
    if (condvar->closing)
        result = ETIMEDOUT;
    leave(condvar, cancel_state);
    errno = saved_errno;
    return result;
}

void gs_gil_wait_after_yield(struct gs_gil_condvar *condvar, pthread_mutex_t *mutex) {
    int saved_errno = errno, cancel_state = enter(condvar);
    wait_in_queue(condvar, mutex, NULL);
    leave(condvar, cancel_state);
    errno = saved_errno;
}

/* ---- releasing --------------------------------------------------------------------------------
 */

void gs_gil_thread_yields(void) {
    self.yields = true;
}

void gs_gil_thread_slept(uint64_t ns) {
    self.slept = ns < GS_SHORT_SLEEP_NS;
}

/* Until the waiter that was passed over has the GIL (rule 7), or, for a thread that `gives` it
 * away, until anybody else has. */
static void stay_until_taken(struct gs_gil_condvar *condvar, pthread_mutex_t *mutex, uint64_t now,
                             bool gives) {
    struct gs_waiter here = {.next = condvar->stalled};
    uint64_t end = now + gs_gil_parameters.stay, grants = condvar->grants;
    int cancel_state = enter(condvar);
    gs_parker_init(&here.parker, gs_gil_parameters.backend);
    condvar->stalled = &here;
    while (((gives && condvar->grants == grants) || gs_queue_passed_over(condvar)) &&
           !condvar->closing && gs_park(&here.parker, mutex, end))
        ;
    struct gs_waiter **link = &condvar->stalled;
    while (*link != &here)
        link = &(*link)->next;
    *link = here.next;
    gs_parker_destroy(&here.parker);
    leave(condvar, cancel_state);
}

static void give_slice_back(struct gs_gil_thread *me) {
    if (me->brief)
        gs_slice_restore();
    me->brief = false;
}

void gs_gil_thread_starts_another(void) {
    give_slice_back(&self);
}

/* By itself: what it held before no longer counts. */
static void let_go(struct gs_gil_thread *me) {
    give_slice_back(me);
    me->burst = me->used = me->ticket = me->released_at = 0;
    me->returns = 0;
}

/* What the hold that ends here was, for its thread and for the threads that it kept waiting. */
static void account(struct gs_gil_condvar *condvar, struct gs_gil_thread *me, uint64_t now,
                    enum gs_release_kind kind) {
    uint64_t held = gs_held_for(condvar, now);
    bool cpu = gs_holder_is_cpu(condvar, now);
    if (cpu)
        condvar->owed = condvar->owed > held ? condvar->owed - held : 0;
    if (kind == GS_VOLUNTARY) {
        let_go(me);
    } else {
        /* Not at its first: a thread that lost its processor for as long is none that computes. */
        if (cpu && me->burst >= GS_CPU_NS)
            condvar->lookout = LOOKOUT;
        me->burst += held;
        me->used += held;
        me->returns++;
        if (condvar->turn_ended || me->used >= gs_quantum() || me->returns >= GS_RETURNS ||
            !gs_rule(GS_RULE_PLACE)) {
            me->used = 0;
            me->returns = 0;
            me->ticket = 0;
        }
    }
    if (cpu && (kind == GS_FORCED || condvar->first[GS_CPU]))
        condvar->kept_since = now;
}

/* Wakes the next in line, or, where the releaser will be back before that one could run, nobody. */
static void hand_over(struct gs_gil_condvar *condvar, struct gs_waiter *next, bool may_be_lazy,
                      uint64_t now) {
    bool lazy = may_be_lazy && gs_rule(GS_RULE_LAZY) && next->class == GS_CPU &&
                next->wakes_at <= now + 2 * RECHECK_NS;
    __atomic_store_n(&condvar->lazy_until, lazy ? now + GS_SHORT_NS : 0, __ATOMIC_RELAXED);
    /* The first io waiter may be awake and still on its way; another can be there before it. */
    if (next->class == GS_IO && !gs_queue_passed_over(condvar))
        next = gs_queue_first_asleep(condvar);
    if (!lazy && next && next->wakes_at) {
        if (condvar->gil->index != GS_NO_INDEX)
            gs_on_wakeup(condvar->gil, next->number);
        gs_queue_wake(condvar, next);
    }
}

bool gs_gil_released(struct gs_gil_condvar *condvar, pthread_mutex_t *mutex,
                     enum gs_release_kind kind) {
    struct gs_gil_thread *me = &self;
    bool gives = me->yields, comes_back = kind == GS_FORCED;
    me->yields = me->slept = false;
    forget_parent(condvar);
    __atomic_store_n(&condvar->held, 0, __ATOMIC_RELAXED);
    struct gs_waiter *next = gs_queue_next(condvar);
    if (gives &&
        gs_request_pending(condvar->gil)) /* at an end of its section: no will of its own */
        kind = GS_FORCED;
    /* One that gave the GIL away and is on its way back counts as waiting for who gives it next. */
    if (!next && kind == GS_VOLUNTARY &&
        !(gives && (condvar->stalled || condvar->on_cond))) { /* the common case needs no clock */
        let_go(me);
        condvar->kept_since = condvar->owed = 0;
        return false;
    }
    int saved_errno = errno;
    bool passed = gs_queue_passed_over(condvar) != NULL;
    if (next && kind == GS_VOLUNTARY && !passed && !gives && is_calm(condvar, me)) {
        let_go(me);
        hand_over(condvar, next, false, 0);
        errno = saved_errno;
        return true;
    }
    uint64_t now = gs_clock_monotonic();
    account(condvar, me, now, kind);
    if (gs_kept_too_long(condvar, now))
        condvar->passed[GS_CPU] = GS_CPU_TURNS;
    passed = gs_queue_passed_over(condvar) != NULL;
    next = gs_queue_next(condvar);
    if (kind == GS_VOLUNTARY)
        me->released_at = now;
    bool may_be_lazy = kind == GS_VOLUNTARY && !passed && !gives;
    if (next)
        hand_over(condvar, next, may_be_lazy && gs_thread_release_is_short(me), now);
    if (condvar->on_cond) /* from now on they queue here */
        pthread_cond_broadcast(condvar->cond);
    gs_window("a release");
    if (!comes_back && (passed || gives))
        stay_until_taken(condvar, mutex, now, gives);
    errno = saved_errno;
    return true;
}

/* ---- ends --------------------------------------------------------------------------------------
 */

void gs_gil_close(struct gs_gil_condvar *condvar, pthread_mutex_t *mutex) {
    pthread_mutex_lock(mutex);
    forget_parent(condvar);
    condvar->closing = true;
    for (int class = GS_IO; class < GS_CLASSES; class++)
        for (struct gs_waiter *waiter = condvar->first[class]; waiter; waiter = waiter->next)
            gs_queue_wake(condvar, waiter);
    gs_queue_wake_stalled(condvar);
    if (condvar->on_cond)
        pthread_cond_broadcast(condvar->cond);
    while (condvar->inside) {
        pthread_mutex_unlock(mutex);
        sched_yield();
        pthread_mutex_lock(mutex);
    }
    pthread_mutex_unlock(mutex);
}

#define _GNU_SOURCE
#include "gil_condvar.h"

#include <errno.h>
#include <sched.h>
#include <stddef.h>
#include <unistd.h>

#include "clock.h"
#include "emit.h"
#include "slice.h"

enum {
    SHORT_NS = 5000,           /* a release that ends within this is a short one */
    RECHECK_NS = 100000,       /* the first in line looks for itself, at first … */
    RECHECK_MAX_NS = 800000,   /* … and at the least */
    LONGEST_WAIT_NS = 5000000, /* inside one call: CPython looks after the interpreter's end */
    LOOKOUT = 1024,            /* grants, from the last forced release of a cpu thread on */
};
static const uint32_t turns[GS_CLASSES] = {[GS_IO] = GS_IO_TURNS, [GS_CPU] = GS_CPU_TURNS};
#define OWED_MAX_NS UINT64_C(5000000)
#define OWED_MORE   2u              /* half as much more, for what the changes themselves take */
#define PAID_MAX_NS UINT64_C(80000) /* by one hold, for each io thread that waits */
#define NEVER       UINT64_MAX

struct gs_waiter {
    struct gs_waiter *next, *previous; /* NULL, not linked at the ends */
    uint64_t ticket;
    uint64_t wakes_at; /* asleep until then at the latest; 0: awake */
    enum gs_class class;
    uint16_t number; /* of its thread, in what is recorded */
    struct gs_parker parker;
};

/* What a thread remembers, for whichever GIL it waits. Its own, but for last_holder's burst. */
struct gs_gil_thread {
    const struct gs_gil_condvar *waiting;
    uint64_t since;       /* ns; when its wait began */
    uint64_t ticket;      /* its place; kept from one call of a wait to the next */
    uint64_t burst;       /* ns held since it last let the GIL go by itself */
    uint64_t used;        /* ns of its quantum */
    uint64_t released_at; /* ns; 0: nothing to learn from */
    uint32_t returns;     /* with its place kept */
    uint16_t outcomes;    /* eight two-bit counters, by history: 2 and 3, the release is short */
    uint8_t history;      /* the last three: 1, it was short */
    uint8_t wait_class;   /* enum gs_class, of the present wait */
    bool yields;
    bool brief; /* its slice of the processor is short */
    bool begun; /* it has had a GIL */
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

/* ---- short and long releases, told as a processor tells its branches --------------------------
 * The outcomes of a thread's last three releases choose a counter, and the counter says what came
 * next the other times: a server that reads (long) and writes (short) by turns is soon known. */

static void learn(struct gs_gil_thread *me, uint64_t now) {
    if (!me->released_at)
        return;
    bool was_short = now - me->released_at < SHORT_NS;
    unsigned shift = 2u * (me->history & 7u);
    unsigned counter = me->outcomes >> shift & 3u;
    if (was_short ? counter < 3 : counter > 0)
        counter = was_short ? counter + 1 : counter - 1;
    me->outcomes = (uint16_t)((me->outcomes & ~(3u << shift)) | counter << shift);
    me->history = (uint8_t)(me->history << 1 | was_short);
    me->released_at = 0;
}

static bool release_is_short(const struct gs_gil_thread *me) {
    return me->outcomes >> 2u * (me->history & 7u) & 2u;
}

/* ---- the queue --------------------------------------------------------------------------------
 */

static void insert(struct gs_gil_condvar *condvar, struct gs_waiter *waiter) {
    struct gs_waiter **first = &condvar->first[waiter->class];
    struct gs_waiter **last = &condvar->last[waiter->class];
    struct gs_waiter *before = *last;
    while (before && before->ticket > waiter->ticket)
        before = before->previous;
    waiter->previous = before;
    waiter->next = before ? before->next : *first;
    *(before ? &before->next : first) = waiter;
    *(waiter->next ? &waiter->next->previous : last) = waiter;
    if (waiter->class == GS_IO)
        __atomic_store_n(&condvar->io_waiting, condvar->io_waiting + 1, __ATOMIC_RELAXED);
}

static void remove_waiter(struct gs_gil_condvar *condvar, struct gs_waiter *waiter) {
    *(waiter->previous ? &waiter->previous->next : &condvar->first[waiter->class]) = waiter->next;
    *(waiter->next ? &waiter->next->previous : &condvar->last[waiter->class]) = waiter->previous;
    if (waiter->class == GS_IO)
        __atomic_store_n(&condvar->io_waiting, condvar->io_waiting - 1, __ATOMIC_RELAXED);
}

static void set_asleep(struct gs_gil_condvar *condvar, struct gs_waiter *waiter,
                       uint64_t wakes_at) {
    if (waiter->class == GS_IO && !waiter->wakes_at != !wakes_at)
        condvar->io_asleep += wakes_at ? 1 : -1u;
    waiter->wakes_at = wakes_at;
}

/* The first io waiter that is not awake already, or NULL. */
static struct gs_waiter *first_asleep(const struct gs_gil_condvar *condvar) {
    struct gs_waiter *waiter = condvar->io_asleep ? condvar->first[GS_IO] : NULL;
    while (waiter && !waiter->wakes_at)
        waiter = waiter->next;
    return waiter;
}

static void wake(struct gs_gil_condvar *condvar, struct gs_waiter *waiter) {
    if (!waiter || !waiter->wakes_at)
        return;
    set_asleep(condvar, waiter, 0);
    gs_unpark(&waiter->parker);
}

/* The waiter that a release must be for (rule 7), or NULL. */
static struct gs_waiter *passed_over(const struct gs_gil_condvar *condvar) {
    for (int class = GS_CPU; class >= GS_IO; class--)
        if (condvar->passed[class] >= turns[class] && condvar->first[class])
            return condvar->first[class];
    return NULL;
}

static struct gs_waiter *next_in_line(const struct gs_gil_condvar *condvar) {
    struct gs_waiter *waiter = passed_over(condvar);
    if (waiter)
        return waiter;
    return condvar->first[GS_IO] ? condvar->first[GS_IO] : condvar->first[GS_CPU];
}

/* The GIL is free. An io waiter that is awake need not be the first: to wake that one takes time.
 */
static bool may_take(const struct gs_gil_condvar *condvar, const struct gs_waiter *waiter,
                     uint64_t now) {
    const struct gs_waiter *passed = passed_over(condvar);
    if (passed)
        return passed == waiter;
    return waiter->class == GS_IO ||
           (!condvar->first[GS_IO] && !waiter->previous && now >= condvar->lazy_until);
}

/* ---- the present hold -------------------------------------------------------------------------
 */

static uint64_t held_for(const struct gs_gil_condvar *condvar, uint64_t now) {
    return condvar->since && now > condvar->since ? now - condvar->since : 0;
}

static bool holder_is_cpu(const struct gs_gil_condvar *condvar, uint64_t now) {
    return condvar->burst + held_for(condvar, now) >= GS_CPU_NS;
}

/* Those that wait, as far as they count (rules 3 and 9). */
static uint64_t io_threads(const struct gs_gil_condvar *condvar) {
    return condvar->io_waiting < GS_KEPT_THREADS ? condvar->io_waiting : GS_KEPT_THREADS;
}

/* How long io threads may keep a cpu thread from the GIL, ns (rule 9). */
static uint64_t may_be_kept(const struct gs_gil_condvar *condvar) {
    uint64_t threads = io_threads(condvar);
    return GS_KEPT_NS + (threads > 1 ? (threads - 1) * GS_KEPT_MORE_NS : 0);
}

/* When `waiter` is to ask the holder to yield; NEVER where somebody else has or will. */
static uint64_t asks_at(const struct gs_gil_condvar *condvar, const struct gs_waiter *waiter) {
    if (condvar->requested || !condvar->held)
        return NEVER;
    uint64_t becomes_cpu =
        condvar->since + (condvar->burst < GS_CPU_NS ? GS_CPU_NS - condvar->burst : 0);
    if (waiter->class == GS_IO) {
        /* Who shares the holder's processor keeps it from running: a grace would be for nobody. */
        bool shares = condvar->processor == sched_getcpu();
        uint64_t patient = self.since + (shares ? 0 : gs_gil_parameters.grace);
        uint64_t most = PAID_MAX_NS * io_threads(condvar); /* `waiter` is one of them */
        uint64_t paid = condvar->since + (condvar->owed < most ? condvar->owed : most);
        uint64_t at = patient > paid ? patient : paid;
        return at > becomes_cpu ? at : becomes_cpu;
    }
    if (waiter->previous)
        return NEVER;
    uint64_t quantum = gs_gil_parameters.quantum;
    return condvar->since + (condvar->used < quantum ? quantum - condvar->used : 0);
}

/* Whether there are io threads only (rule 8). A waiter that sits out a whole LONGEST_WAIT_NS finds
 * a cpu thread all the same. */
static bool is_calm(const struct gs_gil_condvar *condvar, const struct gs_gil_thread *me) {
    return !condvar->lookout && !me->burst && !condvar->first[GS_CPU];
}

void gs_gil_acquired(struct gs_gil_condvar *condvar) {
    struct gs_gil_thread *me = &self;
    if (!me->begun) {
        me->begun = true;
        gs_slice_restore();
    }
    uint64_t now = is_calm(condvar, me) ? 0 : gs_clock_monotonic();
    if (now)
        learn(me, now);
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
    condvar->requested = condvar->turn_ended = false;
    if (cpu) {
        if (condvar->kept_since) {
            uint64_t kept = now - condvar->kept_since;
            uint64_t threads = io_threads(condvar);
            condvar->owed += (kept + kept / OWED_MORE) / (threads ? threads : 1);
            if (condvar->owed > OWED_MAX_NS)
                condvar->owed = OWED_MAX_NS;
        }
        condvar->kept_since = 0;
        /* One that slept because the last holder had been asked already has this one to ask. */
        wake(condvar, first_asleep(condvar));
    }
    if (now)
        __atomic_store_n(&condvar->processor, sched_getcpu(), __ATOMIC_RELAXED);
    __atomic_store_n(&condvar->held, 1, __ATOMIC_RELAXED);
    for (struct gs_waiter *stalled = condvar->stalled; stalled; stalled = stalled->next)
        gs_unpark(&stalled->parker);
}

/* ---- waiting ----------------------------------------------------------------------------------
 */

/* Whether the waiter should rather stay awake for what comes next: one thread at most, and an io
 * thread before a cpu thread. */
static bool may_spin(const struct gs_gil_condvar *condvar, const struct gs_waiter *waiter,
                     uint64_t now) {
    if (condvar->held && condvar->processor == sched_getcpu())
        return false;
    if (waiter->class == GS_IO)
        return condvar->spinning == 0 && holder_is_cpu(condvar, now);
    return condvar->spinning == 0 && !condvar->first[GS_IO] && !waiter->previous &&
           (!condvar->held || !holder_is_cpu(condvar, now));
}

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

static void begin_wait(struct gs_gil_condvar *condvar, struct gs_gil_thread *me, uint64_t now) {
    if (me->waiting == condvar)
        return;
    learn(me, now);
    me->waiting = condvar;
    me->since = now;
    me->wait_class = me->burst >= GS_CPU_NS ? GS_CPU : GS_IO;
    if (me->wait_class == GS_CPU && !me->brief) {
        me->brief = true;
        gs_slice_shorten();
    }
    if (me->wait_class == GS_IO || !me->ticket)
        me->ticket = ++condvar->tickets;
    if (me->wait_class == GS_CPU && !condvar->kept_since && !holder_is_cpu(condvar, now))
        condvar->kept_since = now;
}

/* When a waiter that sleeps has to look again although nobody wakes it. */
static uint64_t looks_at(const struct gs_gil_condvar *condvar, const struct gs_waiter *waiter,
                         uint64_t now, uint64_t recheck) {
    uint64_t at = asks_at(condvar, waiter);
    /* Whoever releases it wakes it. A timer that ends before the kernel's next tick has the
     * hardware's set twice, which takes a pair of threads as long as half of all else that it does:
     * not in vain. */
    if (waiter->class == GS_IO)
        return condvar->lookout || holder_is_cpu(condvar, now) ? at : NEVER;
    if (waiter->previous)
        return at;
    if (!condvar->held || !holder_is_cpu(condvar, now) || condvar->requested) {
        uint64_t again = now + recheck;
        if (!condvar->held && condvar->lazy_until > now && condvar->lazy_until < again)
            again = condvar->lazy_until;
        return at < again ? at : again;
    }
    return at;
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
    insert(condvar, &waiter);
    for (; now < end;) {
        if (!condvar->since) /* nobody looked at the clock: as if the hold began now */
            condvar->since = now;
        if (!condvar->held) {
            if (may_take(condvar, &waiter, now))
                break;
        } else if (now >= asks_at(condvar, &waiter)) {
            /* CPython takes the request for the holder that it saw before it called. */
            if (may_ask && grants == condvar->grants) {
                condvar->requested = true;
                condvar->turn_ended = waiter.class == GS_CPU;
                result = ETIMEDOUT;
            }
            break;
        }
        uint64_t look = looks_at(condvar, &waiter, now, recheck);
        if (look > end)
            look = end;
        if (now < spin_end && may_spin(condvar, &waiter, now)) {
            now = spin(condvar, mutex, &waiter, look < spin_end ? look : spin_end);
            continue;
        }
        if (!parker) {
            gs_parker_init(&waiter.parker, gs_gil_parameters.backend);
            parker = true;
        }
        waiter.parker.precise = look < end;
        set_asleep(condvar, &waiter, look);
        gs_park(&waiter.parker, mutex, look);
        set_asleep(condvar, &waiter, 0);
        if (recheck < RECHECK_MAX_NS)
            recheck *= 2;
        now = gs_clock_monotonic();
    }
    remove_waiter(condvar, &waiter);
    if (parker)
        gs_parker_destroy(&waiter.parker);
    return result;
}

static int wait_in_queue(struct gs_gil_condvar *condvar, pthread_mutex_t *mutex, bool may_ask) {
    int saved_errno = errno;
    uint64_t now = gs_clock_monotonic();
    begin_wait(condvar, &self, now);
    int result = wait_until(condvar, mutex, may_ask, now, now + LONGEST_WAIT_NS);
    errno = saved_errno;
    return result;
}

/* Whoever died of a cancellation in here would leave the mutex locked, and nothing would go on any
 * more, as happens in CPython's own wait. It ends at its next blocking call instead. */
int gs_gil_wait(struct gs_gil_condvar *condvar, pthread_mutex_t *mutex,
                const struct gs_own_wait *own) {
    int cancel_state, result;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    if (is_calm(condvar, &self)) {
        if (!condvar->since)
            condvar->since = gs_clock_monotonic();
        condvar->cond = own->cond;
        condvar->on_cond++;
        result = own->timed_wait(own->cond, mutex, own->until);
        condvar->on_cond--;
    } else {
        result = wait_in_queue(condvar, mutex, true);
    }
    pthread_setcancelstate(cancel_state, &cancel_state);
    return result;
}

void gs_gil_wait_after_yield(struct gs_gil_condvar *condvar, pthread_mutex_t *mutex) {
    int cancel_state;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    wait_in_queue(condvar, mutex, false);
    pthread_setcancelstate(cancel_state, &cancel_state);
}

/* ---- releasing --------------------------------------------------------------------------------
 */

void gs_gil_thread_yields(void) {
    self.yields = true;
}

/* Until the waiter that was passed over has the GIL (rule 7), or, for a thread that `gives` it
 * away, until anybody else has. */
static void stay_until_taken(struct gs_gil_condvar *condvar, pthread_mutex_t *mutex, uint64_t now,
                             bool gives) {
    struct gs_waiter here = {.next = condvar->stalled};
    uint64_t end = now + gs_gil_parameters.stay, grants = condvar->grants;
    int cancel_state;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    gs_parker_init(&here.parker, gs_gil_parameters.backend);
    condvar->stalled = &here;
    while (((gives && condvar->grants == grants) || passed_over(condvar)) &&
           gs_park(&here.parker, mutex, end))
        ;
    for (struct gs_waiter **link = &condvar->stalled; *link; link = &(*link)->next)
        if (*link == &here) {
            *link = here.next;
            break;
        }
    gs_parker_destroy(&here.parker);
    pthread_setcancelstate(cancel_state, &cancel_state);
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
    uint64_t held = held_for(condvar, now);
    bool cpu = holder_is_cpu(condvar, now);
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
        if (condvar->turn_ended || me->used >= gs_gil_parameters.quantum ||
            me->returns >= GS_RETURNS) {
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
    bool lazy = may_be_lazy && next->class == GS_CPU && next->wakes_at <= now + 2 * RECHECK_NS;
    __atomic_store_n(&condvar->lazy_until, lazy ? now + SHORT_NS : 0, __ATOMIC_RELAXED);
    /* The first io waiter may be awake and still on its way; another can be there before it. */
    if (next->class == GS_IO && !passed_over(condvar))
        next = first_asleep(condvar);
    if (!lazy && next && next->wakes_at) {
        if (condvar->gil)
            gs_on_wakeup(condvar->gil, next->number);
        wake(condvar, next);
    }
}

bool gs_gil_released(struct gs_gil_condvar *condvar, pthread_mutex_t *mutex,
                     enum gs_release_kind kind) {
    struct gs_gil_thread *me = &self;
    bool gives = me->yields, voluntary = kind == GS_VOLUNTARY;
    me->yields = false;
    __atomic_store_n(&condvar->held, 0, __ATOMIC_RELAXED);
    struct gs_waiter *next = next_in_line(condvar);
    /* One that gave the GIL away and is on its way back counts as waiting for who gives it next. */
    if (!next && voluntary &&
        !(gives && (condvar->stalled || condvar->on_cond))) { /* the common case needs no clock */
        let_go(me);
        condvar->kept_since = condvar->owed = 0;
        return false;
    }
    int saved_errno = errno;
    bool passed = passed_over(condvar) != NULL;
    if (next && voluntary && !passed && !gives && is_calm(condvar, me)) {
        let_go(me);
        hand_over(condvar, next, false, 0);
        errno = saved_errno;
        return true;
    }
    uint64_t now = gs_clock_monotonic();
    account(condvar, me, now, kind);
    if (condvar->kept_since && now - condvar->kept_since >= may_be_kept(condvar))
        condvar->passed[GS_CPU] = GS_CPU_TURNS;
    passed = passed_over(condvar) != NULL;
    next = next_in_line(condvar);
    if (voluntary)
        me->released_at = now;
    if (next)
        hand_over(condvar, next, voluntary && !passed && !gives && release_is_short(me), now);
    if (condvar->on_cond) /* from now on they queue here */
        pthread_cond_broadcast(condvar->cond);
    if (voluntary && (passed || gives))
        stay_until_taken(condvar, mutex, now, gives);
    errno = saved_errno;
    return true;
}

void gs_gil_after_fork(struct gs_gil_condvar *condvar) {
    *condvar = (struct gs_gil_condvar){.gil = condvar->gil, .held = condvar->held};
}

void gs_gil_close(struct gs_gil_condvar *condvar, pthread_mutex_t *mutex) {
    pthread_mutex_lock(mutex);
    condvar->passed[GS_IO] = condvar->passed[GS_CPU] = 0;
    for (struct gs_waiter *stalled = condvar->stalled; stalled; stalled = stalled->next)
        gs_unpark(&stalled->parker);
    while (condvar->stalled) {
        pthread_mutex_unlock(mutex);
        relax();
        pthread_mutex_lock(mutex);
    }
    pthread_mutex_unlock(mutex);
}

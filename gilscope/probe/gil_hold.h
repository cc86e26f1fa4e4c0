/* The present hold of a GIL, for gil_condvar.c: when its waiters ask for it, what cpu threads are
 * owed, who may stay awake (rules 2, 3, 4, 5 and 9 of gil_condvar.h).
 *
 * All of it runs with the GIL's mutex held. */
#ifndef GILSCOPE_GIL_HOLD_H
#define GILSCOPE_GIL_HOLD_H

#include <sched.h>

#include "gil_queue.h"
#include "gil_thread.h"
#include "request.h"

#define GS_OWED_MAX_NS UINT64_C(5000000)
#define GS_OWED_MORE   2u              /* half as much more, for what the changes themselves take */
#define GS_PAID_MAX_NS UINT64_C(80000) /* by one hold, for each io thread that waits */

/* Inside one call, as CPython's own wait has it; a request is made again after as long. */
#define GS_INTERVAL_NS UINT64_C(5000000)
#define GS_NEVER       UINT64_MAX

static inline uint64_t gs_held_for(const struct gs_gil_condvar *condvar, uint64_t now) {
    return condvar->since && now > condvar->since ? now - condvar->since : 0;
}

static inline bool gs_holder_is_cpu(const struct gs_gil_condvar *condvar, uint64_t now) {
    return condvar->burst + gs_held_for(condvar, now) >= GS_CPU_NS;
}

/* Those that wait, as far as they count (rules 3 and 9). */
static inline uint64_t gs_io_threads(const struct gs_gil_condvar *condvar) {
    return condvar->io_waiting < GS_KEPT_THREADS ? condvar->io_waiting : GS_KEPT_THREADS;
}

/* Whether io threads have kept a cpu thread from the GIL for as long as they may (rule 9). */
static inline bool gs_kept_too_long(const struct gs_gil_condvar *condvar, uint64_t now) {
    uint64_t threads = gs_io_threads(condvar);
    uint64_t may_be = GS_KEPT_NS + (threads > 1 ? (threads - 1) * GS_KEPT_MORE_NS : 0);
    return gs_rule(GS_RULE_KEPT) && condvar->kept_since && now - condvar->kept_since >= may_be;
}

/* A cpu thread has the GIL: what it was kept from it is owed now (rule 3). */
static inline void gs_owe(struct gs_gil_condvar *condvar, uint64_t now) {
    if (condvar->kept_since && gs_rule(GS_RULE_DEBT)) {
        uint64_t kept = now - condvar->kept_since;
        uint64_t threads = gs_io_threads(condvar);
        condvar->owed += (kept + kept / GS_OWED_MORE) / (threads ? threads : 1);
        if (condvar->owed > GS_OWED_MAX_NS)
            condvar->owed = GS_OWED_MAX_NS;
    }
    condvar->kept_since = 0;
}

/* How long a cpu thread may hold before it is another's turn (rule 4). */
static inline uint64_t gs_quantum(void) {
    return gs_rule(GS_RULE_QUANTUM) ? gs_gil_parameters.quantum : GS_INTERVAL_NS;
}

/* When the io waiter `me` is to ask: a cpu holder after a grace, once it has been paid (rule 2). */
static inline uint64_t gs_io_asks_at(const struct gs_gil_condvar *condvar,
                                     const struct gs_gil_thread *me) {
    uint64_t becomes_cpu =
        condvar->since + (condvar->burst < GS_CPU_NS ? GS_CPU_NS - condvar->burst : 0);
    /* Who shares the holder's processor keeps it from running: a grace would be for nobody. */
    bool shares = condvar->processor == sched_getcpu();
    uint64_t grace = shares || !gs_rule(GS_RULE_GRACE) ? 0 : gs_gil_parameters.grace;
    uint64_t patient = me->since + (me->patience ? me->patience : grace);
    uint64_t most = GS_PAID_MAX_NS * gs_io_threads(condvar); /* `me` is one of them */
    uint64_t paid = condvar->since + (condvar->owed < most ? condvar->owed : most);
    uint64_t at = patient > paid ? patient : paid;
    if (!gs_rule(GS_RULE_EARLY))
        return condvar->since + GS_INTERVAL_NS;
    return at > becomes_cpu ? at : becomes_cpu;
}

/* When `waiter`, which is of the thread `me`, is to ask the holder to yield; GS_NEVER where
 * somebody else has or will. */
static inline uint64_t gs_asks_at(const struct gs_gil_condvar *condvar,
                                  const struct gs_waiter *waiter, const struct gs_gil_thread *me) {
    if (!condvar->held)
        return GS_NEVER;
    if (gs_request_pending(condvar->gil))
        return condvar->asks_again;
    if (waiter->class == GS_IO)
        return gs_io_asks_at(condvar, me);
    if (waiter->previous)
        return GS_NEVER;
    uint64_t quantum = gs_quantum();
    return condvar->since + (condvar->used < quantum ? quantum - condvar->used : 0);
}

/* Whether the waiter should rather stay awake for what comes next: one thread at most, and an io
 * thread before a cpu thread. */
static inline bool gs_may_spin(const struct gs_gil_condvar *condvar, const struct gs_waiter *waiter,
                               const struct gs_gil_thread *me, uint64_t now) {
    if (!gs_rule(GS_RULE_SPIN) || me->patience ||
        (condvar->held && condvar->processor == sched_getcpu()))
        return false;
    if (waiter->class == GS_IO)
        return condvar->spinning == 0 && gs_holder_is_cpu(condvar, now);
    return condvar->spinning == 0 && !condvar->first[GS_IO] && !waiter->previous &&
           (!condvar->held || !gs_holder_is_cpu(condvar, now));
}

/* When a waiter that sleeps has to look again although nobody wakes it; `recheck`: how long the
 * first in line sleeps where nobody may wake it. */
static inline uint64_t gs_looks_at(const struct gs_gil_condvar *condvar,
                                   const struct gs_waiter *waiter, const struct gs_gil_thread *me,
                                   uint64_t now, uint64_t recheck) {
    uint64_t at = gs_asks_at(condvar, waiter, me);
    /* Whoever releases it wakes it. A timer that ends before the kernel's next tick has the
     * hardware's set twice, which takes a pair of threads as long as half of all else that it does:
     * not in vain. */
    if (waiter->class == GS_IO)
        return condvar->lookout || gs_holder_is_cpu(condvar, now) ? at : GS_NEVER;
    if (waiter->previous)
        return at;
    if (!condvar->held || !gs_holder_is_cpu(condvar, now) || gs_request_pending(condvar->gil)) {
        uint64_t again = now + recheck;
        if (!condvar->held && condvar->lazy_until > now && condvar->lazy_until < again)
            again = condvar->lazy_until;
        return at < again ? at : again;
    }
    return at;
}

#endif

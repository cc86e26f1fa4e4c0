/* Who waits for a GIL, for gil_condvar.c: a list for each class, in the order of arrival, and whose
 * turn it is (rules 1 and 7 of gil_condvar.h).
 *
 * All of it runs with the GIL's mutex held. A waiter's node lies on its own stack. */
#ifndef GILSCOPE_GIL_QUEUE_H
#define GILSCOPE_GIL_QUEUE_H

#include <stddef.h>

#include "gil_condvar.h"
#include "rules.h"

struct gs_waiter {
    struct gs_waiter *next, *previous; /* NULL, not linked at the ends */
    uint64_t ticket;
    uint64_t wakes_at; /* asleep until then at the latest; 0: awake */
    enum gs_class class;
    uint16_t number; /* of its thread, in what is recorded */
    struct gs_parker parker;
};

static inline void gs_queue_insert(struct gs_gil_condvar *condvar, struct gs_waiter *waiter) {
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

static inline void gs_queue_remove(struct gs_gil_condvar *condvar, struct gs_waiter *waiter) {
    *(waiter->previous ? &waiter->previous->next : &condvar->first[waiter->class]) = waiter->next;
    *(waiter->next ? &waiter->next->previous : &condvar->last[waiter->class]) = waiter->previous;
    if (waiter->class == GS_IO)
        __atomic_store_n(&condvar->io_waiting, condvar->io_waiting - 1, __ATOMIC_RELAXED);
}

static inline void gs_queue_set_asleep(struct gs_gil_condvar *condvar, struct gs_waiter *waiter,
                                       uint64_t wakes_at) {
    if (waiter->class == GS_IO && !waiter->wakes_at != !wakes_at)
        condvar->io_asleep += wakes_at ? 1 : -1u;
    waiter->wakes_at = wakes_at;
}

/* The first io waiter that is not awake already, or NULL. */
static inline struct gs_waiter *gs_queue_first_asleep(const struct gs_gil_condvar *condvar) {
    struct gs_waiter *waiter = condvar->io_asleep ? condvar->first[GS_IO] : NULL;
    while (waiter && !waiter->wakes_at)
        waiter = waiter->next;
    return waiter;
}

static inline void gs_queue_wake(struct gs_gil_condvar *condvar, struct gs_waiter *waiter) {
    if (!waiter || !waiter->wakes_at)
        return;
    gs_queue_set_asleep(condvar, waiter, 0);
    gs_unpark(&waiter->parker);
}

static inline void gs_queue_wake_stalled(struct gs_gil_condvar *condvar) {
    for (struct gs_waiter *stalled = condvar->stalled; stalled; stalled = stalled->next)
        gs_unpark(&stalled->parker);
}

/* The waiter that a release must be for (rule 7), or NULL. */
static inline struct gs_waiter *gs_queue_passed_over(const struct gs_gil_condvar *condvar) {
    static const uint32_t turns[GS_CLASSES] = {[GS_IO] = GS_IO_TURNS, [GS_CPU] = GS_CPU_TURNS};
    for (int class = GS_CPU; class >= GS_IO; class --)
        if (condvar->passed[class] >= turns[class] && condvar->first[class])
            return condvar->first[class];
    return NULL;
}

static inline struct gs_waiter *gs_queue_next(const struct gs_gil_condvar *condvar) {
    struct gs_waiter *passed = gs_queue_passed_over(condvar);
    struct gs_waiter *io = condvar->first[GS_IO], *cpu = condvar->first[GS_CPU];
    if (passed)
        return passed;
    if (!gs_rule(GS_RULE_CLASSES) && io && cpu)
        return io->ticket < cpu->ticket ? io : cpu;
    return io ? io : cpu;
}

/* The GIL is free. An io waiter that is awake need not be the first: to wake that one takes time.
 */
static inline bool gs_queue_may_take(const struct gs_gil_condvar *condvar,
                                     const struct gs_waiter *waiter, uint64_t now) {
    const struct gs_waiter *passed = gs_queue_passed_over(condvar);
    if (passed)
        return passed == waiter;
    if (!gs_rule(GS_RULE_CLASSES))
        return gs_queue_next(condvar) == waiter;
    return waiter->class == GS_IO ||
           (!condvar->first[GS_IO] && !waiter->previous && now >= condvar->lazy_until);
}

#endif

/* The lock and the condition under gilscope's Condition, without Python.
 *
 * Actors: threads that hold the *outer lock*, one at a time: the GIL, or a mutex in the tests. All
 * that stands here is read and written under it, so nothing is atomic but the word that a thread
 * sleeps on. The includer defines before:
 *
 *     struct gs_outer                         what is kept while the outer lock is let go
 *     gs_outer_release(struct gs_outer *)     lets it go
 *     gs_outer_acquire(struct gs_outer *)     takes it back
 *     gs_outer_wake(uint32_t *word)           wakes who sleeps on it, now or when the outer lock is
 *                                             let go: before, it could not go on
 *     gs_outer_interrupted()                  whether a signal ends the wait with an error
 *     gs_outer_is_last()                      whether no other thread will ever have it again
 *     gs_note(kind, object, detail)           tells the trace: a lock.* or cond.* event
 *
 * Invariants:
 *  - A waiter is in one queue at most. Waking it is the last thing that is done for it.
 *  - A waiter whose thread runs other code meanwhile (a signal's handler) is `away`: it keeps its
 *    place, looks by itself when it is back, and is passed over until then, as its thread may wait
 *    for the same lock once more, or for somebody who does.
 *  - Of a lock's queue only the first that is not away is woken, and `woken` says that it is on its
 *    way: a lock that is taken and released meanwhile wakes nobody.
 *  - Behind a free lock the first that is not away is woken.
 *  - A notified waiter is moved from the condition's queue to the lock's (wait morphing): it sleeps
 *    on until the lock is free, so it is woken once, and notify_all wakes one thread, not all.
 *  - Waking does not hand the lock over: whoever runs may take it first (the woken head keeps its
 *    place). A hand-over would make a thread that takes the lock again switch every time.
 *  - Not for ever: GS_PATIENCE_NS after the queue was first passed over, the next release *keeps*
 *    the lock. One that is kept may be taken by the first that is not away alone; that one is
 * woken, and takes it before it does anything else, its time being up or not. So who went before it
 * has to wait, and lets the outer lock go. That somebody was passed over is the lock's to remember:
 *    whoever waits for a short time, again and again, has its turn too. With n waiters before it a
 *    thread has the lock after n + 1 times GS_PATIENCE_NS, three of the longest sections and what
 *    the outer lock needs to come to it. */
#ifndef GILSCOPE_CORE_H
#define GILSCOPE_CORE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "../probe/event_abi.h"
#include "forks.h"
#include "../probe/word.h"

struct gs_waiter {
    struct gs_waiter *next, *previous;
    struct gs_queue *queue; /* that it is in, or NULL */
    uintptr_t thread;
    uint32_t forks; /* gs_forks.count when the wait began */
    uint32_t word;  /* see word.h */
    bool woken;     /* `word` is set */
    bool notified;  /* by gs_condition_notify */
    bool away;
};

/* Looked at through gs_queue_head: a fork may have ended those who stand in it. */
struct gs_queue {
    struct gs_waiter *head, *tail;
    size_t length;
    uint32_t forks; /* gs_forks.count when it was last seen to hold living threads alone */
};

/* The price of a switch is some 30 us, so little of it; and it is little of the 5 ms for which
 * CPython lets a thread have the GIL, which is what a woken thread waits for. */
#define GS_PATIENCE_NS 200000

/* The owner of a lock that is kept for its queue's first; no thread is named so. */
#define GS_KEPT UINTPTR_MAX

struct gs_lock {
    uintptr_t owner; /* 0: free; GS_KEPT */
    unsigned long count;
    int64_t passed_over; /* when its queue was first; 0: not since one of it had the lock */
    struct gs_queue queue;
};

enum gs_outcome { GS_GOT, GS_TIMED_OUT, GS_INTERRUPTED, GS_NO_MEMORY };

#define GS_NEVER INT64_C(-1) /* as a deadline */

/* ---- queues ----------------------------------------------------------------------------------
 */

static inline void gs_queue_remove(struct gs_waiter *waiter) {
    struct gs_queue *queue = waiter->queue;
    if (!queue)
        return;
    *(waiter->previous ? &waiter->previous->next : &queue->head) = waiter->next;
    *(waiter->next ? &waiter->next->previous : &queue->tail) = waiter->previous;
    waiter->queue = NULL;
    queue->length--;
}

/* In the child of a fork: those who have no thread any more leave. */
static inline void gs_queue_bury(struct gs_queue *queue) {
    for (struct gs_waiter *waiter = queue->head, *next; waiter; waiter = next) {
        next = waiter->next;
        if (!gs_forks_survived(waiter->thread, waiter->forks)) {
            gs_queue_remove(waiter);
            free(waiter);
        }
    }
    queue->forks = gs_forks.count;
}

/* Its first waiter. */
static inline struct gs_waiter *gs_queue_head(struct gs_queue *queue) {
    if (queue->head && queue->forks != gs_forks.count)
        gs_queue_bury(queue);
    return queue->head;
}

/* Everybody leaves, without being woken: in the child of a fork. */
static inline void gs_queue_clear(struct gs_queue *queue) {
    while (gs_queue_head(queue))
        gs_queue_remove(queue->head);
}

static inline void gs_queue_append(struct gs_queue *queue, struct gs_waiter *waiter) {
    if (!gs_queue_head(queue))
        queue->forks = gs_forks.count;
    waiter->queue = queue;
    waiter->next = NULL;
    waiter->previous = queue->tail;
    *(queue->tail ? &queue->tail->next : &queue->head) = waiter;
    queue->tail = waiter;
    queue->length++;
}

/* On the heap, not on the waiting thread's stack: a daemon thread that comes back while Python ends
 * is ended inside gs_outer_acquire, and leaves its waiter in the queue. */
static inline struct gs_waiter *gs_waiter_new(uintptr_t thread) {
    struct gs_waiter *waiter = calloc(1, sizeof *waiter);
    if (waiter) {
        waiter->thread = thread;
        waiter->forks = gs_forks.count;
    }
    return waiter;
}

/* The first that is not away. */
static inline struct gs_waiter *gs_queue_first(struct gs_queue *queue) {
    struct gs_waiter *first = gs_queue_head(queue);
    while (first && first->away)
        first = first->next;
    return first;
}

/* That one, marked as woken, for the caller to unpark; NULL where nobody needs it. */
static inline struct gs_waiter *gs_queue_next(struct gs_queue *queue) {
    struct gs_waiter *next = gs_queue_first(queue);
    if (!next || next->woken)
        return NULL;
    next->woken = true;
    gs_word_set(&next->word);
    return next;
}

static inline void gs_queue_wake(struct gs_queue *queue) {
    struct gs_waiter *next = gs_queue_next(queue);
    if (next)
        gs_outer_wake(&next->word);
}

/* ---- sleeping --------------------------------------------------------------------------------
 */

/* Sleeps without the outer lock; first wakes `other`, if any, which then finds the outer lock free.
 * The trace sees a wait of `kind` (lock.wait or cond.wait) for `object`. */
static inline int gs_sleep(struct gs_waiter *me, int64_t deadline, struct gs_waiter *other,
                           enum gs_event_kind kind, const void *object) {
    struct gs_outer outer;
    gs_outer_release(&outer);
    if (other)
        gs_word_wake(&other->word);
    gs_note(kind, object, 0);
    int result = gs_word_sleep(&me->word, deadline);
    gs_note(kind == GS_COND_WAIT ? GS_COND_WAKE : GS_LOCK_ACQUIRE, object, result == ETIMEDOUT);
    gs_outer_acquire(&outer);
    return result;
}

/* Whether a signal ends the wait, after its handler ran. */
static inline bool gs_interrupted(struct gs_waiter *me) {
    me->away = true;
    bool interrupted = gs_outer_interrupted();
    me->away = false;
    return interrupted;
}

/* ---- the lock --------------------------------------------------------------------------------
 */

static inline void gs_lock_passes_over(struct gs_lock *lock) {
    if (!lock->passed_over)
        lock->passed_over = gs_now();
}

/* Whether it may be taken by `me`, which stands in its queue, or by a newcomer: NULL. In the child
 * of a fork, and while Python ends, it may be kept for a thread that is no more. */
static inline bool gs_lock_is_for(struct gs_lock *lock, struct gs_waiter *me) {
    return !lock->owner ||
           (lock->owner == GS_KEPT && (gs_queue_first(&lock->queue) == me || gs_outer_is_last()));
}

/* It is nobody's any more. Returns whom to unpark, or NULL. */
static inline struct gs_waiter *gs_lock_let_go(struct gs_lock *lock) {
    lock->owner = 0;
    lock->count = 0;
    if (!gs_queue_head(&lock->queue))
        return NULL;
    gs_note(GS_LOCK_RELEASE, lock, 0);
    struct gs_waiter *first = gs_queue_first(&lock->queue);
    if (first && lock->passed_over && gs_now() - lock->passed_over >= GS_PATIENCE_NS)
        lock->owner = GS_KEPT;
    else if (first && first->woken)
        gs_lock_passes_over(lock);
    return gs_queue_next(&lock->queue);
}

/* Waits in the lock's queue, where `me` stands already, until the lock is taken with `count`. */
static inline enum gs_outcome gs_lock_await(struct gs_lock *lock, struct gs_waiter *me,
                                            unsigned long count, int64_t deadline,
                                            bool interruptible) {
    while (!gs_lock_is_for(lock, me)) {
        if (!me->queue) /* a handler made the lock as new */
            gs_queue_append(&lock->queue, me);
        me->word = 0;
        me->woken = false;
        int result = gs_sleep(me, deadline, NULL, GS_LOCK_WAIT, lock);
        if (gs_lock_is_for(lock, me))
            break;
        if (me->woken)
            gs_lock_passes_over(lock);
        if (result == ETIMEDOUT) {
            gs_queue_remove(me);
            return GS_TIMED_OUT;
        }
        if (result == EINTR && interruptible && gs_interrupted(me)) {
            gs_queue_remove(me);
            if (!lock->owner) /* a signal handler ran, and with it other threads */
                gs_queue_wake(&lock->queue);
            return GS_INTERRUPTED;
        }
    }
    if (gs_queue_first(&lock->queue) == me)
        lock->passed_over = 0;
    gs_queue_remove(me);
    lock->owner = me->thread;
    lock->count = count;
    return GS_GOT;
}

static inline enum gs_outcome gs_lock_acquire_slowly(struct gs_lock *lock, uintptr_t thread,
                                                     int64_t deadline) {
    struct gs_waiter *me = gs_waiter_new(thread);
    if (!me)
        return GS_NO_MEMORY;
    gs_queue_append(&lock->queue, me);
    enum gs_outcome outcome = gs_lock_await(lock, me, 1, deadline, true);
    free(me);
    return outcome;
}

static inline bool gs_lock_try(struct gs_lock *lock, uintptr_t thread) {
    if (lock->owner == thread) {
        lock->count++;
        return true;
    }
    if (!gs_lock_is_for(lock, NULL))
        return false;
    lock->owner = thread;
    lock->count = 1;
    return true;
}

/* One level of it; the caller owns it. */
static inline void gs_lock_release(struct gs_lock *lock) {
    if (--lock->count)
        return;
    struct gs_waiter *other = gs_lock_let_go(lock);
    if (other)
        gs_outer_wake(&other->word);
}

/* ---- the condition ---------------------------------------------------------------------------
 */

/* Sleeps in the condition's queue, where `me` stands already, until notified or the deadline.
 * `other` is woken first. A waiter that was interrupted may be notified too: its notification is
 * the caller's to pass on. */
static inline enum gs_outcome gs_condition_sleep(struct gs_waiter *me, int64_t deadline,
                                                 struct gs_waiter *other, const void *object) {
    for (; !me->notified; other = NULL) {
        int result = gs_sleep(me, deadline, other, GS_COND_WAIT, object);
        if (me->notified)
            break;
        if (result == ETIMEDOUT)
            return GS_TIMED_OUT;
        if (result == EINTR && gs_interrupted(me))
            return GS_INTERRUPTED;
    }
    return GS_GOT;
}

/* How many of the first `n` waiters there were; they go to the end of `to`. */
static inline size_t gs_condition_notify(struct gs_queue *queue, size_t n, struct gs_queue *to) {
    size_t moved = 0;
    struct gs_waiter *waiter;
    for (; moved < n && (waiter = gs_queue_head(queue)); moved++) {
        gs_queue_remove(waiter);
        waiter->notified = true;
        gs_queue_append(to, waiter);
    }
    return moved;
}

/* Begins a wait of the lock's owner. */
static inline struct gs_waiter *gs_condition_enter(struct gs_queue *queue, struct gs_lock *lock,
                                                   struct gs_waiter *me) {
    gs_queue_append(queue, me);
    return gs_lock_let_go(lock);
}

/* Ends it: the lock is taken back, whatever happens. */
static inline void gs_condition_leave(struct gs_lock *lock, struct gs_waiter *me,
                                      unsigned long count) {
    if (!me->notified) {
        gs_queue_remove(me);
        gs_queue_append(&lock->queue, me);
    }
    gs_lock_await(lock, me, count, GS_NEVER, false);
}

#endif

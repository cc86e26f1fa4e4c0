/* The condition's core without Python, under the sanitizers: a thousand threads wait with random
 * timeouts while others notify, and every notification is accounted for. A mutex plays the GIL.
 *
 *     condition WAITERS ROUNDS SEED */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../gilscope/probe/event_abi.h"

struct gs_outer {
    int none;
};

static pthread_mutex_t gil = PTHREAD_MUTEX_INITIALIZER;

static inline void gs_outer_release(struct gs_outer *outer) {
    (void)outer;
    pthread_mutex_unlock(&gil);
}

static inline void gs_outer_acquire(struct gs_outer *outer) {
    (void)outer;
    pthread_mutex_lock(&gil);
}

static inline void gs_outer_wake(uint32_t *word);

static inline bool gs_outer_interrupted(void) {
    return false;
}

static inline bool gs_outer_is_last(void) {
    return false;
}

static inline void gs_note(enum gs_event_kind kind, const void *object, uint64_t detail) {
    (void)kind, (void)object, (void)detail;
}

#include "../../gilscope/sync/core.h"

static inline void gs_outer_wake(uint32_t *word) {
    gs_word_wake(word);
}

/* All under `gil`. */
static struct gs_lock lock;
static struct gs_queue queue;
static size_t notified, got, timed_out, lock_timeouts, inside, rounds, running;

static void must(bool holds, const char *what) {
    if (!holds) {
        fprintf(stderr, "%s does not hold\n", what);
        abort();
    }
}

/* As the GIL is taken away from a thread at any time. */
static void maybe_switch(unsigned *seed) {
    if (rand_r(seed) % 4)
        return;
    pthread_mutex_unlock(&gil);
    sched_yield();
    pthread_mutex_lock(&gil);
}

static void *wait_often(void *argument) {
    unsigned seed = (unsigned)(uintptr_t)argument;
    uintptr_t me = (uintptr_t)argument + 1;
    pthread_mutex_lock(&gil);
    for (size_t i = 0; i < rounds; i++) {
        int64_t patience = gs_now() + rand_r(&seed) % 3000000;
        enum gs_outcome locked =
            gs_lock_try(&lock, me)
                ? GS_GOT
                : gs_lock_acquire_slowly(&lock, me, rand_r(&seed) % 2 ? GS_NEVER : gs_now());
        if (locked == GS_TIMED_OUT) {
            lock_timeouts++;
            continue;
        }
        must(locked == GS_GOT && lock.owner == me && inside++ == 0, "one owner");
        struct gs_waiter *waiter = gs_waiter_new(me);
        must(waiter != NULL, "memory");
        maybe_switch(&seed);
        inside--;
        struct gs_waiter *other = gs_condition_enter(&queue, &lock, waiter);
        bool for_ever = rand_r(&seed) % 2;
        gs_condition_sleep(waiter, for_ever ? GS_NEVER : patience, other, &queue);
        bool told = waiter->notified;
        gs_condition_leave(&lock, waiter, 1);
        must(lock.owner == me && inside++ == 0, "one owner after a wait");
        must(waiter->queue == NULL, "a waiter that is back stands in no queue");
        told = told || waiter->notified; /* while it waited for the lock: never */
        *(told ? &got : &timed_out) += 1;
        free(waiter);
        maybe_switch(&seed);
        inside--;
        gs_lock_release(&lock);
        must(lock.owner || !lock.queue.head || lock.queue.head->woken,
             "a free lock wakes its head");
    }
    running--;
    pthread_mutex_unlock(&gil);
    return NULL;
}

static void *notify_often(void *argument) {
    unsigned seed = (unsigned)(uintptr_t)argument * 77;
    uintptr_t me = (uintptr_t)argument + 1;
    for (;;) {
        pthread_mutex_lock(&gil);
        if (!running) {
            pthread_mutex_unlock(&gil);
            return NULL;
        }
        if (!gs_lock_try(&lock, me))
            must(gs_lock_acquire_slowly(&lock, me, GS_NEVER) == GS_GOT, "the lock comes");
        must(inside++ == 0, "one owner to notify");
        maybe_switch(&seed);
        size_t n = rand_r(&seed) % 8 ? (size_t)rand_r(&seed) % 4 : SIZE_MAX;
        size_t before = queue.length, moved = gs_condition_notify(&queue, n, &lock.queue);
        must(moved == (n < before ? n : before), "as many as were asked for, or all");
        notified += moved;
        maybe_switch(&seed);
        inside--;
        gs_lock_release(&lock);
        pthread_mutex_unlock(&gil);
    }
}

int main(int argc, char **argv) {
    size_t waiters = argc > 1 ? (size_t)atoi(argv[1]) : 1000, i;
    rounds = argc > 2 ? (size_t)atoi(argv[2]) : 10;
    size_t seed = argc > 3 ? (size_t)atoi(argv[3]) : 1;
    pthread_t *threads = calloc(waiters + 2, sizeof *threads);
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 256 << 10);
    must(threads != NULL, "memory");
    running = waiters;
    for (i = 0; i < waiters + 2; i++)
        must(pthread_create(&threads[i], &small, i < waiters ? wait_often : notify_often,
                            (void *)(i + seed * 10000)) == 0,
             "threads start");
    for (i = 0; i < waiters + 2; i++)
        pthread_join(threads[i], NULL);
    printf("%zu notified, %zu got it, %zu timed out, %zu did not get the lock\n", notified, got,
           timed_out, lock_timeouts);
    must(notified == got, "every notification is accounted for");
    must(got + timed_out + lock_timeouts == waiters * rounds, "every wait is accounted for");
    must(!queue.head && !lock.queue.head && !lock.owner, "nothing is left");
    free(threads);
    return 0;
}

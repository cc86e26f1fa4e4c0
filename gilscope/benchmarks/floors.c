/* Below what no hand-over between two threads can go: two C threads that wake each other, without a
 * GIL. `gilscope bench condition` states them beside its figures, measured in the same run.
 *
 * Actors: the caller, which hands a token over and waits for it, and one thread that hands it back.
 * Each kind is a pair of calls that block until it is one's turn and that pass the turn on. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../trace/event.h"

enum kind { FUTEX, SEMAPHORE, CONDITION };

struct table {
    enum kind kind;
    atomic_bool over;
    atomic_uint turn[2]; /* futex: 1 = this one's turn */
    sem_t may[2];
    pthread_mutex_t mutex; /* condition: guards `whose` */
    pthread_cond_t changed;
    unsigned whose;
};

static void wait_for_turn(struct table *table, unsigned own) {
    switch (table->kind) {
    case FUTEX: /* the exchange is an acquire; it pairs with the release store in pass_turn */
        while (!atomic_exchange_explicit(&table->turn[own], 0, memory_order_acquire))
            syscall(SYS_futex, &table->turn[own], FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
        break;
    case SEMAPHORE:
        while (sem_wait(&table->may[own]) && errno == EINTR)
            ;
        break;
    case CONDITION:
        pthread_mutex_lock(&table->mutex);
        while (table->whose != own)
            pthread_cond_wait(&table->changed, &table->mutex);
        pthread_mutex_unlock(&table->mutex);
        break;
    }
}

static void pass_turn(struct table *table, unsigned to) {
    switch (table->kind) {
    case FUTEX:
        atomic_store_explicit(&table->turn[to], 1, memory_order_release);
        syscall(SYS_futex, &table->turn[to], FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
        break;
    case SEMAPHORE:
        sem_post(&table->may[to]);
        break;
    case CONDITION:
        pthread_mutex_lock(&table->mutex);
        table->whose = to;
        pthread_cond_signal(&table->changed);
        pthread_mutex_unlock(&table->mutex);
        break;
    }
}

static void *give_back(void *argument) {
    struct table *table = argument;
    for (;;) {
        wait_for_turn(table, 1);
        if (atomic_load(&table->over))
            return NULL;
        pass_turn(table, 0);
    }
}

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* Round trips between `begin` and `end` (CLOCK_MONOTONIC, ns); the time before is the warm-up.
 * -1 where no thread can be started. Blocks until the end. */
GS_EXPORT int64_t gs_floor_round_trips(uint32_t kind, int64_t begin, int64_t end) {
    struct table table = {.kind = (enum kind)kind,
                          .mutex = PTHREAD_MUTEX_INITIALIZER,
                          .changed = PTHREAD_COND_INITIALIZER};
    sem_init(&table.may[0], 0, 0);
    sem_init(&table.may[1], 0, 0);
    pthread_t other;
    if (pthread_create(&other, NULL, give_back, &table))
        return -1;
    int64_t trips = 0;
    for (int64_t time = now(); time < end; time = now()) {
        pass_turn(&table, 1);
        wait_for_turn(&table, 0);
        trips += time >= begin;
    }
    atomic_store(&table.over, true);
    pass_turn(&table, 1);
    pthread_join(other, NULL);
    sem_destroy(&table.may[0]);
    sem_destroy(&table.may[1]);
    return trips;
}

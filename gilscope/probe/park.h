/* A place where one thread sleeps until another wakes it, or until a time: what every condition
 * variable of ours is made of.
 *
 * Actors: the thread that owns the parker (on its stack) and whoever wakes it. Both hold the same
 * mutex when they call; gs_park lets it go while it sleeps. So a wakeup is for the thread that it
 * was meant for: it cannot be stolen by one that came later, nor get lost in between, which is what
 * goes wrong where waiters share one semaphore.
 *
 * Three ways to sleep, to be measured against each other: a pthread condition variable, a
 * semaphore (with the mutex, an "emulated" one), a futex. */
#ifndef GILSCOPE_PARK_H
#define GILSCOPE_PARK_H

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>

enum gs_backend { GS_PTHREAD, GS_EMULATED, GS_FUTEX };

struct gs_parker {
    enum gs_backend backend;
    bool woken;   /* under the mutex; the futex word is its twin for the kernel */
    bool precise; /* the end of a sleep is not rounded up; false unless its owner says so */
    union {
        pthread_cond_t cond;
        sem_t semaphore;
        uint32_t word;
    };
};

void gs_parker_init(struct gs_parker *parker, enum gs_backend backend);
void gs_parker_destroy(struct gs_parker *parker);

/* Sleeps until woken or until `until` (CLOCK_MONOTONIC, ns). Returns whether it was woken; one
 * wakeup ends one sleep, also one that came before. */
bool gs_park(struct gs_parker *parker, pthread_mutex_t *mutex, uint64_t until);

/* Wakes the owner. Twice is once. */
void gs_unpark(struct gs_parker *parker);

#endif

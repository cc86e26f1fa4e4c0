/* A condition variable for the interpreter's own mutexes that wakes exactly whom it was told to:
 * one emulated with a semaphore, and one on a futex. (The third kind, pthread's own, is what
 * CPython uses anyway.)
 *
 * Every call is made with the same mutex held. A signal is for the thread that has waited longest;
 * one that comes later cannot take it, and a waiter whose time is up just then has been signalled:
 * a signal is never lost. Those are the promises that a bare counting semaphore breaks. */
#ifndef GILSCOPE_CONDVAR_H
#define GILSCOPE_CONDVAR_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "park.h"

struct gs_condvar_waiter;

enum { GS_NOBODY_WAITS = -1 };

/* All zero is ready for use. */
struct gs_condvar {
    struct gs_condvar_waiter *first, *last;
};

/* Waits until signalled or until `until` (CLOCK_MONOTONIC, ns). Returns whether it was signalled.
 * `number` is what gs_condvar_signal calls the thread. */
bool gs_condvar_wait(struct gs_condvar *condvar, pthread_mutex_t *mutex, enum gs_backend backend,
                     uint64_t until, uint16_t number);

/* Wakes the thread that has waited longest and returns its number, or GS_NOBODY_WAITS. */
int gs_condvar_signal(struct gs_condvar *condvar);

#endif

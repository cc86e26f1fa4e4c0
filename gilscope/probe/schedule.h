/* The stock feed's way to gil_condvar.h: a queue for each GIL that interpose.c watches, by the
 * number of its slot, and what of CPython's calls goes to it.
 *
 * Actors and locks: as in gil_condvar.h; the GIL's mutex is learned at the first wait. */
#ifndef GILSCOPE_SCHEDULE_H
#define GILSCOPE_SCHEDULE_H

#include <pthread.h>
#include <stdbool.h>

#include "emit.h"
#include "gil_condvar.h"
#include "process.h"

/* When the library is loaded, with the policy known. */
void gs_schedule_start(void);

/* A GIL is made or destroyed; no mutex. */
void gs_schedule_begin(unsigned slot, struct gs_gil *gil);
void gs_schedule_end(unsigned slot);

/* In place of the signals on `cond` (where it returns true) and beside those on `switch_cond`; the
 * GIL's mutex is held. */
bool gs_schedule_released(unsigned slot, bool forced);
void gs_schedule_acquired(unsigned slot);

/* In place of the timed wait on `cond`: as CPython has it, or `queued`. Returns ETIMEDOUT where
 * CPython is to ask the holder to yield, which it may not hear of while that one is in an atomic
 * section. */
int gs_schedule_wait(unsigned slot, bool queued, pthread_mutex_t *mutex,
                     const struct gs_own_wait *own);

/* In place of the wait on `switch_cond` after a forced release; switch_mutex is held. */
int gs_schedule_wait_after_yield(unsigned slot, struct gs_gil *gil, pthread_mutex_t *switch_mutex);

#endif

#define _GNU_SOURCE
#include "schedule.h"

#include <errno.h>

#include "policy.h"
#include "request.h"

static struct {
    struct gs_gil_condvar condvar;
    pthread_mutex_t *mutex; /* NULL: nobody has waited yet */
} queues[GS_WATCHED_GILS];

void gs_schedule_start(void) {
    if (gs_scheduling())
        gs_gil_start();
}

void gs_schedule_begin(unsigned slot, struct gs_gil *gil) {
    queues[slot].condvar = (struct gs_gil_condvar){.gil = gil};
    queues[slot].mutex = NULL;
}

void gs_schedule_end(unsigned slot) {
    if (queues[slot].mutex)
        gs_gil_close(&queues[slot].condvar, queues[slot].mutex);
}

bool gs_schedule_released(unsigned slot, bool forced) {
    return gs_gil_released(&queues[slot].condvar, queues[slot].mutex,
                           forced ? GS_FORCED : GS_VOLUNTARY);
}

void gs_schedule_acquired(unsigned slot) {
    gs_gil_acquired(&queues[slot].condvar);
}

int gs_schedule_wait(unsigned slot, bool queued, pthread_mutex_t *mutex,
                     const struct gs_own_wait *own) {
    struct gs_gil_condvar *condvar = &queues[slot].condvar;
    if (queued) {
        queues[slot].mutex = mutex;
        return gs_gil_wait(condvar, mutex, own);
    }
    uint32_t epoch = __atomic_load_n(&gs_process.epoch, __ATOMIC_RELAXED);
    int result = own->timed_wait(own->cond, mutex, own->until);
    if (epoch != __atomic_load_n(&gs_process.epoch, __ATOMIC_ACQUIRE))
        return result; /* the GIL, and its holder, are known no more */
    if (result == ETIMEDOUT && condvar->gil->holder && !gs_request_ask(condvar->gil))
        return 0;
    return result;
}

int gs_schedule_wait_after_yield(unsigned slot, struct gs_gil *gil, pthread_mutex_t *switch_mutex) {
    pthread_mutex_t *mutex = queues[slot].mutex;
    /* CPython takes switch_mutex inside the GIL's mutex: never the other way round. */
    pthread_mutex_unlock(switch_mutex);
    pthread_mutex_lock(mutex);
    gs_on_wait(gil);
    gs_gil_wait_after_yield(&queues[slot].condvar, mutex);
    pthread_mutex_unlock(mutex);
    pthread_mutex_lock(switch_mutex);
    return 0;
}

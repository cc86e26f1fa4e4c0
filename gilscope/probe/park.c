#define _GNU_SOURCE
#include "park.h"

#include <errno.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "word.h"

/* Weak: glibc has it from 2.30 on. */
extern int sem_clockwait(sem_t *semaphore, clockid_t clock, const struct timespec *until)
    __attribute__((weak));

static struct timespec timespec_of(uint64_t ns) {
    return (struct timespec){.tv_sec = (time_t)(ns / 1000000000u),
                             .tv_nsec = (long)(ns % 1000000000u)};
}

void gs_parker_init(struct gs_parker *parker, enum gs_backend backend) {
    if (backend == GS_EMULATED && !sem_clockwait)
        backend = GS_FUTEX;
    parker->backend = backend;
    parker->woken = parker->precise = false;
    if (backend == GS_FUTEX) {
        parker->word = 0;
    } else if (backend == GS_EMULATED) {
        sem_init(&parker->semaphore, 0, 0);
    } else {
        pthread_condattr_t attributes;
        pthread_condattr_init(&attributes);
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        pthread_cond_init(&parker->cond, &attributes);
        pthread_condattr_destroy(&attributes);
    }
}

void gs_parker_destroy(struct gs_parker *parker) {
    if (parker->backend == GS_EMULATED)
        sem_destroy(&parker->semaphore);
    else if (parker->backend == GS_PTHREAD)
        pthread_cond_destroy(&parker->cond);
}

static long slack(int operation, long ns) {
    return syscall(SYS_prctl, operation, ns, 0L, 0L, 0L);
}

/* Linux rounds the end of a sleep up by the thread's timer slack, 50 us unless told otherwise. The
 * thread's own sleeps, and what it starts, shall have the slack that it has: so that is given back
 * after each sleep. Returns what there is to give back; 0: nothing. */
static long take_slack(const struct gs_parker *parker) {
    long ns = parker->precise ? slack(PR_GET_TIMERSLACK, 0) : 0;
    return ns > 1 && slack(PR_SET_TIMERSLACK, 1) == 0 ? ns : 0;
}

static void give_back(long slack_ns) {
    if (slack_ns)
        slack(PR_SET_TIMERSLACK, slack_ns);
}

bool gs_park(struct gs_parker *parker, pthread_mutex_t *mutex, uint64_t until) {
    struct timespec deadline = timespec_of(until);
    int error = 0;
    while (!parker->woken && error != ETIMEDOUT) {
        if (parker->backend == GS_PTHREAD) {
            long slack_ns = take_slack(parker);
            error = pthread_cond_timedwait(&parker->cond, mutex, &deadline);
            give_back(slack_ns);
            continue;
        }
        pthread_mutex_unlock(mutex);
        long slack_ns = take_slack(parker);
        if (parker->backend == GS_FUTEX)
            error = gs_word_sleep(&parker->word, (int64_t)until);
        else if (sem_clockwait(&parker->semaphore, CLOCK_MONOTONIC, &deadline) != 0)
            error = errno;
        give_back(slack_ns);
        pthread_mutex_lock(mutex);
    }
    bool woken = parker->woken;
    parker->woken = false;
    if (parker->backend == GS_FUTEX)
        __atomic_store_n(&parker->word, 0, __ATOMIC_RELAXED);
    return woken;
}

void gs_unpark(struct gs_parker *parker) {
    if (parker->woken)
        return;
    parker->woken = true;
    switch (parker->backend) {
    case GS_PTHREAD:
        pthread_cond_signal(&parker->cond);
        break;
    case GS_EMULATED:
        sem_post(&parker->semaphore);
        break;
    case GS_FUTEX:
        gs_word_set(&parker->word);
        gs_word_wake(&parker->word);
        break;
    }
}

/* The condition variable of condvar.h on each of its backends, under the sanitizers; a plain mutex
 * plays the GIL's.
 *
 *     condvar MODE BACKEND SEED [WAITS]
 *
 * Modes:
 *   mixed    waits with and without a limit, signals and broadcasts at random; system calls are
 *            interrupted
 *   races    every wait's time is up about when its signal comes
 *   cancel   as mixed, and waiters are cancelled at any moment; another one goes on for each
 * Backends: pthread, emulated, futex.
 *
 * Beside the condition variable stands what it promises: a plain queue of who waits, and what each
 * was given. A signal must name the first of that queue; a wait ends signalled if and only if a
 * signal named it. Says what it counted. Dies with a line on stderr when something is wrong. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../gilscope/probe/clock.h"
#include "../../gilscope/probe/condvar.h"

#define CHECK(condition, ...)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fputc('\n', stderr);                                                                   \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

enum { WAITERS = 8, SIGNALLERS = 2, FOR_EVER_OF = 3, PATIENCE_NS = 400000 };

static enum gs_backend backend;
static bool races, cancels;
static unsigned waits = 2000;

/* All under the mutex; plain, so that the thread sanitizer sees two threads in here. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct gs_condvar condvar;
static uint16_t queue[WAITERS]; /* who waits by now, the one that has waited longest first */
static unsigned queued;
static bool given[WAITERS + 1]; /* a signal, to the wait that this one is in */
static unsigned long signals, got, timed_out, broadcasts, to_nobody;
static atomic_uint running = WAITERS, cancelled;

static struct waiter {
    pthread_t id;
    uint16_t number;
    unsigned seed, done;
    bool alive;  /* under the mutex: may be cancelled */
    bool inside; /* its wait; its own */
} waiters[WAITERS];

static void dequeue(uint16_t number) {
    unsigned at = 0;
    while (at < queued && queue[at] != number)
        at++;
    CHECK(at < queued, "%u does not wait", number);
    memmove(queue + at, queue + at + 1, (--queued - at) * sizeof *queue);
}

/* With the mutex held. */
static void wait_once(struct waiter *me) {
    uint64_t until = gs_clock_monotonic() + (uint64_t)rand_r(&me->seed) % PATIENCE_NS;
    if (!races && rand_r(&me->seed) % FOR_EVER_OF)
        until = UINT64_MAX;
    queue[queued++] = me->number;
    given[me->number] = false;
    me->inside = true;
    bool signalled = gs_condvar_wait(&condvar, &mutex, backend, until, me->number);
    me->inside = false;
    CHECK(signalled == given[me->number], signalled ? "a signal was stolen" : "a signal was lost");
    CHECK(signalled || until <= gs_clock_monotonic(), "a wait ended before its time");
    if (signalled) {
        got++;
    } else {
        timed_out++;
        dequeue(me->number);
    }
}

static void *wait_often(void *argument);

static void begin(struct waiter *waiter) {
    pthread_mutex_lock(&mutex);
    CHECK(pthread_create(&waiter->id, NULL, wait_often, waiter) == 0, "no thread");
    waiter->alive = true;
    pthread_mutex_unlock(&mutex);
}

static void end(struct waiter *me) {
    pthread_mutex_lock(&mutex);
    me->alive = false;
    pthread_mutex_unlock(&mutex);
}

static void at_cancellation(void *argument) {
    struct waiter *me = argument;
    CHECK(!me->inside, "a thread was cancelled inside its wait");
    end(me);
    cancelled++;
    pthread_detach(pthread_self());
    begin(me);
}

static void *wait_often(void *argument) {
    struct waiter *me = argument;
    pthread_cleanup_push(at_cancellation, me);
    while (me->done < waits) {
        pthread_mutex_lock(&mutex);
        wait_once(me);
        me->done++;
        pthread_mutex_unlock(&mutex);
        pthread_testcancel();
    }
    pthread_cleanup_pop(0);
    end(me);
    running--;
    return NULL;
}

/* With the mutex held. Whether somebody waited. */
static bool signal_once(void) {
    int woken = gs_condvar_signal(&condvar);
    if (woken == GS_NOBODY_WAITS) {
        CHECK(queued == 0, "%u wait and nobody was woken", queued);
        to_nobody++;
        return false;
    }
    CHECK(queued > 0 && woken == queue[0], "%d was woken, who has not waited longest", woken);
    dequeue((uint16_t)woken);
    given[woken] = true;
    signals++;
    return true;
}

static void interrupt(int number) {
    (void)number;
}

static void *signal_often(void *argument) {
    unsigned seed = (unsigned)(uintptr_t)argument;
    while (running) {
        pthread_mutex_lock(&mutex);
        bool all = rand_r(&seed) % 8 == 0, met = signal_once();
        broadcasts += all;
        while (all && signal_once())
            ;
        struct waiter *victim = &waiters[rand_r(&seed) % WAITERS];
        if (met && victim->alive && rand_r(&seed) % 16 == 0)
            cancels ? pthread_cancel(victim->id) : pthread_kill(victim->id, SIGUSR1);
        pthread_mutex_unlock(&mutex);
        long pause = races ? rand_r(&seed) % PATIENCE_NS / 4 : met ? 0 : 1000;
        nanosleep(&(struct timespec){.tv_nsec = pause}, NULL);
    }
    return NULL;
}

int main(int argc, char **argv) {
    CHECK(argc >= 4, "condvar MODE BACKEND SEED [WAITS]");
    races = strcmp(argv[1], "races") == 0;
    cancels = strcmp(argv[1], "cancel") == 0;
    const char *backends[] = {"pthread", "emulated", "futex"};
    for (unsigned i = 0; i < 3; i++)
        if (strcmp(argv[2], backends[i]) == 0)
            backend = (enum gs_backend)i;
    unsigned seed = (unsigned)atoi(argv[3]);
    if (argc > 4)
        waits = (unsigned)atoi(argv[4]);
    sigaction(SIGUSR1, &(struct sigaction){.sa_handler = interrupt}, NULL);
    for (unsigned i = 0; i < WAITERS; i++) {
        waiters[i] = (struct waiter){.number = (uint16_t)(i + 1), .seed = seed * 100 + i};
        begin(&waiters[i]);
    }
    pthread_t signallers[SIGNALLERS];
    for (uintptr_t i = 0; i < SIGNALLERS; i++)
        CHECK(pthread_create(&signallers[i], NULL, signal_often, (void *)(seed * 100 + 50 + i)) ==
                  0,
              "no thread");
    for (unsigned i = 0; i < SIGNALLERS; i++)
        pthread_join(signallers[i], NULL);
    for (unsigned i = 0; i < WAITERS; i++)
        pthread_join(waiters[i].id, NULL);
    printf("%lu signals, %lu got, %lu timed out, %lu broadcasts, %lu for nobody, %u cancelled\n",
           signals, got, timed_out, broadcasts, to_nobody, cancelled);
    CHECK(signals == got, "a signal was lost or came twice");
    CHECK(got + timed_out == (unsigned long)waits * WAITERS, "a wait is not accounted for");
    CHECK(!condvar.first && !condvar.last && !queued, "somebody is still linked");
    return 0;
}

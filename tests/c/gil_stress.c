/* CPython's GIL, simulated call by call over the real gil_condvar.c; to be compiled with
 * -fsanitize=thread or address,undefined.
 *
 *     gil_stress MODE BACKEND SEED [TURNS]
 *
 * Modes:
 *   mixed    threads of both classes: mutual exclusion, and everybody gets through
 *   starve   io threads that never rest beside one cpu thread: the bound of gil_condvar.h
 *   hurry    one io thread beside cpu threads that never let go by themselves
 *   calm     io threads only: no holder reads a clock, no waiter looks out for a cpu thread
 * Backends: pthread, emulated, futex.
 *
 * Says what it counted. Dies with a line on stderr when something is wrong. */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../gilscope/probe/clock.h"
#include "../../gilscope/probe/gil_condvar.h"

#define CHECK(condition, ...)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fputc('\n', stderr);                                                                   \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

enum { MOST_THREADS = 16 };

static const char *mode;
static unsigned turns = 300, n_io, n_cpu;

static struct {
    pthread_mutex_t mutex, switch_mutex;
    pthread_cond_t cond;
    struct gs_gil_condvar condvar;
    atomic_bool locked, drop_request;
    const void *last_holder; /* under switch_mutex */
    unsigned long switch_number;
    uint64_t grants;
} gil = {.mutex = PTHREAD_MUTEX_INITIALIZER, .switch_mutex = PTHREAD_MUTEX_INITIALIZER};

static struct thread {
    pthread_t id;
    bool cpu;
    bool counts; /* of the class that its mode is about, by now */
    unsigned seed;
    uint64_t grants_before; /* its wait */
    uint64_t passed;        /* the most that others had the GIL in one wait of its own */
    uint64_t got;           /* times it had the GIL */
} threads[MOST_THREADS];

static unsigned held_by_nobody = 1; /* plain: the sanitizer sees two threads in here */
static atomic_uint done;

/* The loop of take_gil. */
static void take(struct thread *me) {
    pthread_mutex_lock(&gil.mutex);
    me->grants_before = gil.grants;
    while (gil.locked) {
        unsigned long saved = gil.switch_number;
        uint64_t end = gs_clock_monotonic() + 5000000;
        struct timespec until = {.tv_sec = (time_t)(end / 1000000000u),
                                 .tv_nsec = (long)(end % 1000000000u)};
        struct gs_own_wait own = {
            .timed_wait = pthread_cond_timedwait, .cond = &gil.cond, .until = &until};
        int result = gs_gil_wait(&gil.condvar, &gil.mutex, &own);
        if (result == ETIMEDOUT && gil.locked && gil.switch_number == saved)
            gil.drop_request = true;
    }
    pthread_mutex_lock(&gil.switch_mutex);
    gil.locked = true;
    if (gil.last_holder != me) {
        gil.last_holder = me;
        gil.switch_number++;
    }
    uint64_t passed = gil.grants++ - me->grants_before;
    if (me->counts && passed > me->passed)
        me->passed = passed;
    gs_gil_acquired(&gil.condvar);
    pthread_mutex_unlock(&gil.switch_mutex);
    gil.drop_request = false;
    pthread_mutex_unlock(&gil.mutex);
    CHECK(held_by_nobody, "two threads hold the GIL");
    held_by_nobody = 0;
    me->got++;
}

static void drop(struct thread *me, enum gs_release_kind kind) {
    held_by_nobody = 1;
    bool requested = gil.drop_request;
    pthread_mutex_lock(&gil.mutex);
    gil.locked = false;
    if (!gs_gil_released(&gil.condvar, &gil.mutex, kind))
        pthread_cond_signal(&gil.cond);
    pthread_mutex_unlock(&gil.mutex);
    if (!requested || kind == GS_VOLUNTARY)
        return;
    pthread_mutex_lock(&gil.switch_mutex);
    bool waits = gil.last_holder == me;
    pthread_mutex_unlock(&gil.switch_mutex);
    if (waits) {
        pthread_mutex_lock(&gil.mutex);
        gs_gil_wait_after_yield(&gil.condvar, &gil.mutex);
        pthread_mutex_unlock(&gil.mutex);
    }
}

static void run_io(struct thread *me) {
    bool rests = strcmp(mode, "starve") != 0;
    for (unsigned i = 0; rests ? i < turns : done < n_cpu; i++) {
        take(me);
        drop(me, GS_VOLUNTARY);
        if (rests && rand_r(&me->seed) % 4 == 0)
            sched_yield();
    }
}

static bool over(void) {
    return strcmp(mode, "hurry") == 0 ? done == n_io : done == n_io + n_cpu;
}

/* Computes until it is asked to yield, which makes it a cpu thread; now and then it lets go by
 * itself. */
static void run_cpu(struct thread *me) {
    bool hogs = strcmp(mode, "hurry") == 0;
    unsigned yields = turns / 10;
    take(me);
    for (unsigned i = 0; hogs ? !over() : i < yields; i++) {
        bool by_itself = !hogs && rand_r(&me->seed) % 16 == 0;
        uint64_t now = gs_clock_monotonic(), end = now + (by_itself ? 20000 : 20 * GS_CPU_NS);
        for (; now < end && !gil.drop_request && !over(); now = gs_clock_monotonic())
            ;
        if (by_itself || !gil.drop_request) {
            me->counts = false;
            drop(me, GS_VOLUNTARY);
        } else {
            me->counts = true;
            drop(me, GS_FORCED);
        }
        take(me);
    }
    drop(me, GS_VOLUNTARY);
}

static void *run(void *argument) {
    struct thread *me = argument;
    me->cpu ? run_cpu(me) : run_io(me);
    if (strcmp(mode, "starve") == 0 ? me->cpu : strcmp(mode, "hurry") == 0 ? !me->cpu : true)
        done++;
    return NULL;
}

int main(int argc, char **argv) {
    CHECK(argc >= 4, "gil_stress MODE BACKEND SEED [TURNS]");
    mode = argv[1];
    unsigned seed = (unsigned)atoi(argv[3]);
    if (argc > 4)
        turns = (unsigned)atoi(argv[4]);
    const char *backends[] = {"pthread", "emulated", "futex"};
    for (unsigned i = 0; i < 3; i++)
        if (strcmp(argv[2], backends[i]) == 0)
            gs_gil_parameters.backend = (enum gs_backend)i;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&gil.cond, &attributes);
    gs_gil_parameters.quantum = 1000000;
    /* However long a waiter takes to wake up here, who hands over to it waits. */
    gs_gil_parameters.stay = UINT64_C(60000000000);
    if (seed % 2)
        gs_gil_parameters.spin = 0;
    n_io = strcmp(mode, "hurry") == 0 ? 1 : 5;
    n_cpu = strcmp(mode, "calm") == 0 ? 0 : strcmp(mode, "starve") == 0 ? 1 : 3;
    for (unsigned i = 0; i < n_io + n_cpu; i++) {
        threads[i] = (struct thread){.cpu = i >= n_io, .counts = i < n_io, .seed = seed * 100 + i};
        CHECK(pthread_create(&threads[i].id, NULL, run, &threads[i]) == 0, "no thread");
    }
    uint64_t got = 0, passed[GS_CLASSES] = {0};
    for (unsigned i = 0; i < n_io + n_cpu; i++) {
        pthread_join(threads[i].id, NULL);
        got += threads[i].got;
        uint64_t *most = &passed[threads[i].cpu ? GS_CPU : GS_IO];
        if (threads[i].passed > *most)
            *most = threads[i].passed;
    }
    CHECK(got == gil.grants, "%lu of %lu grants", (unsigned long)got, (unsigned long)gil.grants);
    CHECK(!gil.condvar.first[GS_IO] && !gil.condvar.first[GS_CPU] && !gil.condvar.stalled,
          "somebody still waits");
    CHECK(!gil.condvar.held && !gil.condvar.spinning && !gil.condvar.io_waiting &&
              !gil.condvar.io_asleep && !gil.condvar.on_cond,
          "not at rest");
    if (strcmp(mode, "calm") == 0)
        CHECK(!gil.condvar.lookout && !gil.condvar.since, "a cpu thread was seen where none is");
    unsigned others = n_io + n_cpu;
    if (strcmp(mode, "starve") == 0)
        CHECK(passed[GS_CPU] <= GS_CPU_TURNS + others, "a cpu thread was passed over %lu times",
              (unsigned long)passed[GS_CPU]);
    if (strcmp(mode, "hurry") == 0)
        CHECK(passed[GS_IO] <= GS_IO_TURNS + others, "an io thread was passed over %lu times",
              (unsigned long)passed[GS_IO]);
    printf("%s %s: %lu grants, passed over at most %lu (io) and %lu (cpu) times\n", mode, argv[2],
           (unsigned long)gil.grants, (unsigned long)passed[GS_IO], (unsigned long)passed[GS_CPU]);
    return 0;
}

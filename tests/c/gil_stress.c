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
 *   sections cpu threads that compute in atomic sections: none is disturbed, everybody gets through
 *   close    the GIL is destroyed while threads wait for it, are asleep or awake, and give it away
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

#include "../../gilscope/probe/api.h"
#include "../../gilscope/probe/atomic.h"
#include "../../gilscope/probe/clock.h"
#include "../../gilscope/probe/gil_condvar.h"
#include "../../gilscope/probe/policy.h"
#include "../../gilscope/probe/process.h"
#include "../../gilscope/probe/request.h"

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
    struct gs_gil watched; /* as the feed keeps it */
    atomic_bool ends;      /* the interpreter does: who waits is to exit */
    atomic_bool locked, drop_request;
    const void *last_holder; /* under switch_mutex */
    unsigned long switch_number;
    uint64_t grants;
} gil = {.mutex = PTHREAD_MUTEX_INITIALIZER,
         .switch_mutex = PTHREAD_MUTEX_INITIALIZER,
         .watched = {.index = GS_NO_INDEX}};

static bool is(const char *name) {
    return strcmp(mode, name) == 0;
}

const struct gs_gil *gs_held_gil(void) {
    return gil.watched.holder == &gs_writer ? &gil.watched : NULL;
}

struct gs_gil *gs_gil_in_hand(void) {
    return gil.watched.holder == &gs_writer ? &gil.watched : NULL;
}

int gs_asked_to_yield(void) {
    return gs_held_gil() ? gs_request_pending(&gil.watched) : -1;
}

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

/* The loop of take_gil. Returns false, without the GIL, where the interpreter ends. */
static bool take_or_end(struct thread *me) {
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
        if (result == ETIMEDOUT && gil.locked && gil.switch_number == saved) {
            if (gil.ends) {
                pthread_mutex_unlock(&gil.mutex);
                return false;
            }
            gil.drop_request = true;
        }
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
    gil.watched.holder = &gs_writer;
    gs_gil_acquired(&gil.condvar);
    pthread_mutex_unlock(&gil.switch_mutex);
    gil.drop_request = false;
    pthread_mutex_unlock(&gil.mutex);
    CHECK(held_by_nobody, "two threads hold the GIL");
    held_by_nobody = 0;
    me->got++;
    return true;
}

static void take(struct thread *me) {
    CHECK(take_or_end(me), "a thread ended in its wait");
}

static void drop(struct thread *me, enum gs_release_kind kind) {
    held_by_nobody = 1;
    bool requested = gil.drop_request;
    pthread_mutex_lock(&gil.mutex);
    gil.locked = false;
    gil.watched.holder = NULL;
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
    bool rests = !is("starve");
    for (unsigned i = 0; rests ? i < turns : done < n_cpu; i++) {
        take(me);
        drop(me, GS_VOLUNTARY);
        if (rests && rand_r(&me->seed) % 4 == 0)
            sched_yield();
    }
}

static bool over(void) {
    return is("hurry") ? done == n_io : done == n_io + n_cpu;
}

/* Computes until it is asked to yield, which makes it a cpu thread; now and then it lets go by
 * itself. */
static void run_cpu(struct thread *me) {
    bool hogs = is("hurry");
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

/* Whose section it is; nobody else may find the GIL in its hands meanwhile. */
static struct thread *section_of;

/* Computes in sections, and looks for requests between them, until nobody waits any more. */
static void run_sections(struct thread *me) {
    take(me);
    while (done < n_io) {
        if (gil.drop_request) {
            drop(me, GS_FORCED);
            take(me);
        }
        int asked = gilscope_atomic_enter();
        CHECK(asked >= 0, "a section found no GIL");
        if (asked) {
            drop(me, GS_VOLUNTARY);
            take(me);
        }
        CHECK(!section_of, "a section is disturbed");
        section_of = me;
        for (unsigned i = rand_r(&me->seed) % 64; i; i--)
            CHECK(section_of == me, "a section is disturbed");
        section_of = NULL;
        asked = gilscope_atomic_exit();
        CHECK(asked >= 0, "a section lost its GIL");
        if (asked) {
            drop(me, GS_VOLUNTARY);
            take(me);
        }
    }
    drop(me, GS_VOLUNTARY);
}

/* Comes and goes, as a thread that gives the GIL away, until the interpreter ends. */
static void run_to_the_end(struct thread *me) {
    while (take_or_end(me)) {
        if (rand_r(&me->seed) % 2)
            gs_gil_thread_yields();
        drop(me, GS_VOLUNTARY);
    }
}

static void end_interpreter(struct thread *me) {
    uint64_t end = gs_clock_monotonic() + turns * UINT64_C(1000);
    take(me);
    while (gs_clock_monotonic() < end) /* so that all kinds of waiters come */
        ;
    gil.ends = true;
    gs_gil_close(&gil.condvar, &gil.mutex);
    pthread_mutex_lock(&gil.mutex);
    CHECK(!gil.condvar.inside && !gil.condvar.first[GS_IO] && !gil.condvar.first[GS_CPU] &&
              !gil.condvar.stalled,
          "a thread is still inside");
    memset(&gil.condvar, 0xa5, sizeof gil.condvar); /* whatever still reads it dies of it */
    gil.condvar.closing = true;                     /* but for CPython's next look */
    pthread_mutex_unlock(&gil.mutex);
}

static void *run(void *argument) {
    struct thread *me = argument;
    if (is("close"))
        me->cpu ? end_interpreter(me) : run_to_the_end(me);
    else if (me->cpu && is("sections"))
        run_sections(me);
    else
        me->cpu ? run_cpu(me) : run_io(me);
    if (is("starve") ? me->cpu : is("hurry") ? !me->cpu : true)
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
    gil.condvar.gil = &gil.watched;
    gs_policy_start(); /* for what a build leaves out */
    gs_policy = GS_IO_PRIORITY;
    gs_gil_parameters.quantum = 1000000;
    /* However long a waiter takes to wake up here, who hands over to it waits. */
    gs_gil_parameters.stay = UINT64_C(60000000000);
    if (seed % 2)
        gs_gil_parameters.spin = 0;
    n_io = is("hurry") ? 1 : 5;
    n_cpu = is("calm") ? 0 : is("starve") || is("close") ? 1 : is("sections") ? 2 : 3;
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
    if (is("close")) {
        printf("close %s: %lu grants\n", argv[2], (unsigned long)gil.grants);
        return 0;
    }
    CHECK(got == gil.grants, "%lu of %lu grants", (unsigned long)got, (unsigned long)gil.grants);
    CHECK(!gil.condvar.first[GS_IO] && !gil.condvar.first[GS_CPU] && !gil.condvar.stalled,
          "somebody still waits");
    CHECK(!gil.condvar.held && !gil.condvar.spinning && !gil.condvar.io_waiting &&
              !gil.condvar.io_asleep && !gil.condvar.on_cond,
          "not at rest");
    if (is("calm"))
        CHECK(!gil.condvar.lookout && !gil.condvar.since, "a cpu thread was seen where none is");
    unsigned others = n_io + n_cpu;
    /* Who lost its processor while it held the GIL is a cpu thread, too, and may be ahead. */
    if (is("starve"))
        CHECK(passed[GS_CPU] <= GS_CPU_TURNS * (1 + n_io) + others,
              "a cpu thread was passed over %lu times", (unsigned long)passed[GS_CPU]);
    if (is("hurry"))
        CHECK(passed[GS_IO] <= GS_IO_TURNS + others, "an io thread was passed over %lu times",
              (unsigned long)passed[GS_IO]);
    printf("%s %s: %lu grants, passed over at most %lu (io) and %lu (cpu) times\n", mode, argv[2],
           (unsigned long)gil.grants, (unsigned long)passed[GS_IO], (unsigned long)passed[GS_CPU]);
    return 0;
}

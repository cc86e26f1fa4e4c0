/* Who has his turn when at the lock of the condition's core: the code itself, in every order.
 *
 * A few threads are played as coroutines. Wherever one lets the outer lock go, wants it, sleeps,
 * may be out of time or meets a signal, each way to go on is taken: all states that can be reached
 * are visited, once each (by replay of the choices that lead there). The clock is the model's: a
 * section takes SECTION_NS, all else no time. Checked in every state and at every end:
 *  - the lock has one owner;
 *  - nobody sleeps for ever, and nothing is left in a queue;
 *  - whoever wants the lock, with n before it in the queue, has it after n + 1 times GS_PATIENCE_NS
 *    and three sections; in attempts that are cut short too, while it goes on trying.
 * Prints states and the longest wait, in sections. Dies with a line on stderr where one is broken.
 *
 *     turns SCENARIO
 *
 * Built with probe/event_abi.h and sync/core.h beside what is included, as they are or broken. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include "event_abi.h"

/* ---- what core.h stands on: probe/word.h, played by the scheduler ------------------------------
 */

#define GILSCOPE_WORD_H
#define GS_NANOSECONDS INT64_C(1000000000)

static int64_t now;

static inline int64_t gs_now(void) {
    return now;
}

static int gs_word_sleep(uint32_t *word, int64_t deadline);
static void gs_word_wake(uint32_t *word);

static inline void gs_word_set(uint32_t *word) {
    *word = 1;
}

struct gs_outer {
    int none;
};

static void gs_outer_release(struct gs_outer *outer);
static void gs_outer_acquire(struct gs_outer *outer);
static bool gs_outer_interrupted(void);

static inline void gs_outer_wake(uint32_t *word) {
    gs_word_wake(word);
}

static inline bool gs_outer_is_last(void) {
    return false;
}

static inline void gs_note(enum gs_event_kind kind, const void *object, uint64_t detail) {
    (void)kind, (void)object, (void)detail;
}

/* Waiters lie where a replay puts them again. */
static struct {
    uint64_t bytes[512];
    size_t used;
} arena;

static void *arena_calloc(size_t count, size_t size) {
    void *place = &arena.bytes[arena.used];
    arena.used += (count * size + 7) / 8;
    if (arena.used > sizeof arena.bytes / 8)
        abort();
    return memset(place, 0, count * size);
}

static void arena_free(void *place) {
    (void)place;
}

#define calloc arena_calloc
#define free   arena_free
#include "core.h"
#undef calloc
#undef free

/* ---- threads ----------------------------------------------------------------------------------
 */

enum {
    MOST = 3,
    STACK = 64 << 10,
    SECTION_NS = GS_PATIENCE_NS * 2 / 5,
    TURN_NS = GS_PATIENCE_NS + 3 * SECTION_NS
};

enum place { WANTS, PARKED, INSIDE, DONE }; /* the outer lock; asleep; has it; through */

static struct thread {
    ucontext_t context;
    char stack[STACK];
    void (*script)(void);
    enum place at;
    int line;       /* of the script, where it let the outer lock go */
    int left;       /* sections to do */
    int signals;    /* that may meet it */
    int nested;     /* a handler runs */
    uint32_t *word; /* it sleeps on */
    bool timed;     /* and its time may be up */
    bool unparked;  /* a wake was sent to the word since */
    int result;     /* of the sleep */
    int64_t since,
        bound; /* when it first wanted the lock; by when it must have it. -1: it does not */
    struct gs_waiter *me;
} threads[MOST];

static size_t number, current;
static ucontext_t scheduler;
static struct gs_lock lock;
static struct gs_queue queue;
static int inside;
static int64_t longest;

static void must(bool holds, const char *what) {
    if (holds)
        return;
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static const char too_long[] = "a waiter was passed over for too long";

static struct thread *self(void) {
    return &threads[current];
}

static uintptr_t name(void) {
    return current + 1;
}

static void pause_at(enum place place) {
    self()->at = place;
    if (swapcontext(&self()->context, &scheduler))
        abort();
}

static void gs_outer_release(struct gs_outer *outer) {
    (void)outer;
}

static void gs_outer_acquire(struct gs_outer *outer) {
    (void)outer;
    pause_at(WANTS);
}

static int gs_word_sleep(uint32_t *word, int64_t deadline) {
    struct thread *me = self();
    me->word = word;
    me->timed = deadline >= 0;
    me->unparked = false;
    me->result = 0;
    pause_at(PARKED);
    me->word = NULL;
    return me->result;
}

static void gs_word_wake(uint32_t *word) {
    for (size_t i = 0; i < number; i++)
        if (threads[i].at == PARKED && threads[i].word == word)
            threads[i].unparked = true;
}

/* The outer lock is asked for and goes round. */
static void goes_round(int line) {
    self()->line = line;
    pause_at(WANTS);
}

/* ---- what they do -----------------------------------------------------------------------------
 */

/* From now on, with all that stand in the queue before it. */
static void begins_to_wait(void) {
    int64_t turns = 1;
    for (struct gs_waiter *waiter = gs_queue_head(&lock.queue); waiter; waiter = waiter->next)
        turns += waiter->thread != name();
    self()->since = now;
    self()->bound = now + turns * TURN_NS;
}

static void wants_the_lock(void) {
    if (self()->since < 0)
        begins_to_wait();
}

static void has_the_lock(void) {
    struct thread *me = self();
    must(lock.owner == name() && inside++ == 0, "the lock has two owners");
    must(now <= me->bound, too_long);
    if (now - me->since > longest)
        longest = now - me->since;
    me->since = -1;
}

/* Time passes inside, not for who has nothing to wait for: the bound is told at the next look. */
static void section(void) {
    goes_round(__LINE__);
    now += SECTION_NS;
    inside--;
}

static bool take(int64_t deadline) {
    wants_the_lock();
    if (!gs_lock_try(&lock, name()) && gs_lock_acquire_slowly(&lock, name(), deadline) != GS_GOT)
        return false;
    has_the_lock();
    return true;
}

/* Takes it again and again: the one that passes the others over. */
static void hog(void) {
    for (; self()->left; self()->left--) {
        take(GS_NEVER);
        section();
        gs_lock_release(&lock);
        goes_round(__LINE__);
    }
}

/* Without a word between: the outer lock goes round inside alone. */
static void hog_without_a_gap(void) {
    for (; self()->left; self()->left--) {
        take(GS_NEVER);
        section();
        gs_lock_release(&lock);
    }
}

static void wants(void) {
    for (; self()->left; self()->left--) {
        if (take(GS_NEVER)) {
            section();
            gs_lock_release(&lock);
        }
        goes_round(__LINE__);
    }
}

/* Attempts that are cut short at any moment, until one is not. */
static void wants_for_short(void) {
    wants_the_lock();
    self()->bound = now + (int64_t)number * TURN_NS; /* each time it stands behind all others */
    while (!take(0)) {
        must(now <= self()->bound, too_long);
        self()->line = __LINE__;
        if (!self()->left--) /* all of them were cut short: it gives up */
            return;
    }
    section();
    gs_lock_release(&lock);
}

/* Waits for a notification, for ever or not, and has the lock again after it. */
static void waits(int64_t deadline) {
    for (; self()->left; self()->left--) {
        while (!take(GS_NEVER))
            self()->line = __LINE__;
        inside--;
        struct gs_waiter *me = self()->me = gs_waiter_new(name());
        struct gs_waiter *other = gs_condition_enter(&queue, &lock, me);
        self()->line = __LINE__;
        enum gs_outcome outcome = gs_condition_sleep(me, deadline, other, &queue);
        wants_the_lock();
        gs_condition_leave(&lock, me, 1);
        if (outcome == GS_INTERRUPTED && me->notified)
            gs_condition_notify(&queue, 1, &lock.queue);
        self()->me = NULL;
        has_the_lock();
        section();
        gs_lock_release(&lock);
        goes_round(__LINE__);
    }
}

static void waits_for_ever(void) {
    waits(GS_NEVER);
}

static void waits_for_short(void) {
    waits(0);
}

/* Notifies in each section, until nobody is left to be told. */
static void notifies(void) {
    for (;;) {
        take(GS_NEVER);
        gs_condition_notify(&queue, 1, &lock.queue);
        section();
        gs_lock_release(&lock);
        bool others = false;
        for (size_t i = 0; i < number; i++)
            others |= i != current && threads[i].at != DONE;
        if (!others)
            return;
        goes_round(__LINE__);
    }
}

/* A signal's handler: wants the lock itself, or ends the wait. */
static bool handler_raises;

static bool gs_outer_interrupted(void) {
    self()->nested++;
    bool waited = self()->since >= 0;
    self()->since = -1;
    goes_round(__LINE__);
    if (!handler_raises && take(GS_NEVER)) {
        section();
        gs_lock_release(&lock);
    }
    self()->nested--;
    if (waited && !handler_raises) /* it was away, and passed over meanwhile */
        begins_to_wait();
    return handler_raises;
}

/* ---- scenarios --------------------------------------------------------------------------------
 */

struct cast {
    void (*script)(void);
    int left, signals;
};

static const struct scenario {
    const char *name;
    bool raises;
    struct cast cast[MOST];
} scenarios[] = {
    {"one", false, {{hog, 8, 0}, {wants, 2, 0}}},
    {"no-gap", false, {{hog_without_a_gap, 8, 0}, {wants, 2, 0}}},
    {"two", false, {{hog, 8, 0}, {wants, 1, 0}, {wants, 1, 0}}},
    {"two-hogs", false, {{hog, 5, 0}, {hog_without_a_gap, 5, 0}, {wants, 1, 0}}},
    {"short", false, {{hog, 14, 0}, {wants_for_short, 12, 0}}},
    {"short-and-long", false, {{hog, 7, 0}, {wants_for_short, 2, 0}, {wants, 1, 0}}},
    {"handler", false, {{hog, 6, 0}, {wants, 1, 1}, {wants, 1, 0}}},
    {"exception", true, {{hog, 6, 0}, {wants, 2, 1}, {wants, 1, 0}}},
    {"notified", false, {{hog, 5, 0}, {waits_for_short, 1, 0}, {notifies, 0, 0}}},
    {"notified-handler", false, {{notifies, 0, 0}, {waits_for_ever, 1, 1}, {wants, 1, 0}}},
    {"notified-exception", true, {{notifies, 0, 0}, {waits_for_ever, 1, 1}, {wants, 1, 1}}},
};

static const struct scenario *scenario;

static void run_script(void) {
    self()->script();
    pause_at(DONE);
    abort();
}

static void begin(void) {
    memset(&lock, 0, sizeof lock);
    memset(&queue, 0, sizeof queue);
    arena.used = 0;
    now = GS_PATIENCE_NS; /* 0 means never */
    inside = 0;
    handler_raises = scenario->raises;
    for (number = 0; number < MOST && scenario->cast[number].script; number++) {
        struct thread *thread = &threads[number];
        const struct cast *cast = &scenario->cast[number];
        memset(thread, 0, sizeof *thread);
        thread->script = cast->script;
        thread->left = cast->left;
        thread->signals = cast->signals;
        thread->since = -1;
        if (getcontext(&thread->context))
            abort();
        thread->context.uc_stack.ss_sp = thread->stack;
        thread->context.uc_stack.ss_size = STACK;
        makecontext(&thread->context, run_script, 0);
    }
}

/* ---- every order ------------------------------------------------------------------------------
 */

enum way { GOES_ON, WAKES, IS_OUT_OF_TIME, MEETS_A_SIGNAL, WAYS };

static bool may(const struct thread *thread, enum way way) {
    switch (way) {
    case GOES_ON:
        return thread->at == WANTS;
    case WAKES: /* without a wake only where the word was set before it slept: the kernel looks */
        return thread->at == PARKED && thread->unparked && *thread->word;
    case IS_OUT_OF_TIME:
        return thread->at == PARKED && thread->timed;
    default:
        return thread->at == PARKED && thread->signals > 0;
    }
}

static void let(size_t who, enum way way) {
    struct thread *thread = &threads[who];
    current = who;
    if (way == GOES_ON) {
        thread->at = INSIDE;
        swapcontext(&scheduler, &thread->context);
        return;
    }
    thread->result = way == WAKES ? 0 : way == IS_OUT_OF_TIME ? ETIMEDOUT : EINTR;
    thread->signals -= way == MEETS_A_SIGNAL;
    swapcontext(&scheduler, &thread->context); /* on to the outer lock, for which it asks */
}

/* A state, as two hashes of all that decides how it goes on. */
struct state {
    uint64_t a, b;
};

static void mix(struct state *state, int64_t value) {
    state->a = (state->a ^ (uint64_t)value) * UINT64_C(0x9e3779b97f4a7c15);
    state->a ^= state->a >> 29;
    state->b = (state->b + (uint64_t)value) * UINT64_C(0xd1342543de82ef95);
    state->b ^= state->b >> 32;
}

static struct state snapshot(void) {
    struct state state = {1, 1};
    mix(&state, (int64_t)lock.owner);
    mix(&state, (int64_t)lock.count);
    int64_t passed = now - lock.passed_over;
    mix(&state, !lock.passed_over ? -1 : passed < GS_PATIENCE_NS ? passed : GS_PATIENCE_NS);
    struct gs_queue *queues[] = {&lock.queue, &queue};
    for (size_t q = 0; q < 2; q++) {
        for (struct gs_waiter *waiter = queues[q]->head; waiter; waiter = waiter->next)
            mix(&state, (int64_t)waiter->thread << 5 | waiter->word << 3 | waiter->woken << 2 |
                            waiter->notified << 1 | waiter->away);
        mix(&state, -1);
    }
    for (size_t i = 0; i < number; i++) {
        const struct thread *thread = &threads[i];
        mix(&state, thread->at << 16 | thread->line);
        mix(&state, thread->left);
        mix(&state, thread->signals << 16 | thread->nested << 8 | thread->timed << 3 |
                        thread->unparked << 2 | (thread->word && *thread->word));
        mix(&state, thread->at == WANTS ? thread->result : 0);
        mix(&state, thread->since < 0 ? -1 : now - thread->since);
        mix(&state, thread->since < 0 ? -1 : thread->bound - now);
        mix(&state, thread->me ? thread->me->notified << 1 | thread->me->away : -1);
    }
    state.a |= !state.a; /* 0 is an empty place */
    return state;
}

static struct {
    struct state *places;
    size_t room, used;
} seen;

static bool is_new(struct state state) {
    if (seen.used * 2 >= seen.room) {
        struct state *before = seen.places, *end = before + seen.room;
        seen.room = seen.room ? seen.room * 2 : 1 << 12;
        seen.places = calloc(seen.room, sizeof state);
        must(seen.places != NULL, "memory");
        seen.used = 0;
        for (struct state *each = before; each < end; each++)
            if (each->a)
                is_new(*each);
        free(before);
    }
    size_t place = state.a & (seen.room - 1);
    for (; seen.places[place].a; place = (place + 1) & (seen.room - 1))
        if (seen.places[place].a == state.a && seen.places[place].b == state.b)
            return false;
    seen.places[place] = state;
    seen.used++;
    return true;
}

enum { DEEPEST = 400 };

struct path {
    uint8_t choices[DEEPEST]; /* who * WAYS + way */
    size_t length;
};

static struct {
    struct path *paths;
    size_t room, used;
} todo;

static void push(const struct path *path, uint8_t choice) {
    if (todo.used == todo.room) {
        todo.room = todo.room ? todo.room * 2 : 1 << 10;
        todo.paths = realloc(todo.paths, todo.room * sizeof *todo.paths);
        must(todo.paths != NULL, "memory");
    }
    struct path *one = &todo.paths[todo.used++];
    *one = *path;
    one->choices[one->length++] = choice;
}

static void check_end(void) {
    for (size_t i = 0; i < number; i++)
        must(threads[i].at == DONE, "somebody sleeps for ever");
    must(!lock.owner && !lock.queue.head && !queue.head && !inside, "something is left");
}

/* From the path's end on the first way is gone, until a state was seen before; the others are put
 * down for later. */
static void follow(struct path path) {
    begin();
    for (size_t i = 0; i < path.length; i++)
        let(path.choices[i] / WAYS, path.choices[i] % WAYS);
    for (;;) {
        if (!is_new(snapshot()))
            return;
        must(path.length < DEEPEST, "it does not come to an end");
        int first = -1;
        for (size_t choice = 0; choice < number * WAYS; choice++) {
            if (!may(&threads[choice / WAYS], choice % WAYS))
                continue;
            if (first < 0)
                first = (int)choice;
            else
                push(&path, (uint8_t)choice);
        }
        if (first < 0) {
            check_end();
            return;
        }
        path.choices[path.length++] = (uint8_t)first;
        let((size_t)first / WAYS, (size_t)first % WAYS);
    }
}

int main(int argc, char **argv) {
    for (size_t i = 0; argc > 1 && i < sizeof scenarios / sizeof *scenarios; i++)
        if (strcmp(argv[1], scenarios[i].name) == 0)
            scenario = &scenarios[i];
    must(scenario != NULL, "no such scenario");
    follow((struct path){.length = 0});
    while (todo.used) {
        struct path path = todo.paths[--todo.used];
        follow(path);
    }
    printf("%zu states, at most %g sections\n", seen.used, (double)longest / SECTION_NS);
    return 0;
}

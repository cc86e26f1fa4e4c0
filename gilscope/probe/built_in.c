/* The feed for Python Plus, behind hooks.h; compiled into the interpreter, never preloaded.
 *
 * What the stock feed infers is known here: which release was forced, and where a thread's life
 * begins and ends. The records are the same, and so are emit.h's promises.
 *
 * Actors: every thread of the interpreter. Functions with a storage run under that GIL's mutex. */
#define _GNU_SOURCE
#include "hooks.h"

#if GILSCOPE_WITH_PROBE

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

#include "api.h"
#include "atomic.h"
#include "clock.h"
#include "condvar.h"
#include "emit_sync.h"
#include "find_gil.h"
#include "gil_condvar.h"
#include "modules.h"
#include "names.h"
#include "policy.h"
#include "process.h"
#include "python.h"
#include "request.h"
#include "rules.h"
#include "threads.h"
#include "waits.h"

/* What lies in a GIL's storage. Without a lock of its own: the GIL's mutex guards it. */
struct gs_built_in_gil {
    uint32_t epoch; /* the process's, to which `gil` belongs */
    struct gs_gil gil;
    struct gs_gil_condvar queue;         /* under io-priority */
    struct gs_condvar cond, switch_cond; /* under classic, with another condition variable */
    pthread_cond_t *own_cond;            /* CPython's own `cond` */
};
enum { LINE = 64, WORD = sizeof(uint64_t) };
static_assert(sizeof(struct gs_built_in_gil) + LINE - WORD <= GS_GIL_WORDS * WORD,
              "the interpreter has room for it");

/* By this symbol a preloaded probe knows that this process has its own. */
GS_API const int gilscope_built_in = GS_ABI_VERSION;

unsigned gs_hooks_on;

/* The process's first GIL, which stays where it is; its storage in the interpreter. */
static struct {
    struct gs_gil_memory *memory;
    uint64_t *storage;
} first;

/* What the calling thread took last, in which epoch of the process's, or NULL. */
static __thread struct {
    struct gs_gil *gil;
    uint32_t epoch;
} in_hand;

static uint32_t epoch_now(void) {
    return __atomic_load_n(&gs_process.epoch, __ATOMIC_RELAXED);
}

struct gs_gil *gs_gil_in_hand(void) {
    return in_hand.epoch == epoch_now() ? in_hand.gil : NULL;
}

/* Twice a turn of the GIL, whose code evicts most of it: few lines, and whole ones. */
#define HOT __attribute__((aligned(64)))

/* Begins a cache line: what an event touches of a GIL is in it. */
static inline struct gs_built_in_gil *built_in(uint64_t *storage) {
    return (struct gs_built_in_gil *)(((uintptr_t)storage + LINE - 1) & ~(uintptr_t)(LINE - 1));
}

static void begin_anew(struct gs_built_in_gil *gil, const void *holder) {
    gil->gil = (struct gs_gil){.index = gs_next_gil_index(GS_NO_INDEX),
                               .state = holder,
                               .asked = gil->gil.asked,
                               .collections = {.try_at = UINT64_MAX}}; /* they are told */
    gil->epoch = epoch_now();
    if (gil->gil.index == GS_NO_INDEX && gs_counting())
        __atomic_fetch_add(&gs_process.ring.header->unwatched, 1, __ATOMIC_RELAXED);
}

/* Of another recording it knows nothing. */
static inline struct gs_gil *gil_of(uint64_t *storage) {
    struct gs_built_in_gil *gil = built_in(storage);
    if (__builtin_expect(gil->epoch != epoch_now(), 0))
        begin_anew(gil, gil->gil.state);
    return &gil->gil;
}

/* False for GILs past those that a record can name. */
static inline bool watched(const struct gs_gil *gil) {
    return __builtin_expect(gil->index != GS_NO_INDEX, 1);
}

static void describe(uint32_t begun) {
    uint32_t locks = gs_hooks_on & GS_HOOKS_LOCKS ? GS_LOCKS_TOLD : 0;
    gs_process_describe("built-in",
                        GS_GIL_FOUND | GS_YIELDS_TOLD | GS_COLLECTIONS_TOLD | locks | begun);
}

void gs_built_in_gil_created(uint64_t *storage, const unsigned long *interval, const void *holder,
                             pthread_cond_t *cond) {
    gs_process_revive();
    struct gs_built_in_gil *gil = built_in(storage);
    *gil = (struct gs_built_in_gil){.own_cond = cond};
    begin_anew(gil, holder);
    gil->queue.gil = &gil->gil;
    if (gs_python_begins(__builtin_return_address(0))) { /* recorded or not: `gilscope run` asks */
        describe(0);
        gs_process_watch_interval(interval);
        if ((uintptr_t)interval >= gs_python.runtime &&
            (uintptr_t)interval < gs_python.runtime_end) {
            first.memory = (struct gs_gil_memory *)interval;
            first.storage = storage;
        }
    }
}

void gs_built_in_waits(uint64_t *storage) {
    if (watched(gil_of(storage)))
        gs_on_wait(gil_of(storage));
}

void gs_built_in_leaves(uint64_t *storage) {
    gs_writer_follow();
    gs_on_leave(gil_of(storage));
}

void gs_built_in_requests(uint64_t *storage) {
    if (watched(gil_of(storage)))
        gs_on_request(gil_of(storage));
}

static inline void acquired(uint64_t *storage) {
    struct gs_gil *gil = gil_of(storage);
    if (!watched(gil))
        return;
    in_hand.gil = gil;
    in_hand.epoch = built_in(storage)->epoch;
    gs_on_acquire(gil);
    if (__builtin_expect(gil->collections.running != NULL, 0))
        gs_collections_go_on(&gil->collections, gs_clock_now(gs_process.clock));
}

static inline void released(uint64_t *storage) {
    enum gs_event_kind kind = gs_writer.yielding ? GS_GIL_YIELD : GS_GIL_RELEASE;
    gs_writer.yielding = false;
    in_hand.gil = NULL;
    struct gs_gil *gil = gil_of(storage);
    if (!watched(gil))
        return;
    if (__builtin_expect(gil->holder != &gs_writer, 0)) { /* taken before the recording began */
        gs_writer.last_forced = kind == GS_GIL_YIELD;
        return;
    }
    if (__builtin_expect(gil->collections.count || gil->collections.running, 0) && gs_recording())
        gs_collections_tell_exactly(gil, gs_clock_now(gs_process.clock));
    gs_on_release_by(gil, kind);
}

void gs_built_in_acquired(uint64_t *storage) {
    acquired(storage);
}

void gs_built_in_released(uint64_t *storage) {
    released(storage);
}

void gs_built_in_yields(void) {
    gs_writer.yielding = true;
}

void gs_built_in_collects(void) {
    struct gs_gil *gil = gs_gil_in_hand();
    if (gil && gs_recording())
        gs_collections_started(&gil->collections, gs_clock_now(gs_process.clock));
}

void gs_built_in_collected(void) {
    struct gs_gil *gil = gs_gil_in_hand();
    if (gil && gs_recording())
        gs_collections_ended(&gil->collections, gs_clock_now(gs_process.clock));
}

#if GILSCOPE_WITH_POLICIES

/* ---- the GIL's condition variables -------------------------------------------------------------
 */

bool gs_built_in_timed_wait(uint64_t *storage, pthread_mutex_t *mutex, unsigned long us) {
    uint64_t end = gs_clock_monotonic() + us * UINT64_C(1000);
    if (gs_scheduling()) {
        struct timespec until = {.tv_sec = (time_t)(end / 1000000000u),
                                 .tv_nsec = (long)(end % 1000000000u)};
        struct gs_own_wait own = {.timed_wait = pthread_cond_timedwait,
                                  .cond = built_in(storage)->own_cond,
                                  .until = &until};
        return gs_gil_wait(&built_in(storage)->queue, mutex, &own) == ETIMEDOUT;
    }
    return !gs_condvar_wait(&built_in(storage)->cond, mutex, gs_gil_parameters.backend, end,
                            gs_thread_number());
}

/* Under io-priority nobody waits on switch_cond. */
HOT bool gs_built_in_acquired_signals(uint64_t *storage) {
    acquired(storage);
    if (!gs_hook_has_condvar())
        return false;
    if (gs_scheduling())
        gs_gil_acquired(&built_in(storage)->queue);
    if (!gs_scheduling() || !gs_rule(GS_RULE_ONCE))
        gs_condvar_signal(&built_in(storage)->switch_cond);
    return true;
}

HOT bool gs_built_in_released_signals(uint64_t *storage, pthread_mutex_t *mutex) {
    released(storage);
    if (!gs_hook_has_condvar())
        return false;
    if (gs_scheduling())
        return gs_gil_released(&built_in(storage)->queue, mutex,
                               gs_writer.last_forced ? GS_FORCED : GS_VOLUNTARY);
    int woken = gs_condvar_signal(&built_in(storage)->cond);
    if (woken != GS_NOBODY_WAITS && watched(gil_of(storage)))
        gs_on_wakeup(gil_of(storage), (uint16_t)woken);
    return true;
}

/* Whoever is about to block need not wait for another to have the GIL: the queue knows whose turn
 * it is. */
void gs_built_in_switch_wait(uint64_t *storage, pthread_mutex_t *mutex,
                             pthread_mutex_t *switch_mutex) {
    if (!gs_scheduling() || !gs_rule(GS_RULE_ONCE)) {
        gs_condvar_wait(&built_in(storage)->switch_cond, switch_mutex, gs_gil_parameters.backend,
                        UINT64_MAX, gs_thread_number());
        return;
    }
    if (!gs_writer.last_forced)
        return;
    /* switch_mutex is taken inside the GIL's mutex: never the other way round. */
    pthread_mutex_unlock(switch_mutex);
    pthread_mutex_lock(mutex);
    gs_built_in_waits(storage);
    gs_gil_wait_after_yield(&built_in(storage)->queue, mutex);
    pthread_mutex_unlock(mutex);
    pthread_mutex_lock(switch_mutex);
}

void gs_built_in_slept(uint64_t ns) {
    if (gs_scheduling())
        gs_gil_thread_slept(ns);
    gs_on_slept(ns);
}

void gs_built_in_gil_destroyed(uint64_t *storage, pthread_mutex_t *mutex) {
    gs_stacks_end(gil_of(storage));
    if (gs_scheduling()) {
        gs_gil_close(&built_in(storage)->queue, mutex);
        return;
    }
    /* Who was signalled touches its own parker and the mutex, nothing that is made anew here. */
    pthread_mutex_lock(mutex);
    while (gs_condvar_signal(&built_in(storage)->cond) != GS_NOBODY_WAITS)
        ;
    pthread_mutex_unlock(mutex);
}

#endif

/* ---- locks and conditions ---------------------------------------------------------------------
 */

/* How this thread waits for a Condition in Python, if it does. */
static __thread struct {
    const void *condition, *mutex;
} waits_by;

static __thread uint32_t told_in; /* the epoch of its last wait that was told */

void gs_built_in_condition_waits(const void *condition, const void *mutex) {
    waits_by.condition = condition;
    waits_by.mutex = mutex;
}

enum gs_blocker gs_built_in_mutex_at(const void *mutex) {
    return mutex == waits_by.mutex ? GS_ON_CONDITION : GS_ON_PYMUTEX;
}

static bool is_lock(enum gs_blocker on) {
    return on == GS_ON_PYMUTEX || on == GS_ON_THREAD_LOCK;
}

static enum gs_sync_kind kind_of(enum gs_blocker on) {
    switch (on) {
    case GS_ON_PYMUTEX:
        return GS_SYNC_PYMUTEX;
    case GS_ON_THREAD_LOCK:
        return GS_SYNC_SEM_LOCK;
    case GS_ON_INTERPRETER:
        return GS_SYNC_INTERPRETER;
    case GS_ON_CONDITION:
        return GS_SYNC_PYTHON;
    }
    return GS_SYNC_UNKNOWN;
}

static const void *named(const void *object, enum gs_blocker on) {
    return on == GS_ON_CONDITION ? waits_by.condition : object;
}

/* A thread that blocks with the GIL in hand (an extension may) goes on holding, for the trace. */
bool gs_built_in_blocks(const void *object, enum gs_blocker on) {
    gs_writer_follow();
    if (gs_writer.held_since)
        return false;
    told_in = gs_writer.epoch;
    if (is_lock(on))
        gs_on_lock_wait(object, kind_of(on));
    else
        gs_on_cond_wait(named(object, on), kind_of(on));
    return true;
}

void gs_built_in_blocked(const void *object, enum gs_blocker on, bool gave_up) {
    if (told_in != epoch_now()) /* the recording came or went meanwhile */
        return;
    if (is_lock(on))
        gs_on_lock_acquire(object, kind_of(on), gave_up);
    else
        gs_on_cond_wake(named(object, on), kind_of(on), gave_up);
}

/* The release of a Condition's lock was told before, as its notify. */
void gs_built_in_wakes(const void *object, enum gs_blocker on, unsigned woken) {
    if (is_lock(on))
        gs_on_lock_release(object, kind_of(on));
    else if (on != GS_ON_CONDITION)
        gs_on_cond_notify(object, kind_of(on), woken);
}

void gs_built_in_condition_notifies(const void *condition, unsigned woken) {
    gs_on_cond_notify(condition, GS_SYNC_PYTHON, woken);
}

/* ---- atomic sections --------------------------------------------------------------------------
 */

/* The interpreter keeps a request while its holder is in a section (gs_hook_holds_back), so there
 * is none to look for when one begins, and no GIL to know: whoever calls has one. */
int gs_asked_to_yield(void) {
    return gs_writer.atomic_deferred;
}

const struct gs_gil *gs_held_gil(void) {
    static const struct gs_gil some;
    return &some;
}

bool gs_built_in_holds_back(void) {
    if (!gs_writer.atomic_depth)
        return false;
    gs_writer.atomic_deferred = true;
    return true;
}

/* ---- threads ----------------------------------------------------------------------------------
 */

int gs_built_in_thread_create(pthread_t *thread, const pthread_attr_t *attributes,
                              void *(*start)(void *), void *argument) {
    if (!gs_counting())
        return pthread_create(thread, attributes, start, argument);
    int saved_errno = errno;
    char name[GS_NAME_BYTES] = "";
    if (gs_writer.held_since) { /* an extension may start a thread with the GIL given up */
        gs_name_new_thread(argument, name, sizeof name);
        gs_refresh_names();
    }
    errno = saved_errno;
    return gs_thread_create(thread, attributes, start, argument, name, pthread_create);
}

void gs_built_in_thread_named(uint32_t tid, const char *name) {
    if (gs_counting())
        gs_thread_named(tid, name);
}

/* ---- a recording begins and ends --------------------------------------------------------------
 */

static void switch_hooks(bool recording) {
    unsigned on = GS_HOOKS_RECORDING | (gs_switch_on("locks", true) ? GS_HOOKS_LOCKS : 0);
    unsigned others = gs_hooks_on & ~(unsigned)(GS_HOOKS_RECORDING | GS_HOOKS_LOCKS);
    __atomic_store_n(&gs_hooks_on, others | (recording ? on : 0), __ATOMIC_RELAXED);
}

static int begin_late(const char *rings, const char *stacks, struct gs_gil_memory *memory,
                      void (*in_child)(void)) {
    if (gs_hooks_on & GS_HOOKS_RECORDING)
        return EEXIST;
    if (memory != first.memory)
        return EINVAL;
    gs_waits_forget();
    __atomic_add_fetch(&gs_process.epoch, 1, __ATOMIC_SEQ_CST);
    if (gs_process.page) /* of a recording that is over, in memory of nobody's */
        gs_process.page->n_gils = 0;
    int error = gs_process_begin_late(rings, stacks);
    if (error)
        return error;
    gs_after_begin_in_child = in_child;
    pthread_mutex_lock(&memory->mutex);
    switch_hooks(true);
    describe(GS_BEGUN_LATE);
    gs_process_interval_is(&memory->interval);
    acquired(first.storage);
    pthread_cond_broadcast(&memory->cond); /* who waits comes back through the hooks */
    pthread_mutex_unlock(&memory->mutex);
    return 0;
}

static void end_late(void) {
    gs_process_end_late();
    switch_hooks(false);
    __atomic_add_fetch(&gs_process.epoch, 1, __ATOMIC_SEQ_CST);
    gs_after_begin_in_child = NULL;
    gs_process_leave_rings();
}

static void read_names(void) {
    if (gs_recording())
        gs_read_all_names();
}

const struct gs_api gilscope_built_in_api = {
    .process = &gs_process,
    .emit = gilscope_emit,
    .process_end = gs_process_end,
#if GILSCOPE_WITH_ATOMIC
    .atomic_enter = gilscope_atomic_enter,
    .atomic_exit = gilscope_atomic_exit,
    .atomic_depth = gilscope_atomic_depth,
    .atomic_gil = gilscope_atomic_gil,
    .atomic_hand_over = gilscope_atomic_hand_over,
#endif
    .yield = gilscope_yield,
    .thread_names_itself = gs_thread_names_itself,
    .begin_late = begin_late,
    .end_late = end_late,
    .read_names = read_names,
};

/* ---- loading ----------------------------------------------------------------------------------
 */

static bool left_to_the_stock_feed(void) {
    const char *feed = gs_switch("feed");
    return feed && strcmp(feed, "interposed") == 0;
}

/* Where a probe is preloaded it gives way, and if it has begun already (libpython was loaded late),
 * its recording of this process goes on here. GILSCOPE_FEED=interposed leaves the process to it. */
__attribute__((constructor)) static void load(void) {
    gs_modules_start();
    if (left_to_the_stock_feed())
        return;
    struct gs_process *(*give_way)(int, const struct gs_api *);
    *(void **)&give_way = dlsym(RTLD_DEFAULT, "gilscope_give_way");
    struct gs_process *preloaded =
        give_way ? give_way(gilscope_built_in, &gilscope_built_in_api) : NULL;
    if (preloaded && preloaded->alive)
        gs_process_take_over(preloaded);
    else
        gs_process_start();
    gs_built_in_configure();
}

const char *gs_built_in_configure(void) {
    const char *wrong = NULL;
    if (left_to_the_stock_feed())
        return wrong;
    gs_hooks_on = 0;
    switch_hooks(gs_counting());
    if (gs_counting()) {
        const char *stacks = gs_switch("stacks_us");
        gs_process_choose_stacks(stacks);
        if (gs_process.stack_ticks == GS_STACKS_OFF && stacks && strcmp(stacks, "off") != 0)
            wrong =
                "gilscope.stacks_us (or GILSCOPE_STACKS_US) is a number of microseconds, or off";
    }
#if GILSCOPE_WITH_POLICIES
    gs_interpreter_keeps_requests = true;
    const char *wrong_policy = gs_policy_start();
    wrong = wrong_policy ? wrong_policy : wrong;
    if (gs_scheduling())
        gs_gil_start();
    if (gs_scheduling() ||
        (gs_gil_parameters.backend_chosen && gs_gil_parameters.backend != GS_PTHREAD))
        gs_hooks_on |= GS_HOOKS_CONDVAR;
#endif
    return wrong;
}

__attribute__((destructor)) static void unload(void) {
    gs_process_end();
}

#else /* nothing asks, but api.c is linked */

struct gs_gil *gs_gil_in_hand(void) {
    return NULL;
}

#endif

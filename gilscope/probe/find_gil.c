#define _GNU_SOURCE
#include "find_gil.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "memory.h"
#include "python.h"

#define INTERVAL_MAX_US 10000000ul /* of a new GIL: CPython's default is 5,000 */

/* What a new mutex and a new condition variable of CPython's kinds look like in this C library. */
static pthread_mutex_t new_mutex;
static pthread_cond_t new_cond;

/* Where the first GIL's two came from; NULL: there was none yet. */
static const void *maker_of_cond, *maker_of_switch_cond;

/* A first condition variable that waits for its second. */
static __thread struct {
    pthread_cond_t *cond;
    const void *maker;
    bool known;
} begun;

void gs_find_gil_start(int (*init)(pthread_cond_t *, const pthread_condattr_t *)) {
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    init(&new_cond, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&new_mutex, NULL);
}

void gs_find_gil_after_fork(void) {
    begun.cond = NULL;
}

static struct gs_gil_memory *gil_of(pthread_cond_t *cond) {
    return (struct gs_gil_memory *)((char *)cond - offsetof(struct gs_gil_memory, cond));
}

static bool in_runtime(const struct gs_gil_memory *gil) {
    uintptr_t at = (uintptr_t)gil;
    return at >= gs_python.runtime && at + sizeof *gil <= gs_python.runtime_end;
}

/* Whether both calls come from where those for the first GIL came from. */
static bool same_makers(const void *of_cond, const void *of_switch_cond) {
    return maker_of_cond && of_cond == maker_of_cond && of_switch_cond == maker_of_switch_cond;
}

static bool is_new(const struct gs_gil_memory *gil) {
    return memcmp(&gil->cond, &new_cond, sizeof new_cond) == 0 &&
           memcmp(&gil->switch_cond, &new_cond, sizeof new_cond) == 0 &&
           memcmp(&gil->mutex, &new_mutex, sizeof new_mutex) == 0 &&
           memcmp(&gil->switch_mutex, &new_mutex, sizeof new_mutex) == 0;
}

/* What CPython has in it while it makes it, and while it makes it anew. */
static bool has_sensible_values(const struct gs_gil_memory *gil, bool known) {
    return gil->locked >= -1 && gil->locked <= 1 && gil->interval &&
           (known || gil->interval <= INTERVAL_MAX_US) &&
           (uintptr_t)gil->last_holder % sizeof(void *) == 0;
}

struct gs_gil_memory *gs_find_gil(pthread_cond_t *cond, const void *caller, bool known) {
    const ptrdiff_t distance =
        offsetof(struct gs_gil_memory, switch_cond) - offsetof(struct gs_gil_memory, cond);
    pthread_cond_t *first = begun.cond;
    const void *maker = begun.maker;
    bool first_known = begun.known;
    begun.cond = cond;
    begun.maker = caller;
    begun.known = known;
    if (!first || (char *)cond - (char *)first != distance)
        return NULL;
    struct gs_gil_memory *gil = gil_of(first), copy;
    bool of_runtime = in_runtime(gil);
    if (!of_runtime && !first_known && !same_makers(maker, caller))
        return NULL;
    /* What is known to be mapped is not asked for: a filter may kill who asks. */
    if (first_known && of_runtime)
        copy = *gil;
    else if (!gs_copy_safely(gil, &copy, sizeof copy))
        return NULL;
    if (!is_new(&copy) || !has_sensible_values(&copy, first_known))
        return NULL;
    if (of_runtime && !maker_of_cond) {
        maker_of_switch_cond = caller;
        maker_of_cond = maker;
    }
    begun.cond = NULL;
    return gil;
}

static bool owned_by_caller(const pthread_mutex_t *mutex) {
#if defined(__GLIBC__)
    return mutex->__data.__lock != 0 && mutex->__data.__owner == (int)syscall(SYS_gettid) &&
           mutex->__data.__kind == new_mutex.__data.__kind;
#else
    (void)mutex;
    return true;
#endif
}

/* ---- a GIL that is there already ---------------------------------------------------------------
 */

#define STANDING_INTERVAL_MAX_US 3600000000ul /* a library may have set it to a hundred seconds */
enum { STATE_WORDS = 32 }; /* of a thread state: its thread's identity is among them, up to 3.15 */

/* Waiters count themselves in the word that also has the clock, above three bits. */
static bool is_standing_cond(const pthread_cond_t *cond) {
    const uint32_t *fresh = (const uint32_t *)&new_cond, *its = (const uint32_t *)cond;
    for (size_t i = 0; i < sizeof *cond / sizeof *its; i++)
        if (fresh[i] && (its[i] & 7) != (fresh[i] & 7))
            return false;
    return true;
}

static bool is_standing_mutex(const pthread_mutex_t *mutex) {
#if defined(__GLIBC__)
    return mutex->__data.__lock >= 0 && mutex->__data.__lock <= 2 && mutex->__data.__count == 0 &&
           mutex->__data.__kind == new_mutex.__data.__kind && mutex->__data.__owner >= 0;
#else
    (void)mutex;
    return false;
#endif
}

/* A thread state holds what pthread_self gives its thread. */
static bool is_state_of_caller(const char *state) {
    uintptr_t words[STATE_WORDS];
    if (!state || (uintptr_t)state % sizeof(void *) || !gs_copy_safely(state, words, sizeof words))
        return false;
    for (unsigned i = 0; i < STATE_WORDS; i++)
        if (words[i] == (uintptr_t)pthread_self())
            return true;
    return false;
}

static bool looks_standing(const struct gs_gil_memory *gil) {
    return gil->interval && gil->interval <= STANDING_INTERVAL_MAX_US && gil->locked == 1 &&
           gil->switch_number && !(gil->switch_number >> 48) && gil->last_holder &&
           is_standing_mutex(&gil->mutex) && is_standing_mutex(&gil->switch_mutex) &&
           is_standing_cond(&gil->cond) && is_standing_cond(&gil->switch_cond);
}

struct gs_gil_memory *gs_find_gil_in_use(void) {
    struct gs_gil_memory *found = NULL;
    uintptr_t start = gs_python.runtime, end = gs_python.runtime_end;
    if (!start || !gs_readable((const void *)start, end - start))
        return NULL;
    for (uintptr_t at = start; at + sizeof *found <= end; at += sizeof(void *)) {
        struct gs_gil_memory *gil = (struct gs_gil_memory *)at;
        if (!looks_standing(gil))
            continue;
        if (found)
            return NULL; /* two: neither is believed */
        found = gil;
    }
    return found && is_state_of_caller(found->last_holder) ? found : NULL;
}

struct gs_gil_memory *gs_find_gil_taken(pthread_cond_t *switch_cond, const void *caller) {
    struct gs_gil_memory copy,
        *gil = (void *)((char *)switch_cond - offsetof(struct gs_gil_memory, switch_cond));
    if ((uintptr_t)gil % sizeof(void *) || !gs_copy_safely(gil, &copy, sizeof copy) ||
        !looks_standing(&copy) || !gs_gil_is_proved(gil, caller) ||
        !is_state_of_caller(copy.last_holder))
        return NULL;
    return gil;
}

bool gs_gil_is_proved(const struct gs_gil_memory *gil, const void *caller) {
    struct gs_gil_memory copy;
    if (!gs_python_owns(caller))
        return false;
    if (in_runtime(gil))
        copy = *gil;
    else if (!gs_copy_safely(gil, &copy, sizeof copy))
        return false;
    return owned_by_caller(&copy.mutex) && owned_by_caller(&copy.switch_mutex) &&
           copy.locked == 1 && copy.interval && copy.switch_number && copy.last_holder &&
           (uintptr_t)copy.last_holder % sizeof(void *) == 0 &&
           gs_readable(copy.last_holder, sizeof(void *));
}

#define _GNU_SOURCE
#include "release.h"

#include <stddef.h>
#include <string.h>

#include "memory.h"
#include "python.h"

enum { WORDS = 64, PAGE = 4096, CALLS = 64, FUNCTION_BYTES = 512, ITSELF = 1 };

struct gs_release gs_release;

/* A call of a function that lets the GIL go, other than PyEval_SaveThread; only where that has a
 * copy of the release in itself. */
struct call {
    uintptr_t code;   /* in that function: word 0 of the stack; stored last. 0: not there yet */
    uintptr_t caller; /* what the call returns to; 0: could not be found (it may be, elsewhere) */
    unsigned place;   /* the word of the stack that it lies in */
    uint32_t unasked; /* atomic: releases by it that nobody had asked for */
    uint32_t asked;   /* atomic: and that somebody had, as long as there was none of those */
};

static struct call calls[CALLS];
static unsigned n_calls; /* atomic; may be more: then there was no room */

static bool in_save_thread(uintptr_t code) {
    return code > gs_python.save_thread && code < gs_python.save_thread_end;
}

static bool in_evaluation_loop(uintptr_t code) {
    return code > gs_python.handle_pending && code < gs_python.handle_pending_end;
}

/* How many words of the stack there are. The page that its end lies in is there; a program may
 * have made the stack itself, and what comes behind it need not be. */
static unsigned words_there(const uintptr_t *stack) {
    unsigned n = (unsigned)((PAGE - ((uintptr_t)stack & (PAGE - 1))) / sizeof *stack);
    return n >= WORDS || gs_readable(stack + n, (WORDS - n) * sizeof *stack) ? WORDS : n;
}

/* Whether the function that has `code` is what is called before `returns_to`. A function has
 * entries that jump to it, so its beginning is not known: near before is near enough. */
static bool calls_it(uintptr_t returns_to, uintptr_t code) {
#ifdef __x86_64__
    enum { CALL = 0xe8, BYTES = 5 };
    if (returns_to < gs_python.code + BYTES || returns_to >= gs_python.code_end)
        return false;
    const unsigned char *at = (const unsigned char *)returns_to;
    int32_t distance;
    memcpy(&distance, at - sizeof distance, sizeof distance);
    return at[-BYTES] == CALL &&
           code - (returns_to + (uintptr_t)(intptr_t)distance) < FUNCTION_BYTES;
#else
    (void)returns_to, (void)code;
    return false;
#endif
}

/* Word k of the stack; 0 where the stack ends before. */
__attribute__((no_sanitize("address"))) static uintptr_t word(const uintptr_t *stack, unsigned k) {
    bool same_page = ((uintptr_t)stack ^ (uintptr_t)(stack + k)) < PAGE;
    return same_page || gs_readable(stack + k, sizeof *stack) ? stack[k] : 0;
}

/* The word of the stack that a call of the function at stack[0] returns to; 0: none is seen. They
 * lie in every second word, as stacks are aligned. */
__attribute__((no_sanitize("address"))) static unsigned place_of_caller(const uintptr_t *stack) {
    for (unsigned k = 2, n = words_there(stack); k < n; k += 2)
        if (calls_it(stack[k], stack[0]))
            return k;
    return 0;
}

/* NULL: there is no room. */
static struct call *call_of(const uintptr_t *stack) {
    struct call *without_caller = NULL;
    unsigned n = __atomic_load_n(&n_calls, __ATOMIC_RELAXED);
    for (struct call *its = calls; its < calls + (n < CALLS ? n : CALLS); its++) {
        if (__atomic_load_n(&its->code, __ATOMIC_ACQUIRE) != stack[0])
            continue;
        if (!its->caller)
            without_caller = its;
        else if (word(stack, its->place) == its->caller)
            return its;
    }
    if (without_caller &&
        __atomic_load_n(&without_caller->unasked, __ATOMIC_RELAXED) >= GS_RELEASE_LESSONS)
        return without_caller;
    unsigned place = place_of_caller(stack);
    if (!place && without_caller)
        return without_caller;
    unsigned i = n < CALLS ? __atomic_fetch_add(&n_calls, 1, __ATOMIC_RELAXED) : CALLS;
    if (i >= CALLS)
        return NULL;
    calls[i].caller = place ? word(stack, place) : 0;
    calls[i].place = place;
    __atomic_store_n(&calls[i].code, stack[0], __ATOMIC_RELEASE);
    return &calls[i];
}

static void learn_call(const uintptr_t *stack) {
    struct call *its = call_of(stack);
    if (its)
        __atomic_fetch_add(&its->unasked, 1, __ATOMIC_RELAXED);
}

/* Where no caller was found it may be the evaluation loop's as well, until that is seen elsewhere:
 * a call that is only made when somebody asked. */
static bool is_voluntary_call(const uintptr_t *stack) {
    struct call *its = call_of(stack);
    if (!its)
        return false;
    uint32_t unasked = __atomic_load_n(&its->unasked, __ATOMIC_RELAXED);
    if (!unasked && __atomic_add_fetch(&its->asked, 1, __ATOMIC_RELAXED) >= GS_RELEASE_LESSONS)
        __atomic_store_n(&gs_release.loop_seen, true, __ATOMIC_RELAXED);
    return unasked >= GS_RELEASE_LESSONS &&
           (its->caller || __atomic_load_n(&gs_release.loop_seen, __ATOMIC_RELAXED));
}

__attribute__((no_sanitize("address"))) static void learn_places(const uintptr_t *stack) {
    uint64_t places = 0;
    for (unsigned k = 0, n = words_there(stack); k < n; k++)
        if (in_save_thread(stack[k]))
            places |= UINT64_C(1) << k;
    if (!places)
        return;
    if (places & ITSELF) /* other words that look so are of earlier calls */
        gs_release.places = ITSELF;
    else
        gs_release.places = gs_release.lessons ? gs_release.places & places : places;
    if (++gs_release.lessons < GS_RELEASE_LESSONS)
        return;
    bool itself = gs_release.places == ITSELF;
    gs_release.learned = itself ? gs_python.save_thread : 0;
    gs_release.learned_bytes =
        itself ? gs_python.save_thread_end - gs_python.save_thread : UINTPTR_MAX;
}

void gs_release_learn(const uintptr_t *stack) {
    if (gs_release.places != ITSELF || in_save_thread(stack[0]))
        learn_places(stack);
    else
        learn_call(stack);
}

bool gs_release_was_forced(const uintptr_t *stack) {
    if (gs_release.places == ITSELF)
        return !in_save_thread(stack[0]) && !is_voluntary_call(stack);
    uintptr_t caller = word(stack, (unsigned)__builtin_ctzll(gs_release.places));
    if (in_save_thread(caller))
        return false;
    if (in_evaluation_loop(caller))
        __atomic_store_n(&gs_release.loop_seen, true, __ATOMIC_RELAXED);
    else if (__atomic_load_n(&gs_release.loop_seen, __ATOMIC_RELAXED))
        return false;
    return true;
}

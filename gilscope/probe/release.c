#define _GNU_SOURCE
#include "release.h"

#include <stddef.h>

#include "memory.h"
#include "python.h"

enum { WORDS = 64, PAGE = 4096 };

struct gs_release gs_release;

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

__attribute__((no_sanitize("address"))) void gs_release_learn(const uintptr_t *stack) {
    uint64_t places = 0;
    for (unsigned k = 0, n = words_there(stack); k < n; k++)
        if (in_save_thread(stack[k]))
            places |= UINT64_C(1) << k;
    if (!places)
        return;
    gs_release.places = gs_release.lessons ? gs_release.places & places : places;
    gs_release.lessons++;
}

__attribute__((no_sanitize("address"))) bool gs_release_was_forced(const uintptr_t *stack) {
    const uintptr_t *place = stack + __builtin_ctzll(gs_release.places);
    bool same_page = ((uintptr_t)stack ^ (uintptr_t)place) < PAGE;
    uintptr_t caller = same_page || gs_readable(place, sizeof *place) ? *place : 0;
    if (in_save_thread(caller))
        return false;
    if (in_evaluation_loop(caller))
        __atomic_store_n(&gs_release.loop_seen, true, __ATOMIC_RELAXED);
    else if (__atomic_load_n(&gs_release.loop_seen, __ATOMIC_RELAXED))
        return false;
    return true;
}

/* Whether a release was forced, read off the stack of the call that made it.
 *
 * CPython lets the GIL go in one function, called either from PyEval_SaveThread (the thread is
 * about to block: voluntary) or from the evaluation loop, which found a waiter's request (forced).
 * The calls that the probe sees are the same. After the release a forced thread waits on
 * switch_cond, but only if nobody has taken the GIL by then, and up to 3.12 the taker may clear the
 * request first: most forced yields on a busy machine would look voluntary.
 *
 * The return address tells. How far up it lies depends on the build, so it is learned: at releases
 * that nobody asked for, the place that always holds an address in PyEval_SaveThread. Where nothing
 * can be learned (no such symbol, signed return addresses) the wait on switch_cond has to do.
 *
 * Two more callers let the GIL go by themselves: a thread that ends, and from 3.13 on one that
 * blocks on an interpreter's own lock. They are told apart
 * - where the function of the evaluation loop has a name (from 3.13 on) and was seen at that place;
 * - where the compiler made the release a part of PyEval_SaveThread (Debian's 3.14 and 3.15, on
 *   x86-64), by the calls of the function that the others call. The evaluation loop's is never made
 *   unless somebody asked, so a call that often is made without is voluntary.
 */
#ifndef GILSCOPE_RELEASE_H
#define GILSCOPE_RELEASE_H

#include <stdbool.h>
#include <stdint.h>

enum { GS_RELEASE_LESSONS = 16 };

struct gs_release {
    uint64_t places;  /* bit k: word k above the call held such an address in every lesson */
    uint32_t lessons; /* had so far; one that shows no such address (a thread's end) counts not */
    bool loop_seen;   /* atomic: the evaluation loop's own release was seen */
    /* Code whose releases teach nothing more, where nobody asked: none, PyEval_SaveThread or all */
    uintptr_t learned, learned_bytes;
};

extern struct gs_release gs_release;

/* At a release that was not asked for. `stack` begins with the wrapper's return address. The GIL's
 * mutex is held; GILs of other interpreters may learn at the same time, and learn the same. */
void gs_release_learn(const uintptr_t *stack);

/* Whether a release at `code`, the wrapper's return address, has something to teach. */
static inline bool gs_release_teaches(const void *code) {
    return (uintptr_t)code - gs_release.learned >= gs_release.learned_bytes;
}

static inline bool gs_release_can_tell(void) {
    return gs_release.lessons >= GS_RELEASE_LESSONS && gs_release.places;
}

/* At a release that a waiter had asked for, where gs_release_can_tell. */
bool gs_release_was_forced(const uintptr_t *stack);

#endif

/* Whether the holder of a GIL is asked to yield: the one place that remembers it.
 *
 * A waiter whose time is up asks; then CPython is told, which makes the holder yield where it looks
 * for requests. While the holder is in an atomic section CPython is not told: the holder looks for
 * a request itself, when its section begins and when it ends, and gives the GIL away where it finds
 * one. The depth of sections belongs to the holder, so a thread that blocks inside its section lets
 * others run, and they are asked as ever.
 *
 * No request gets lost between the two: the waiter stores its request, then looks at the depth; the
 * holder stores its depth, then looks for a request; with a fence on each side (fence.h) one of
 * them sees the other. What may be lost nevertheless is what CPython was told (up to 3.12 a thread
 * that leaves its wait to exit takes everybody's request back) or a fence that the kernel refuses,
 * so a request that has had no answer for a switch interval is made again by whoever waits then.
 *
 * tests/unit/test_request_model.py visits every order of these steps.
 *
 * Actors: ask, withdraw and answered run with the GIL's mutex held. The holder's look does not. */
#ifndef GILSCOPE_REQUEST_H
#define GILSCOPE_REQUEST_H

#include <stdbool.h>

#include "emit.h"

/* Python Plus has the interpreter keep a request while its holder is in a section. */
extern bool gs_interpreter_keeps_requests;

/* The calling thread waits for `gil`, and its time is up. Returns whether CPython is to be told. */
bool gs_request_ask(struct gs_gil *gil);

/* Nobody waits any more who asked: in a fork's child. */
static inline void gs_request_withdraw(struct gs_gil *gil) {
    __atomic_store_n(&gil->asked, false, __ATOMIC_RELAXED);
}

/* The holder let it go, and another thread, or the same one anew, has taken it. */
static inline void gs_request_answered(struct gs_gil *gil) {
    __atomic_store_n(&gil->asked, false, __ATOMIC_RELAXED);
}

static inline bool gs_request_pending(const struct gs_gil *gil) {
    return __atomic_load_n(&gil->asked, __ATOMIC_RELAXED);
}

#endif

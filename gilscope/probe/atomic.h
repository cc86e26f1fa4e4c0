/* Atomic sections on a stock interpreter: no thread is made to yield the GIL inside one.
 *
 * CPython asks a holder to yield where a waiter's timed wait for the GIL timed out. While the
 * *holder* is in a section that is kept from it, and the holder finds the request itself at the
 * section's end: request.h says how none gets lost. In Python Plus the interpreter keeps the
 * request until the section is over (gs_hook_holds_back). */
#ifndef GILSCOPE_ATOMIC_H
#define GILSCOPE_ATOMIC_H

#include "emit.h"

/* Both are in the feed. The GIL that the calling thread holds; NULL where none is watched. */
const struct gs_gil *gs_held_gil(void);

/* Whether a waiter asked for it that the interpreter knows nothing of; -1 where none is watched. */
int gs_asked_to_yield(void);

#endif

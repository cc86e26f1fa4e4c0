/* Atomic sections on a stock interpreter: no thread is made to yield the GIL inside one.
 *
 * CPython asks a holder to yield where a waiter's timed wait for the GIL timed out. The feed keeps
 * that from the waiter while the *holder* is in a section: the wait looks as if it had woken
 * without cause, and begins anew. The depth belongs to the holder, so a thread that blocks inside
 * its section lets others run, and they are asked as ever.
 *
 * Entering must not miss a request that is on its way. The enterer stores its depth, then looks for
 * a request; the waiter (with the GIL's mutex) stores its request, then looks at the depth. With a
 * full fence between the two on each side, one of them sees the other. The enterer's fence would
 * take more time than all else that it does, so the waiter, who comes once a switch interval, has
 * the kernel execute both (membarrier). Where the enterer sees a request it lets the GIL go once,
 * before its section begins, and takes it back: that clears it. */
#ifndef GILSCOPE_ATOMIC_H
#define GILSCOPE_ATOMIC_H

#include <stdbool.h>

#include "emit.h"

/* The GIL that the calling thread holds, and whether its holder was asked to yield; NULL where none
 * is watched. In the feed. */
const struct gs_gil *gs_held_gil(void);
const bool *gs_request_to_yield(void);

/* The wait for `gil` timed out; its mutex is held. Whether the holder must not be asked; where it
 * may, `*requested` is set. */
bool gs_atomic_holds_back(const struct gs_gil *gil, bool *requested);

#endif

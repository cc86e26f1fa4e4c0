/* A fence between a thread that often stores and then looks, and one that seldom does.
 *
 * Both store something of their own and then look at what the other stores. With a full fence
 * between the two on each side, one of them sees the other. The fence of the thread that begins or
 * ends an atomic section would take more time than all else that it does, so the waiter, who comes
 * once a switch interval, has the kernel execute both (membarrier).
 *
 * Actors: threads that hold a GIL, and threads that wait for it with its mutex held. errno is kept.
 */
#ifndef GILSCOPE_FENCE_H
#define GILSCOPE_FENCE_H

#include <stdbool.h>

/* Who executes the holder's fence. NOT_KNOWN: no holder has come by yet. */
enum gs_fencer { GS_FENCER_NOT_KNOWN, GS_THE_WAITER, GS_THE_HOLDER };
extern enum gs_fencer gs_fencer;

/* Where it is not the waiter who does it for us. */
void gs_fence_of_holder_itself(void);

static inline void gs_fence_of_holder(void) {
    if (__builtin_expect(__atomic_load_n(&gs_fencer, __ATOMIC_ACQUIRE) == GS_THE_WAITER, 1))
        __atomic_signal_fence(__ATOMIC_SEQ_CST); /* of the compiler alone */
    else
        gs_fence_of_holder_itself();
}

/* Returns false where holders' fences could not be executed this time. From then on holders execute
 * their own: a later call is good. */
bool gs_fence_of_waiter(void);

#endif

/* The GILs that the stock feed watches: a table of slots, looked up by address at every call.
 *
 * Actors: any thread of the host looks up; whoever makes or ends a GIL writes its slot. A slot has
 * an address as its `cond` only once its GIL is proved (find_gil.h); what lies between is known by
 * its `switch_cond` alone, at which the proof is made. */
#ifndef GILSCOPE_WATCHED_H
#define GILSCOPE_WATCHED_H

#include <pthread.h>
#include <stdbool.h>

#include "emit.h"
#include "find_gil.h"
#include "process.h"

struct gs_watched {
    _Atomic(pthread_cond_t *) cond; /* NULL: free slot; its own address: not proved yet */
    pthread_cond_t *switch_cond;
    bool scheduled; /* its waiters are in schedule.h */
    bool has_index; /* so has a free slot: that of the GIL that was in it */
    struct gs_gil_memory *memory;
    struct gs_gil gil;
};

extern struct gs_watched gs_watched[GS_WATCHED_GILS];
extern _Atomic unsigned gs_n_watched; /* slots below may be in use */

/* Watches what gs_find_gil returned; returns whether there was room. */
bool gs_watch(struct gs_gil_memory *memory);

/* Watches a GIL that is proved already, which the calling thread holds. NULL: no room. */
struct gs_watched *gs_watch_in_use(struct gs_gil_memory *memory);

/* Nothing is watched any more: a recording begins late, with the GIL held. */
void gs_watched_begin_anew(void);

/* The calling thread signals the `switch_cond` of a slot for the first time. Proves it, or gives
 * the slot up. */
bool gs_watched_prove(struct gs_watched *its, const void *caller);

/* The condition variable is made anew or destroyed. Returns whether it was a proved GIL's `cond`.
 */
bool gs_watched_forget(pthread_cond_t *cond);

/* In a fork's child that is recorded. */
void gs_watched_after_fork(void);

static inline unsigned gs_watched_slot(const struct gs_watched *its) {
    return (unsigned)(its - gs_watched);
}

static inline bool gs_watched_is_proved(const struct gs_watched *its) {
    return its->cond && (const void *)its->cond != its;
}

static inline struct gs_watched *gs_watched_by_cond(pthread_cond_t *cond) {
    unsigned n = gs_n_watched;
    for (unsigned i = 0; i < n; i++)
        if (gs_watched[i].cond == cond)
            return &gs_watched[i];
    return NULL;
}

static inline struct gs_watched *gs_watched_by_switch_cond(pthread_cond_t *cond) {
    unsigned n = gs_n_watched;
    for (unsigned i = 0; i < n; i++)
        if (gs_watched[i].switch_cond == cond && gs_watched_is_proved(&gs_watched[i]))
            return &gs_watched[i];
    return NULL;
}

/* The GIL that the calling thread holds, or NULL. PyGILState_Check does not tell: once there was a
 * sub-interpreter it says yes to everyone. */
static inline struct gs_watched *gs_watched_held(void) {
    unsigned n = gs_n_watched;
    for (struct gs_watched *its = gs_watched; its < gs_watched + n; its++)
        if (its->gil.holder == &gs_writer && its->cond)
            return its;
    return NULL;
}

#endif

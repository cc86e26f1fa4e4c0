/* What a thread remembers of its turns with the GIL, for gil_condvar.c: what it held, and whether
 * its releases are short or long.
 *
 * Whether a release will be a short one is told as a processor tells its branches: the outcomes of
 * a thread's last three releases choose a counter, and the counter says what came next the other
 * times. A server that reads (long) and writes (short) by turns is soon known.
 *
 * Actors: each thread for itself. */
#ifndef GILSCOPE_GIL_THREAD_H
#define GILSCOPE_GIL_THREAD_H

#include <stdbool.h>
#include <stdint.h>

#include "rules.h"

#define GS_SHORT_NS 5000u /* a release that ends within this is a short one */

struct gs_gil_condvar;

/* For whichever GIL the thread waits. */
struct gs_gil_thread {
    const struct gs_gil_condvar *waiting;
    uint64_t since;       /* ns; when its wait began */
    uint64_t patience;    /* ns; for so long it leaves any holder alone: it polls; 0: it does not */
    uint64_t ticket;      /* its place; kept from one call of a wait to the next */
    uint64_t burst;       /* ns held since it last let the GIL go by itself */
    uint64_t used;        /* ns of its quantum */
    uint64_t released_at; /* ns; 0: nothing to learn from */
    uint32_t returns;     /* with its place kept */
    uint16_t outcomes;    /* eight two-bit counters, by history: 2 and 3, the release is short */
    uint8_t history;      /* the last three: 1, it was short */
    uint8_t wait_class;   /* enum gs_class, of the present wait */
    bool yields;
    bool slept; /* for less than GS_SHORT_SLEEP_NS, since it last let the GIL go */
    bool brief; /* its slice of the processor is short */
    bool begun; /* it has had a GIL */
};

/* It waits for the GIL, or has it: that is how its last release ended. */
static inline void gs_thread_learn(struct gs_gil_thread *me, uint64_t now) {
    if (!me->released_at)
        return;
    bool was_short = now - me->released_at < GS_SHORT_NS;
    unsigned shift = 2u * (me->history & 7u);
    unsigned counter = me->outcomes >> shift & 3u;
    if (was_short ? counter < 3 : counter > 0)
        counter = was_short ? counter + 1 : counter - 1;
    me->outcomes = (uint16_t)((me->outcomes & ~(3u << shift)) | counter << shift);
    me->history = (uint8_t)(me->history << 1 | was_short);
    me->released_at = 0;
}

static inline bool gs_thread_release_is_short(const struct gs_gil_thread *me) {
    if (!gs_rule(GS_RULE_PREDICT))
        return me->history & 1u; /* as the last one was */
    return me->outcomes >> 2u * (me->history & 7u) & 2u;
}

#endif

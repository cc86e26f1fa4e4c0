/* Stretches: how long a thread used the GIL between two times that it blocked.
 *
 * A stretch adds up the holds of one thread across forced yields; it ends where the thread gives
 * the GIL up by itself. Up to Python 3.12 a forced yield may look like a voluntary release, so a
 * release that a request came before, and behind which the thread asks again within `prompt_ns`,
 * goes on with the stretch too. (A request alone would say little: a thread that blocks may meet
 * one by chance.)
 *
 * Parts of stretches are counted apart while nobody shares the thread's GIL: before its second
 * holder came, and after all others had it for the last time. What a main thread does before it
 * starts its first thread, and an interpreter while it ends, harms nobody.
 */
#include <stdbool.h>
#include <stdlib.h>

#include "../trace/story.h"

enum { GS_ALONE = 0, GS_SHARED = 1 };

struct gs_stretches {
    int64_t held_ns[2]; /* alone, shared */
    int64_t long_ns[2]; /* the part in stretches of at least `long_ns` */
    uint64_t holds[2];
    uint64_t count[2]; /* stretches that end there */
};

struct player {
    int64_t parts_ns[2];
    int64_t last_end_ns;
    uint32_t cursor; /* into its waits */
    uint8_t phase, last_ending, requested;
    bool open;
};

/* A GIL is shared from when its second thread took it until all threads but one had let it go for
 * the last time; for that one, `last`, until `others_ns`. */
struct gil {
    uint32_t first_holder, last;
    int64_t since_ns;
    int64_t last_ns, others_ns;
};

/* When each GIL was shared. The holds of a GIL ascend, so the last one of each thread is met last.
 */
static void find_sharing(struct gil *gils, const struct gs_hold *holds, uint64_t n) {
    for (uint64_t i = 0; i < n; i++) {
        const struct gs_hold *hold = &holds[i];
        struct gil *g = &gils[hold->gil];
        if (g->first_holder == GS_NOBODY)
            g->first_holder = g->last = hold->thread;
        if (g->since_ns == INT64_MAX && hold->thread != g->first_holder)
            g->since_ns = hold->start_ns;
        if (hold->thread != g->last) {
            g->others_ns = g->last_ns;
            g->last = hold->thread;
        }
        g->last_ns = hold->end_ns;
    }
}

static bool is_shared(const struct gil *g, const struct gs_hold *hold) {
    return hold->start_ns >= g->since_ns &&
           (hold->thread != g->last || hold->start_ns < g->others_ns);
}

static void close_stretch(struct player *p, struct gs_stretches *out, int64_t long_ns) {
    if (!p->open)
        return;
    bool is_long = p->parts_ns[GS_ALONE] + p->parts_ns[GS_SHARED] >= long_ns;
    for (int phase = 0; phase < 2; phase++) {
        out->held_ns[phase] += p->parts_ns[phase];
        out->long_ns[phase] += is_long ? p->parts_ns[phase] : 0;
        p->parts_ns[phase] = 0;
    }
    out->count[p->phase]++;
    p->open = false;
}

/* When the thread asked for what became this hold: the begin of its wait, if it has one. */
static int64_t asked_ns(const struct gs_hold *hold, struct player *p, const struct gs_wait *waits,
                        const uint32_t *order, uint32_t end) {
    for (; p->cursor < end; p->cursor++) {
        const struct gs_wait *wait = &waits[order[p->cursor]];
        if (wait->end_ns > hold->start_ns)
            break;
        if (wait->end_ns == hold->start_ns && wait->ending == GS_ACQUIRED) {
            p->cursor++;
            return wait->start_ns;
        }
    }
    return hold->start_ns;
}

/* `first` and `order` group the waits by thread. `out`: one row a thread, zeroed by the caller.
 * `shared_ns`: from and until when each GIL was shared; until is before from where it never was.
 * Returns 0, or -1: out of memory. */
GS_EXPORT int gs_stretches_of(const struct gs_hold *holds, uint64_t n, const struct gs_wait *waits,
                              const uint32_t *first, const uint32_t *order, uint32_t n_threads,
                              uint32_t n_gils, int64_t long_ns, int64_t prompt_ns,
                              struct gs_stretches *out, int64_t (*shared_ns)[2]) {
    struct player *players = calloc((size_t)n_threads + 1, sizeof *players);
    struct gil *gils = calloc((size_t)n_gils + 1, sizeof *gils);
    int result = players && gils ? 0 : -1;
    for (uint32_t t = 0; result == 0 && t < n_threads; t++)
        players[t].cursor = first[t];
    for (uint32_t g = 0; result == 0 && g < n_gils; g++)
        gils[g] = (struct gil){.first_holder = GS_NOBODY, .last = GS_NOBODY, .since_ns = INT64_MAX};
    if (result == 0)
        find_sharing(gils, holds, n);
    for (uint64_t i = 0; result == 0 && i < n; i++) {
        const struct gs_hold *hold = &holds[i];
        struct player *p = &players[hold->thread];
        int64_t asked = hold->flags & GS_HOLD_WAITED
                            ? asked_ns(hold, p, waits, order, first[hold->thread + 1])
                            : hold->start_ns;
        bool goes_on =
            p->last_ending == GS_YIELDED ||
            (p->last_ending == GS_RELEASED && p->requested && asked - p->last_end_ns <= prompt_ns);
        if (!goes_on)
            close_stretch(p, &out[hold->thread], long_ns);
        p->open = true;
        p->phase = is_shared(&gils[hold->gil], hold) ? GS_SHARED : GS_ALONE;
        p->parts_ns[p->phase] += hold->end_ns - hold->start_ns;
        p->last_end_ns = hold->end_ns;
        p->last_ending = hold->ending;
        p->requested = (hold->flags & GS_HOLD_REQUESTED) != 0;
        out[hold->thread].holds[p->phase]++;
    }
    for (uint32_t t = 0; result == 0 && t < n_threads; t++)
        close_stretch(&players[t], &out[t], long_ns);
    for (uint32_t g = 0; result == 0 && g < n_gils; g++) {
        shared_ns[g][0] = gils[g].since_ns;
        shared_ns[g][1] = gils[g].others_ns;
    }
    free(players);
    free(gils);
    return result;
}

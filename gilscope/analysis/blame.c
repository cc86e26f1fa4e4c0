/* Blame: what each wait was spent on.
 *
 * A wait [start, end) is cut by the holds of its GIL into parts, and every nanosecond goes to
 * exactly one row of its thread:
 *   held by H     H held the GIL;
 *   held by ?     the wait began in a gap, up to the end of that gap: nobody saw who held it;
 *   wakeup        the GIL was free and this thread was the next to take it;
 *   idle          the GIL was free and another thread took it, or the wait never came to its end.
 * So the rows of a waiter add up to its waiting time exactly, by construction of the parts.
 *
 * How long waking up took is told by the wakeup that named the thread, where the feed knows whom it
 * signals; else it is the part `wakeup`.
 *
 * The waits of one thread are walked together, which needs room for one row of sums only, and each
 * wait walks the holds that it overlaps: the cost is the number of holds times the threads that
 * wait meanwhile, which is also the number of facts that are summed up.
 */
#include <stdbool.h>
#include <stdlib.h>

#include "../trace/story.h"
#include "distribution.h"

enum gs_reason { GS_HELD = 0, GS_WAKEUP = 1, GS_IDLE = 2 };

struct gs_blame {
    uint32_t waiter;
    uint32_t holder; /* GS_NOBODY for wakeup and idle, and where it is not known */
    int64_t wait_ns;
    uint64_t waits; /* how many waits of this waiter have a part in wait_ns */
    uint32_t reason;
    uint32_t pad;
};

/* One waiter's sums by holder. */
struct sum {
    int64_t ns;
    uint32_t waits;
    uint32_t last; /* the number of the last wait counted */
};

struct rows {
    struct gs_blame *data;
    uint64_t n, room;
};

struct trace {
    const struct gs_hold *holds;
    const struct gs_wait *waits;
    const struct gs_gap *gaps;
    const uint32_t *first_hold, *hold_order; /* by GIL; hold_order NULL: there is one GIL */
    uint64_t n_gaps;
};

struct parts {
    int64_t unknown_ns, wakeup_ns, idle_ns;
    bool woken; /* the wakeup is known, be it of 0 ns */
};

static bool add_row(struct rows *rows, uint32_t waiter, uint32_t holder, enum gs_reason reason,
                    int64_t ns, uint64_t waits) {
    if (ns == 0)
        return true;
    if (rows->n == rows->room) {
        uint64_t room = rows->room ? rows->room * 2 : 256;
        struct gs_blame *data = realloc(rows->data, room * sizeof *data);
        if (!data)
            return false;
        rows->data = data;
        rows->room = room;
    }
    rows->data[rows->n++] = (struct gs_blame){waiter, holder, ns, waits, (uint32_t)reason, 0};
    return true;
}

static int64_t later(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static int64_t earlier(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Cuts wait number `number` (counted from 1); `touched` gets the holders seen for the first time.
 */
static struct parts cut(const struct trace *trace, const struct gs_wait *wait, uint32_t number,
                        struct sum *sums, uint32_t *touched, uint32_t *n_touched) {
    struct parts parts = {0};
    int64_t free_from = wait->start_ns, held_ns = 0;
    bool told = wait->gap == GS_NO_GAP || wait->gap >= trace->n_gaps;
    if (!told) {
        int64_t gap_end = later(trace->gaps[wait->gap].end_ns, wait->start_ns);
        told = gap_end < wait->end_ns;
        free_from = earlier(gap_end, wait->end_ns);
        parts.unknown_ns = free_from - wait->start_ns;
    }
    uint32_t end = trace->first_hold[wait->gil + 1];
    for (uint32_t i = trace->first_hold[wait->gil] + wait->hold; i < end; i++) {
        const struct gs_hold *hold = &trace->holds[trace->hold_order ? trace->hold_order[i] : i];
        /* Its own hold is the end of a wait; of equal stamps the order of holds decides. */
        if (hold->thread == wait->thread || hold->start_ns > wait->end_ns)
            break;
        told = true;
        int64_t ns = earlier(hold->end_ns, wait->end_ns) - later(hold->start_ns, wait->start_ns);
        free_from = later(free_from, earlier(hold->end_ns, wait->end_ns));
        if (ns <= 0)
            continue;
        struct sum *sum = &sums[hold->thread];
        if (sum->last == 0)
            touched[(*n_touched)++] = hold->thread;
        sum->waits += sum->last != number;
        sum->last = number;
        sum->ns += ns;
        held_ns += ns;
    }
    parts.woken = wait->ending == GS_ACQUIRED && told;
    if (parts.woken)
        parts.wakeup_ns = wait->end_ns - free_from;
    parts.idle_ns = wait->end_ns - wait->start_ns - held_ns - parts.unknown_ns - parts.wakeup_ns;
    return parts;
}

/* `wait_first` and `wait_order` group the waits by thread, `hold_first` and `hold_order` the holds
 * by GIL (gs_group_…). `wakeups` gets a row a thread. The rows of blame are the caller's, to be
 * freed by gs_blame_free. Returns how many they are, or -1: out of memory. */
GS_EXPORT int64_t gs_blame_rows(const struct gs_hold *holds, const uint32_t *hold_first,
                                const uint32_t *hold_order, const struct gs_wait *waits,
                                const uint32_t *wait_first, const uint32_t *wait_order,
                                const struct gs_gap *gaps, uint64_t n_gaps, uint32_t n_threads,
                                struct gs_distribution *wakeups, struct gs_blame **out) {
    const struct trace trace = {holds, waits, gaps, hold_first, hold_order, n_gaps};
    uint32_t most = 0;
    for (uint32_t t = 0; t < n_threads; t++)
        if (wait_first[t + 1] - wait_first[t] > most)
            most = wait_first[t + 1] - wait_first[t];
    struct sum *sums = calloc((size_t)n_threads + 1, sizeof *sums);
    uint32_t *touched = malloc(((size_t)n_threads + 1) * sizeof *touched);
    int64_t *woken = malloc(((size_t)most + 1) * sizeof *woken);
    struct rows rows = {0};
    bool good = sums && touched && woken;
    for (uint32_t t = 0; good && t < n_threads; t++) {
        uint32_t n_touched = 0;
        uint64_t n_woken = 0, n_unknown = 0, n_wakeup = 0, n_idle = 0;
        int64_t unknown_ns = 0, wakeup_ns = 0, idle_ns = 0;
        for (uint32_t i = wait_first[t]; i < wait_first[t + 1]; i++) {
            struct parts parts = cut(&trace, &waits[wait_order[i]], i - wait_first[t] + 1, sums,
                                     touched, &n_touched);
            const struct gs_wait *wait = &waits[wait_order[i]];
            if (wait->ending == GS_ACQUIRED && wait->woken_ns != GS_NEVER)
                woken[n_woken++] = wait->end_ns - wait->woken_ns;
            else if (parts.woken)
                woken[n_woken++] = parts.wakeup_ns;
            unknown_ns += parts.unknown_ns;
            wakeup_ns += parts.wakeup_ns;
            idle_ns += parts.idle_ns;
            n_unknown += parts.unknown_ns != 0;
            n_wakeup += parts.wakeup_ns != 0;
            n_idle += parts.idle_ns != 0;
        }
        for (uint32_t i = 0; i < n_touched; i++) {
            struct sum *sum = &sums[touched[i]];
            good = good && add_row(&rows, t, touched[i], GS_HELD, sum->ns, sum->waits);
            *sum = (struct sum){0};
        }
        good = good && add_row(&rows, t, GS_NOBODY, GS_HELD, unknown_ns, n_unknown) &&
               add_row(&rows, t, GS_NOBODY, GS_WAKEUP, wakeup_ns, n_wakeup) &&
               add_row(&rows, t, GS_NOBODY, GS_IDLE, idle_ns, n_idle);
        gs_distribute(woken, n_woken, &wakeups[t]);
    }
    free(sums);
    free(touched);
    free(woken);
    if (!good) {
        free(rows.data);
        return -1;
    }
    *out = rows.data;
    return (int64_t)rows.n;
}

GS_EXPORT void gs_blame_free(struct gs_blame *rows) {
    free(rows);
}

/* Blame: what each wait was spent on.
 *
 * A wait [start, end) is cut by the holds of its GIL into parts, and every nanosecond goes to
 * exactly one row of its thread:
 *   held by H     H held the GIL;
 *   held by ?     the wait began in a gap, up to the end of that gap: nobody saw who held it;
 *   wakeup        the GIL was free and this thread was the next to take it;
 *   idle          the GIL was free and another thread took it, or the wait never came to its end.
 * A row is also of one place in code where the waiter came back (its site) and, if held, of one
 * where the holder let go; 0 where that was not recorded. So the rows of a waiter add up to its
 * waiting time exactly, by construction of the parts.
 *
 * Among many threads that wait for each other the rows are quadratic, and nobody reads the last
 * thousand. Of a waiter's rows the MOST largest stand; the others are added up by holder and
 * reason, the MOST largest of these stand, and what is left is one row. `others` says of how many
 * rows such a sum is made.
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
#include <string.h>

#include "../trace/story.h"
#include "distribution.h"

enum gs_reason { GS_HELD = 0, GS_WAKEUP = 1, GS_IDLE = 2 };
enum { MOST = 64, AHEAD = 8 };

struct gs_blame {
    uint32_t waiter;
    uint32_t holder; /* GS_NOBODY for wakeup and idle, where it is not known, and of many */
    int64_t wait_ns;
    uint64_t waits; /* how many waits of this waiter have a part in wait_ns; summed up if others */
    uint32_t reason;
    uint32_t waiter_site, holder_site;
    uint32_t others; /* 0: a row as defined; else the sum of so many */
};

/* One waiter's rows while its waits are walked, and a table that finds them. */
struct sums {
    struct gs_blame *rows;
    uint32_t *last;  /* by row: the number of the last wait counted */
    uint32_t *slots; /* 1 + index of a row, 0: free */
    uint32_t n, room;
    struct recent {
        uint32_t holder, holder_site, waiter_site;
        uint32_t row; /* 1 + its index, 0: none */
    } recent[64];     /* rows of holds, by holder: most holds are found here */
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
    const uint32_t *hold_sites, *wait_sites; /* NULL: none is known */
    uint64_t n_gaps;
};

struct parts {
    int64_t unknown_ns, wakeup_ns, idle_ns;
    bool woken; /* the wakeup is known, be it of 0 ns */
};

static uint32_t slot_of(const struct sums *sums, uint32_t holder, uint32_t holder_site,
                        uint32_t waiter_site, uint32_t reason) {
    uint32_t mask = 2 * sums->room - 1;
    uint64_t hash = ((uint64_t)holder << 32 | holder_site) * UINT64_C(0x9e3779b97f4a7c15) ^
                    ((uint64_t)waiter_site << 2 | reason) * UINT64_C(0xc2b2ae3d27d4eb4f);
    for (uint32_t i = (uint32_t)(hash >> 40) & mask;; i = (i + 1) & mask) {
        if (!sums->slots[i])
            return i;
        const struct gs_blame *row = &sums->rows[sums->slots[i] - 1];
        if (row->holder == holder && row->holder_site == holder_site &&
            row->waiter_site == waiter_site && row->reason == reason)
            return i;
    }
}

static bool grow(struct sums *sums) {
    uint32_t room = sums->room ? 2 * sums->room : 64;
    struct gs_blame *rows = realloc(sums->rows, room * sizeof *rows);
    if (rows)
        sums->rows = rows;
    uint32_t *last = rows ? realloc(sums->last, room * sizeof *last) : NULL;
    if (last)
        sums->last = last;
    uint32_t *slots = last ? calloc(2 * (size_t)room, sizeof *slots) : NULL;
    if (!slots)
        return false;
    free(sums->slots);
    sums->slots = slots;
    sums->room = room;
    for (uint32_t i = 0; i < sums->n; i++) {
        const struct gs_blame *row = &sums->rows[i];
        slots[slot_of(sums, row->holder, row->holder_site, row->waiter_site, row->reason)] = i + 1;
    }
    return true;
}

static void add_to(struct sums *sums, uint32_t i, int64_t ns, uint32_t number) {
    sums->rows[i].wait_ns += ns;
    sums->rows[i].waits += sums->last[i] != number;
    sums->last[i] = number;
}

/* Adds a part of wait number `number` (counted from 1) to its row. Returns 1 + the row's index; 0:
 * out of memory. */
static uint32_t add(struct sums *sums, uint32_t holder, uint32_t holder_site, uint32_t waiter_site,
                    enum gs_reason reason, int64_t ns, uint32_t number) {
    if (sums->n == sums->room && !grow(sums))
        return 0;
    uint32_t *slot = &sums->slots[slot_of(sums, holder, holder_site, waiter_site, reason)];
    if (!*slot) {
        sums->rows[sums->n] = (struct gs_blame){.holder = holder,
                                                .reason = (uint32_t)reason,
                                                .waiter_site = waiter_site,
                                                .holder_site = holder_site};
        sums->last[sums->n] = 0;
        *slot = ++sums->n;
    }
    add_to(sums, *slot - 1, ns, number);
    return *slot;
}

/* The same of a part that somebody held. */
static bool add_held(struct sums *sums, uint32_t holder, uint32_t holder_site, uint32_t waiter_site,
                     int64_t ns, uint32_t number) {
    const size_t places = sizeof sums->recent / sizeof *sums->recent;
    struct recent *recent = &sums->recent[(holder + 7 * holder_site) % places];
    if (recent->row && recent->holder == holder && recent->holder_site == holder_site &&
        recent->waiter_site == waiter_site) {
        add_to(sums, recent->row - 1, ns, number);
        return true;
    }
    uint32_t row = add(sums, holder, holder_site, waiter_site, GS_HELD, ns, number);
    *recent = (struct recent){holder, holder_site, waiter_site, row};
    return row != 0;
}

/* The same of a part that nobody is known to have held, if there is one. */
static bool add_free(struct sums *sums, uint32_t waiter_site, enum gs_reason reason, int64_t ns,
                     uint32_t number) {
    return ns == 0 || add(sums, GS_NOBODY, 0, waiter_site, reason, ns, number);
}

static void clear(struct sums *sums) {
    if (sums->n)
        memset(sums->slots, 0, 2 * (size_t)sums->room * sizeof *sums->slots);
    memset(sums->recent, 0, sizeof sums->recent);
    sums->n = 0;
}

/* ---- few rows of many -------------------------------------------------------------------------
 */

static int by_key(const struct gs_blame *a, const struct gs_blame *b) {
    if (a->holder != b->holder)
        return a->holder < b->holder ? -1 : 1;
    if (a->reason != b->reason)
        return a->reason < b->reason ? -1 : 1;
    if (a->holder_site != b->holder_site)
        return a->holder_site < b->holder_site ? -1 : 1;
    return a->waiter_site < b->waiter_site ? -1 : a->waiter_site > b->waiter_site;
}

static int by_holder(const void *left, const void *right) {
    return by_key(left, right);
}

static int longest_first(const void *left, const void *right) {
    const struct gs_blame *a = left, *b = right;
    if (a->wait_ns != b->wait_ns)
        return a->wait_ns > b->wait_ns ? -1 : 1;
    return by_key(a, b);
}

/* The same, but the sums of no holder (wakeup, idle, unknown) before all: there are three. */
static int nobody_first(const void *left, const void *right) {
    const struct gs_blame *a = left, *b = right;
    if ((a->holder == GS_NOBODY) != (b->holder == GS_NOBODY))
        return a->holder == GS_NOBODY ? -1 : 1;
    return longest_first(a, b);
}

static void take_over(struct gs_blame *into, const struct gs_blame *row) {
    into->wait_ns += row->wait_ns;
    into->waits += row->waits;
    into->others += row->others ? row->others : 1;
}

/* Sorts rows, the longest first, and adds up what is behind the MOST longest. Returns how many are
 * left. */
static uint32_t few(struct gs_blame *rows, uint32_t n) {
    if (n)
        qsort(rows, n, sizeof *rows, longest_first);
    if (n <= MOST)
        return n;
    struct gs_blame *rest = rows + MOST;
    qsort(rest, n - MOST, sizeof *rest, by_holder);
    uint32_t groups = 0;
    for (uint32_t i = 0; i < n - MOST; i++) {
        struct gs_blame *group = groups ? &rest[groups - 1] : NULL;
        struct gs_blame row = rest[i];
        if (!group || group->holder != row.holder || group->reason != row.reason)
            rest[groups++] = (struct gs_blame){.holder = row.holder, .reason = row.reason};
        take_over(&rest[groups - 1], &row);
    }
    qsort(rest, groups, sizeof *rest, nobody_first);
    if (groups <= MOST + 1)
        return MOST + groups;
    struct gs_blame *last = &rest[MOST];
    struct gs_blame sum = {.holder = GS_NOBODY, .reason = GS_HELD};
    for (uint32_t i = MOST; i < groups; i++)
        take_over(&sum, &rest[i]);
    *last = sum;
    return 2 * MOST + 1;
}

static bool add_rows(struct rows *rows, uint32_t waiter, struct gs_blame *found, uint32_t n) {
    n = few(found, n);
    if (rows->n + n > rows->room) {
        uint64_t room = 2 * rows->room > rows->n + n ? 2 * rows->room : rows->n + n + 256;
        struct gs_blame *data = realloc(rows->data, room * sizeof *data);
        if (!data)
            return false;
        rows->data = data;
        rows->room = room;
    }
    for (uint32_t i = 0; i < n; i++) {
        found[i].waiter = waiter;
        rows->data[rows->n++] = found[i];
    }
    return true;
}

/* ---- cutting waits ----------------------------------------------------------------------------
 */

static int64_t later(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static int64_t earlier(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Cuts wait `index`, number `number` of its thread; what was held by somebody known goes to `sums`.
 * False: out of memory. */
static bool cut(const struct trace *trace, uint32_t index, uint32_t number, struct sums *sums,
                struct parts *out) {
    const struct gs_wait *wait = &trace->waits[index];
    uint32_t waiter_site = trace->wait_sites ? trace->wait_sites[index] : 0;
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
        uint32_t at = trace->hold_order ? trace->hold_order[i] : i;
        const struct gs_hold *hold = &trace->holds[at];
        /* Its own hold is the end of a wait; of equal stamps the order of holds decides. */
        if (hold->thread == wait->thread || hold->start_ns > wait->end_ns)
            break;
        told = true;
        int64_t ns = earlier(hold->end_ns, wait->end_ns) - later(hold->start_ns, wait->start_ns);
        free_from = later(free_from, earlier(hold->end_ns, wait->end_ns));
        if (ns <= 0)
            continue;
        if (!add_held(sums, hold->thread, trace->hold_sites ? trace->hold_sites[at] : 0,
                      waiter_site, ns, number))
            return false;
        held_ns += ns;
    }
    parts.woken = wait->ending == GS_ACQUIRED && told;
    if (parts.woken)
        parts.wakeup_ns = wait->end_ns - free_from;
    parts.idle_ns = wait->end_ns - wait->start_ns - held_ns - parts.unknown_ns - parts.wakeup_ns;
    *out = parts;
    return add_free(sums, waiter_site, GS_HELD, parts.unknown_ns, number) &&
           add_free(sums, waiter_site, GS_WAKEUP, parts.wakeup_ns, number) &&
           add_free(sums, waiter_site, GS_IDLE, parts.idle_ns, number);
}

/* The rows of the waiters from `from` to before `to`. `wait_first` and `wait_order` group the waits
 * by thread, `hold_first` and `hold_order` the holds by GIL (gs_group_…); `hold_sites` and
 * `wait_sites` have the site of each hold and wait, or are NULL. `wakeups` gets a row a thread. The
 * rows of blame are the caller's, to be freed by gs_blame_free. Returns how many they are, or -1:
 * out of memory. */
GS_EXPORT int64_t gs_blame_rows(const struct gs_hold *holds, const uint32_t *hold_first,
                                const uint32_t *hold_order, const uint32_t *hold_sites,
                                const struct gs_wait *waits, const uint32_t *wait_first,
                                const uint32_t *wait_order, const uint32_t *wait_sites,
                                const struct gs_gap *gaps, uint64_t n_gaps, uint32_t from,
                                uint32_t to, struct gs_distribution *wakeups,
                                struct gs_blame **out) {
    const struct trace trace = {
        .holds = holds,
        .waits = waits,
        .gaps = gaps,
        .first_hold = hold_first,
        .hold_order = hold_order,
        .hold_sites = hold_sites,
        .wait_sites = wait_sites,
        .n_gaps = n_gaps,
    };
    uint32_t most = 0;
    for (uint32_t t = from; t < to; t++)
        if (wait_first[t + 1] - wait_first[t] > most)
            most = wait_first[t + 1] - wait_first[t];
    int64_t *woken = malloc(((size_t)most + 1) * sizeof *woken);
    struct sums sums = {0};
    struct rows rows = {0};
    bool good = woken != NULL;
    for (uint32_t t = from; good && t < to; t++) {
        uint64_t n_woken = 0;
        clear(&sums);
        for (uint32_t i = wait_first[t]; good && i < wait_first[t + 1]; i++) {
            struct parts parts = {0};
            if (i + AHEAD < wait_first[t + 1]) /* one thread's waits lie far apart */
                __builtin_prefetch(&waits[wait_order[i + AHEAD]]);
            const struct gs_wait *wait = &waits[wait_order[i]];
            good = cut(&trace, wait_order[i], i - wait_first[t] + 1, &sums, &parts);
            if (wait->ending == GS_ACQUIRED && wait->woken_ns != GS_NEVER)
                woken[n_woken++] = wait->end_ns - wait->woken_ns;
            else if (parts.woken)
                woken[n_woken++] = parts.wakeup_ns;
        }
        good = good && add_rows(&rows, t, sums.rows, sums.n);
        gs_distribute(woken, n_woken, &wakeups[t]);
    }
    free(sums.rows);
    free(sums.last);
    free(sums.slots);
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

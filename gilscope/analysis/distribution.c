/* Distributions of holds and waits by thread.
 *
 * Percentiles are nearest-rank: the smallest value such that at least p percent of the values are
 * no larger, so each is a value that occurred. They are selected, not sorted, within one array of
 * durations in which each thread has its span: 8 bytes an interval, freed before returning. Of many
 * values, all are counted by their leading bits first, which takes no branch that depends on them;
 * only those that share these bits with the value of a rank are selected from. Pivots are random,
 * so that no order of values makes the selection quadratic.
 */
#include <stdlib.h>
#include <string.h>

#include "../trace/story.h"
#include "distribution.h"

static void swap(int64_t *a, int64_t *b) {
    int64_t kept = *a;
    *a = *b;
    *b = kept;
}

static int64_t middle(int64_t a, int64_t b, int64_t c) {
    if (a > b)
        swap(&a, &b);
    return c < a ? a : c > b ? b : c;
}

/* Puts the value of rank `k` (from 0, lo <= k <= hi) in its place: none before it in lo..hi is
 * larger, none behind it smaller. */
static void select_rank(int64_t *v, uint64_t lo, uint64_t hi, uint64_t k, uint64_t *dice) {
    while (lo < hi) {
        uint64_t span = hi - lo + 1;
        int64_t picked[3];
        for (int i = 0; i < 3; i++) {
            *dice ^= *dice << 13;
            *dice ^= *dice >> 7;
            *dice ^= *dice << 17;
            picked[i] = v[lo + *dice % span];
        }
        int64_t pivot = middle(picked[0], picked[1], picked[2]);
        /* Hoare's partition: it stops at equals on both sides, so equal values split evenly. */
        uint64_t i = lo, j = hi;
        for (;;) {
            while (v[i] < pivot)
                i++;
            while (v[j] > pivot)
                j--;
            if (i >= j)
                break;
            swap(&v[i++], &v[j--]);
        }
        /* lo..i-1 <= pivot <= j+1..hi; where they met on a pivot, i == j. */
        if (i == j) {
            if (k == i)
                return;
            if (k < i)
                hi = i - 1;
            else
                lo = i + 1;
        } else if (k < i) {
            hi = i - 1;
        } else {
            lo = i;
        }
    }
}

static uint64_t rank_of(uint64_t n, unsigned percent) {
    return n / 100 * percent + (n % 100 * percent + 99) / 100 - 1;
}

/* Values that share their LEADING first bits, or are small, share a place. */
enum {
    LEADING = 6,
    SMALL = 1 << LEADING,
    PLACES = SMALL + ((64 - LEADING) << (LEADING - 1)),
    MANY = 1000, /* fewer are not worth the places */
};

static uint32_t place_of(int64_t value) {
    if (value < SMALL)
        return value < 0 ? 0 : (uint32_t)value;
    uint32_t behind = 64 - LEADING - (uint32_t)__builtin_clzll((uint64_t)value);
    return (behind << (LEADING - 1)) + (uint32_t)(value >> behind);
}

/* The value of rank `k`, of many of which so many are in each place. */
static int64_t value_of_rank(int64_t *values, const uint32_t *counts, uint64_t k, uint64_t *dice) {
    uint32_t place = 0;
    for (; k >= counts[place]; place++)
        k -= counts[place];
    uint64_t found = 0;
    for (uint64_t i = 0; found < counts[place]; i++)
        if (place_of(values[i]) == place)
            swap(&values[i], &values[found++]);
    select_rank(values, 0, found - 1, k, dice);
    return values[k];
}

void gs_distribute(int64_t *values, uint64_t n, struct gs_distribution *out) {
    memset(out, 0, sizeof *out);
    if (!n)
        return;
    uint64_t dice = UINT64_C(0x9e3779b97f4a7c15);
    uint64_t k50 = rank_of(n, 50), k90 = rank_of(n, 90), k99 = rank_of(n, 99);
    out->count = n;
    for (uint64_t i = 0; i < n; i++) {
        out->sum += values[i];
        out->max = values[i] > out->max ? values[i] : out->max;
    }
    if (n < MANY) {
        select_rank(values, 0, n - 1, k50, &dice);
        select_rank(values, k50, n - 1, k90, &dice);
        select_rank(values, k90, n - 1, k99, &dice);
        out->p50 = values[k50];
        out->p90 = values[k90];
        out->p99 = values[k99];
        return;
    }
    uint32_t counts[PLACES] = {0};
    for (uint64_t i = 0; i < n; i++)
        counts[place_of(values[i])]++;
    out->p50 = value_of_rank(values, counts, k50, &dice);
    out->p90 = value_of_rank(values, counts, k90, &dice);
    out->p99 = value_of_rank(values, counts, k99, &dice);
}

/* The same for one array, by itself. */
GS_EXPORT void gs_distribution_of(int64_t *values, uint64_t n, struct gs_distribution *out) {
    gs_distribute(values, n, out);
}

/* `out`: one row a thread. Returns 0, or -1: out of memory. */
GS_EXPORT int gs_hold_distributions(const struct gs_hold *holds, uint64_t n,
                                    const struct gs_thread_stats *stats, uint32_t n_threads,
                                    struct gs_distribution *out) {
    int64_t *values = malloc((n + 1) * sizeof *values);
    uint64_t *next = malloc(((size_t)n_threads + 1) * sizeof *next);
    int result = values && next ? 0 : -1;
    if (result == 0) {
        uint64_t first = 0;
        for (uint32_t t = 0; t < n_threads; first += stats[t++].holds)
            next[t] = first;
        for (uint64_t i = 0; i < n; i++)
            values[next[holds[i].thread]++] = holds[i].end_ns - holds[i].start_ns;
        for (uint32_t t = 0; t < n_threads; t++)
            gs_distribute(values + next[t] - stats[t].holds, stats[t].holds, &out[t]);
    }
    free(values);
    free(next);
    return result;
}

/* `all`, `io`, `cpu`: one row a thread. In a thread's span its io waits stand before its cpu
 * waits, so that one array serves all three. Returns 0, or -1: out of memory. */
GS_EXPORT int gs_wait_distributions(const struct gs_wait *waits, uint64_t n,
                                    const struct gs_thread_stats *stats, uint32_t n_threads,
                                    struct gs_distribution *all, struct gs_distribution *io,
                                    struct gs_distribution *cpu) {
    int64_t *values = malloc((n + 1) * sizeof *values);
    uint64_t *next = malloc(((size_t)n_threads + 1) * 2 * sizeof *next);
    int result = values && next ? 0 : -1;
    if (result == 0) {
        uint64_t first = 0;
        for (uint32_t t = 0; t < n_threads; first += stats[t++].waits) {
            next[2 * (size_t)t] = first;
            next[2 * (size_t)t + 1] = first + stats[t].io_waits;
        }
        for (uint64_t i = 0; i < n; i++)
            values[next[2 * (size_t)waits[i].thread + waits[i].cpu]++] =
                waits[i].end_ns - waits[i].start_ns;
        for (uint32_t t = 0; t < n_threads; t++) {
            uint64_t n_io = stats[t].io_waits, n_all = stats[t].waits;
            int64_t *mine = values + next[2 * (size_t)t] - n_io;
            gs_distribute(mine, n_io, &io[t]);
            gs_distribute(mine + n_io, n_all - n_io, &cpu[t]);
            gs_distribute(mine, n_all, &all[t]);
        }
    }
    free(values);
    free(next);
    return result;
}

/* Numbers of the waits, thread after thread, in order of time within each: those of thread t are
 * order[first[t]] … order[first[t + 1] - 1]. `first` has n_threads + 1 entries. */
GS_EXPORT void gs_group_waits(const struct gs_wait *waits, uint32_t n,
                              const struct gs_thread_stats *stats, uint32_t n_threads,
                              uint32_t *first, uint32_t *order) {
    uint32_t at = 0;
    for (uint32_t t = 0; t < n_threads; at += (uint32_t)stats[t++].waits)
        first[t] = at;
    first[n_threads] = n;
    for (uint32_t i = 0; i < n; i++)
        order[first[waits[i].thread]++] = i;
    for (uint32_t t = 0; t < n_threads; t++)
        first[t] -= (uint32_t)stats[t].waits;
}

/* The same for holds by GIL. */
GS_EXPORT void gs_group_holds(const struct gs_hold *holds, uint32_t n,
                              const struct gs_gil_stats *stats, uint32_t n_gils, uint32_t *first,
                              uint32_t *order) {
    uint32_t at = 0;
    for (uint32_t g = 0; g < n_gils; at += (uint32_t)stats[g++].holds)
        first[g] = at;
    first[n_gils] = n;
    for (uint32_t i = 0; i < n; i++)
        order[first[holds[i].gil]++] = i;
    for (uint32_t g = 0; g < n_gils; g++)
        first[g] -= (uint32_t)stats[g].holds;
}

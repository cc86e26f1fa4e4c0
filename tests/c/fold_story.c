/* Tells stories to story.c and folds what comes out; to be compiled with
 * -fsanitize=address,undefined.
 *
 *     fold_story FILE ROUNDS
 *
 * FILE: uint32 numbers of processes, threads, GILs, events; the process of each thread and of each
 * GIL (uint32); the events. Round 0 tells the story as it is and prints its sums; every further
 * round breaks some events at random first, and only has to come to an end. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../gilscope/analysis/distribution.h"
#include "../../gilscope/trace/story.h"

struct gs_story;
struct gs_stretches {
    int64_t held_ns[2], long_ns[2];
    uint64_t holds[2], count[2];
};
struct gs_blame {
    uint32_t waiter, holder;
    int64_t wait_ns;
    uint64_t waits;
    uint32_t reason, waiter_site, holder_site, others;
};

struct gs_story *gs_story_new(uint32_t, uint32_t, const uint32_t *, uint32_t, const uint32_t *,
                              int);
uint64_t gs_story_feed(struct gs_story *, const struct gs_event *, uint64_t);
int gs_story_finish(struct gs_story *);
void gs_story_free(struct gs_story *);
uint64_t gs_story_rows(const struct gs_story *, uint32_t, const void **, uint32_t *);
int gs_hold_distributions(const struct gs_hold *, uint64_t, const struct gs_thread_stats *,
                          uint32_t, struct gs_distribution *);
int gs_wait_distributions(const struct gs_wait *, uint64_t, const struct gs_thread_stats *,
                          uint32_t, struct gs_distribution *, struct gs_distribution *,
                          struct gs_distribution *);
void gs_group_waits(const struct gs_wait *, uint32_t, const struct gs_thread_stats *, uint32_t,
                    uint32_t *, uint32_t *);
void gs_group_holds(const struct gs_hold *, uint32_t, const struct gs_gil_stats *, uint32_t,
                    uint32_t *, uint32_t *);
int gs_stretches_of(const struct gs_hold *, uint64_t, const struct gs_wait *, const uint32_t *,
                    const uint32_t *, uint32_t, uint32_t, int64_t, int64_t, struct gs_stretches *,
                    int64_t (*)[2]);
int64_t gs_blame_rows(const struct gs_hold *, const uint32_t *, const uint32_t *, const uint32_t *,
                      const struct gs_wait *, const uint32_t *, const uint32_t *, const uint32_t *,
                      const struct gs_gap *, uint64_t, uint32_t, uint32_t, struct gs_distribution *,
                      struct gs_blame **);
void gs_blame_free(struct gs_blame *);

static void *need(size_t n, size_t size) {
    void *memory = calloc(n + 1, size);
    if (!memory)
        abort();
    return memory;
}

static uint64_t roll(uint64_t *dice) {
    *dice ^= *dice << 13;
    *dice ^= *dice >> 7;
    *dice ^= *dice << 17;
    return *dice;
}

static void damage(struct gs_event *events, uint32_t n, uint64_t *dice) {
    for (uint64_t left = 1 + roll(dice) % 4; n && left; left--) {
        struct gs_event *e = &events[roll(dice) % n];
        switch (roll(dice) % 7) {
        case 0:
            e->kind = (uint8_t)(roll(dice) % 24);
            break;
        case 1:
            e->thread = (uint32_t)(roll(dice) % 12);
            break;
        case 2:
            e->gil = (uint16_t)(roll(dice) % 4);
            break;
        case 3:
            e->flags ^= 1;
            break;
        case 4:
            e->arg = roll(dice);
            break;
        case 5:
            e->time_ns = (int64_t)(roll(dice) >> roll(dice) % 64);
            break;
        default:
            memmove(e, events, sizeof *e);
        }
    }
}

static void fold(const struct gs_story *s, int print) {
    const void *rows[9];
    uint64_t n[9];
    uint32_t size;
    for (uint32_t i = 0; i < 9; i++)
        n[i] = gs_story_rows(s, i, &rows[i], &size);
    const struct gs_hold *holds = rows[0];
    const struct gs_wait *waits = rows[1];
    const void *rows_of_gils;
    const struct gs_thread_stats *threads = rows[8];
    uint32_t n_threads = (uint32_t)n[8];
    uint32_t n_gils = (uint32_t)gs_story_rows(s, 9, &rows_of_gils, &size);
    struct gs_distribution *out = need(5 * ((size_t)n_threads + 1), sizeof *out);
    uint32_t *first = need(n_threads, sizeof *first), *order = need(n[1], sizeof *order);
    uint32_t *hold_first = need(n_gils, sizeof *first), *hold_order = need(n[0], sizeof *order);
    struct gs_stretches *stretches = need(n_threads, sizeof *stretches);
    int64_t (*shared_ns)[2] = need(n_gils, sizeof *shared_ns);
    struct gs_blame *blame = NULL;
    if (gs_hold_distributions(holds, n[0], threads, n_threads, out) ||
        gs_wait_distributions(waits, n[1], threads, n_threads, out + n_threads, out + 2 * n_threads,
                              out + 3 * n_threads))
        abort();
    gs_group_waits(waits, (uint32_t)n[1], threads, n_threads, first, order);
    gs_group_holds(holds, (uint32_t)n[0], rows_of_gils, n_gils, hold_first, hold_order);
    if (gs_stretches_of(holds, n[0], waits, first, order, n_threads, n_gils, 2000000, 100000,
                        stretches, shared_ns))
        abort();
    /* Sites, as if many places had been seen: more rows than stand by themselves. */
    uint32_t *hold_sites = need(n[0], sizeof *hold_sites), *wait_sites = need(n[1], sizeof *order);
    for (uint64_t i = 0; i < n[0]; i++)
        hold_sites[i] = (uint32_t)(i % 97);
    for (uint64_t i = 0; i < n[1]; i++)
        wait_sites[i] = (uint32_t)(i % 5);
    int64_t n_blame =
        gs_blame_rows(holds, hold_first, hold_order, hold_sites, waits, first, order, wait_sites,
                      rows[3], n[3], 0, n_threads, out + 4 * n_threads, &blame);
    int64_t held_ns = 0, waiting_ns = 0, blamed_ns = 0, stretched_ns = 0;
    for (uint32_t t = 0; t < n_threads; t++) {
        held_ns += threads[t].held_ns;
        waiting_ns += threads[t].waiting_ns;
        stretched_ns += stretches[t].held_ns[0] + stretches[t].held_ns[1];
    }
    for (int64_t i = 0; i < n_blame; i++)
        blamed_ns += blame[i].wait_ns;
    if (n_blame < 0 || blamed_ns != waiting_ns || stretched_ns != held_ns) {
        fprintf(stderr, "held %lld, in stretches %lld; waited %lld, blamed %lld\n",
                (long long)held_ns, (long long)stretched_ns, (long long)waiting_ns,
                (long long)blamed_ns);
        exit(1);
    }
    if (print)
        printf("%lld %lld %lld\n", (long long)held_ns, (long long)waiting_ns, (long long)n_blame);
    gs_blame_free(blame);
    free(hold_sites);
    free(wait_sites);
    free(stretches);
    free(shared_ns);
    free(hold_order);
    free(hold_first);
    free(order);
    free(first);
    free(out);
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 2;
    FILE *file = fopen(argv[1], "rb");
    uint32_t counts[4];
    if (!file || fread(counts, sizeof counts, 1, file) != 1)
        return 2;
    uint32_t *thread_process = need(counts[1], 4), *gil_process = need(counts[2], 4);
    struct gs_event *events = need(counts[3], sizeof *events);
    struct gs_event *broken = need(counts[3], sizeof *events);
    if (fread(thread_process, 4, counts[1], file) != counts[1] ||
        fread(gil_process, 4, counts[2], file) != counts[2] ||
        fread(events, sizeof *events, counts[3], file) != counts[3])
        return 2;
    fclose(file);
    uint64_t dice = 88172645463325252u, refused = 0;
    for (long round = 0; round <= strtol(argv[2], NULL, 10); round++) {
        struct gs_story *s =
            gs_story_new(counts[0], counts[1], thread_process, counts[2], gil_process, 1);
        if (!s)
            return 2;
        memcpy(broken, events, counts[3] * sizeof *events);
        if (round > 0)
            damage(broken, counts[3], &dice);
        int good = gs_story_feed(s, broken, counts[3]) == counts[3] && gs_story_finish(s) == 0;
        if (good)
            fold(s, round == 0);
        else if (round == 0)
            return 1;
        refused += !good;
        gs_story_free(s);
    }
    printf("refused %llu\n", (unsigned long long)refused);
    free(broken);
    free(events);
    free(gil_process);
    free(thread_process);
    return 0;
}

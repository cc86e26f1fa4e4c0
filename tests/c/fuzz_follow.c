/* Damaged ring files given to the live reader; to be compiled with -fsanitize=address,undefined.
 *
 *     fuzz_follow FILE ROUNDS SEED
 *
 * Each round shows a copy of the file bit by bit, as its writers would have filled it, breaks some
 * places of it between two looks, and reads it to its end: that has to end, with an error or with
 * events, and to stay inside the file. What the file ends with is a page that cannot be touched. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "damage.h"

struct gs_follow;
struct follow_node;
struct gs_follow *gs_follow_open(const void *, uint64_t);
void gs_follow_close(struct gs_follow *);
const char *gs_follow_error(const struct gs_follow *);
int gs_follow_poll(struct gs_follow *);
int gs_follow_over(struct gs_follow *, uint64_t, int64_t, int);
void gs_follow_stopped(struct gs_follow *, int64_t);
int gs_follow_finish(struct gs_follow *);
void gs_follow_counts(struct gs_follow *, uint64_t[8]);
void gs_follow_process(const struct gs_follow *, uint64_t, uint64_t *, uint32_t *, int64_t *,
                       int64_t *);
void gs_follow_thread(struct gs_follow *, uint64_t, uint64_t *, uint64_t *, int64_t *);
uint64_t gs_follow_nodes(const struct gs_follow *, const struct follow_node **);
int gs_follow_name_nodes(struct gs_follow *, const uint32_t *, uint64_t);
int64_t gs_follow_next(struct gs_follow *, struct gs_event *, int64_t);

enum { PROCESSES, THREADS, GILS, NODES };

static uint64_t named, events;

/* Names the nodes that have come, and takes every event that is certain. 0, or -1: refused. */
static int drain(struct gs_follow *follow, uint64_t bytes) {
    static struct gs_event batch[4096];
    uint64_t counts[8], page, process;
    int64_t last;
    gs_follow_counts(follow, counts);
    for (; named < counts[NODES]; named++)
        if (gs_follow_name_nodes(follow, &(uint32_t){(uint32_t)named}, 1))
            abort();
    for (uint64_t i = 0; i < counts[THREADS]; i++) {
        gs_follow_thread(follow, i, &page, &process, &last);
        if (page + GS_UNIT_BYTES > bytes || process >= counts[PROCESSES])
            abort();
    }
    for (uint64_t i = 0; i < counts[PROCESSES]; i++) {
        uint32_t first;
        int64_t start;
        gs_follow_process(follow, i, &page, &first, &start, &last);
        if (page + GS_UNIT_BYTES > bytes || (first != UINT32_MAX && first >= counts[THREADS]))
            abort();
    }
    /* A record gives one event and at most one gap beside it; a thread, a process, a GIL some. */
    uint64_t most = 2 * (bytes / sizeof(struct gs_record)) + 3 * counts[THREADS] +
                    3 * counts[PROCESSES] + 4 * counts[GILS];
    int64_t n;
    while ((n = gs_follow_next(follow, batch, 4096)) > 0) {
        events += (uint64_t)n;
        for (int64_t i = 0; i < n; i++)
            if (batch[i].thread >= counts[THREADS] ||
                (batch[i].gil != GS_NO_GIL && batch[i].gil >= counts[GILS]))
                abort();
        if (events > most)
            abort();
    }
    return n < 0 ? -1 : 0;
}

static int follow_file(struct gs_follow *follow, unsigned char *map, const unsigned char *original,
                       uint64_t bytes, int whole) {
    uint64_t units = bytes / GS_UNIT_BYTES, shown = 0;
    for (uint64_t looks = 1 + roll(4); looks > 0; looks--) {
        uint64_t more = looks == 1 ? units : shown + roll(units - shown + 1);
        memcpy(map + shown * GS_UNIT_BYTES, original + shown * GS_UNIT_BYTES,
               (more - shown) * GS_UNIT_BYTES);
        shown = more;
        for (uint64_t n = whole ? 0 : 1 + roll(6); n > 0 && shown > 2 * GS_FIRST_UNIT; n--)
            damage(map, shown);
        if (gs_follow_poll(follow) || drain(follow, bytes))
            return -1;
    }
    if (gs_follow_finish(follow))
        return -1;
    if (roll(2))
        gs_follow_stopped(follow, (int64_t)roll(INT64_MAX));
    uint64_t counts[8];
    gs_follow_counts(follow, counts);
    for (uint64_t i = 0; i < counts[PROCESSES]; i++)
        if (gs_follow_over(follow, i, (int64_t)roll(UINT64_C(1) << (1 + roll(62))), (int)roll(2)))
            return -1;
    return drain(follow, bytes);
}

int main(int argc, char **argv) {
    if (argc != 4)
        return 2;
    long rounds = atol(argv[2]);
    dice = strtoull(argv[3], NULL, 10) * UINT64_C(0x9e3779b97f4a7c15) + 1;
    int fd = open(argv[1], O_RDONLY);
    struct gs_file_header header;
    if (fd < 0 || read(fd, &header, sizeof header) != sizeof header)
        return 2;
    uint64_t units = header.end_unit, bytes = units * GS_UNIT_BYTES;
    unsigned char *original = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    unsigned char *map = mmap(NULL, bytes + GS_UNIT_BYTES, PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (original == MAP_FAILED || map == MAP_FAILED ||
        mprotect(map + bytes, GS_UNIT_BYTES, PROT_NONE) != 0)
        return 2;
    long good = 0;
    uint64_t all = 0;
    for (long round = 0; round < rounds; round++) {
        /* A file that is cut short ends at the untouchable page too. */
        uint64_t cut = round % 8 == 7 ? roll(units) : 0, left = bytes - cut * GS_UNIT_BYTES;
        unsigned char *start = map + cut * GS_UNIT_BYTES;
        memset(start, 0, left);
        memcpy(start, original,
               GS_FIRST_UNIT * GS_UNIT_BYTES < left ? GS_FIRST_UNIT * GS_UNIT_BYTES : left);
        named = events = 0;
        struct gs_follow *follow = gs_follow_open(start, left);
        if (!follow)
            abort();
        int read = !*gs_follow_error(follow) &&
                   follow_file(follow, start, original, left, round == 0) == 0;
        if (!read && !*gs_follow_error(follow))
            abort();
        if (round == 0 && !read) {
            fprintf(stderr, "%s\n", gs_follow_error(follow));
            return 3;
        }
        good += read;
        all += events;
        gs_follow_close(follow);
    }
    printf("%ld rounds, %ld read to the end, %ld refused, %llu events\n", rounds, good,
           rounds - good, (unsigned long long)all);
    return 0;
}

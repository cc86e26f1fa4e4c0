/* Damaged ring files given to the ring reader; to be compiled with -fsanitize=address,undefined.
 *
 *     fuzz_order FILE ROUNDS SEED
 *
 * Each round breaks some places of a copy, most of them where something depends on them, and reads
 * it: that has to end, with an error or with events, and to stay inside the file. What the file
 * ends with is a page that cannot be touched. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "damage.h"

struct gs_order;
struct gs_order *gs_order_open(const void *, uint64_t);
const char *gs_order_error(const struct gs_order *);
void gs_order_counts(const struct gs_order *, uint64_t[5]);
void gs_order_thread(struct gs_order *, uint64_t, uint64_t *, uint64_t *, int64_t *);
void gs_order_process(const struct gs_order *, uint64_t, uint64_t *, uint64_t *);
int gs_order_survey(struct gs_order *);
void gs_order_stopped(struct gs_order *, int64_t);
int gs_order_begin(struct gs_order *, const int64_t *, const uint8_t *);
int64_t gs_order_next(struct gs_order *, struct gs_event *, int64_t, uint64_t *);
void gs_order_close(struct gs_order *);

/* Returns 1 for a file that was read to its end, 0 for one that was refused. */
static int read_file(const unsigned char *map, uint64_t bytes) {
    struct gs_order *order = gs_order_open(map, bytes);
    if (!order)
        abort();
    int good = 0;
    if (!*gs_order_error(order)) {
        uint64_t counts[5], page, other;
        int64_t last;
        gs_order_counts(order, counts);
        int64_t *ends = calloc(counts[0] + 1, sizeof *ends);
        uint8_t *unclean = calloc(counts[0] + 1, 1);
        if (!ends || !unclean)
            abort();
        for (uint64_t i = 0; i < counts[0]; i++) {
            gs_order_process(order, i, &page, &other);
            ends[i] = (int64_t)page + map[page + GS_UNIT_BYTES - 1];
        }
        for (uint64_t i = 0; i < counts[1]; i++) {
            gs_order_thread(order, i, &page, &other, &last);
            if (page + GS_UNIT_BYTES > bytes || other >= counts[0])
                abort();
        }
        /* Each record gives one event and at most one gap beside it; each thread one more that it
         * is not known further, each GIL two. */
        uint64_t most =
            2 * (bytes / sizeof(struct gs_record)) + 2 * counts[0] + 2 * counts[1] + 3 * counts[2];
        uint64_t events = 0;
        static struct gs_event batch[4096];
        static uint64_t offsets[4096];
        if (roll(2) && gs_order_survey(order))
            abort();
        if (roll(2))
            gs_order_stopped(order, ends[0] - (int64_t)roll(UINT64_C(1) << (1 + roll(62))));
        int64_t n = gs_order_begin(order, ends, unclean);
        while (n == 0 && (n = gs_order_next(order, batch, 4096, offsets)) > 0) {
            events += (uint64_t)n;
            for (int64_t i = 0; i < n; i++)
                if (offsets[i] >= bytes || batch[i].thread >= counts[1] ||
                    (batch[i].gil != GS_NO_GIL && batch[i].gil >= counts[2]))
                    abort();
            if (events > most)
                abort();
            n = 0;
        }
        good = n == 0;
        if (!good && !*gs_order_error(order))
            abort();
        free(ends);
        free(unclean);
    }
    gs_order_close(order);
    return good;
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
    for (long round = 0; round < rounds; round++) {
        /* A file that is cut short ends at the untouchable page too. */
        uint64_t cut = round % 8 == 7 ? roll(units) : 0, left = bytes - cut * GS_UNIT_BYTES;
        unsigned char *start = map + cut * GS_UNIT_BYTES;
        memcpy(start, original, left);
        for (uint64_t n = round ? 1 + roll(6) : 0;
             n > 0 && left > 2 * GS_FIRST_UNIT * GS_UNIT_BYTES; n--)
            damage(start, left / GS_UNIT_BYTES);
        int read = read_file(start, left);
        if (round == 0 && !read)
            return 3;
        good += read;
    }
    printf("%ld rounds, %ld read to the end, %ld refused\n", rounds, good, rounds - good);
    return 0;
}

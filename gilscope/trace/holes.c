/* Where records of a GIL are missing, found before its events are given.
 *
 * That a number is missing shows when nothing else can be given: behind the hole, late. Until then
 * the last state that is known would go on, and nobody knows whether it did. So the whole file is
 * merged once for its holes alone, and once for its events. Both read what was there when the file
 * was opened. It doubles the time, so it is done only where something may be missing. */
#include <stdlib.h>
#include <string.h>

#include "order.h"

int gs_order_begin(struct gs_order *order, const int64_t *end_ns, const uint8_t *unclean);
int64_t gs_order_next(struct gs_order *order, struct gs_event *out, int64_t capacity,
                      uint64_t *offsets);

enum { BATCH = 1024 };

int gs_add_hole(struct gil *gil, struct hole hole) {
    if (gs_reserve((void **)&gil->holes, gil->n_holes, &gil->hole_capacity, sizeof hole))
        return -1;
    gil->holes[gil->n_holes++] = hole;
    return 0;
}

static void *copy(const void *data, uint64_t n, size_t size) {
    void *made = calloc(n + 1, size);
    if (made && n)
        memcpy(made, data, n * size);
    return made;
}

/* Whether records of a process may be missing behind the last events of its GILs: a thread lost
 * some and gave no event of a GIL since, or perhaps of another one, or had no place for any, and
 * the holes are fewer than what was lost. */
static bool ends_open(const struct gs_order *first, uint32_t id) {
    const struct process *process = &first->processes[id];
    uint64_t lost = first->header->lost_unattached, missing = 0;
    bool may = lost > 0 || process->n_gils > 1;
    for (uint64_t t = 0; t < first->n_threads; t++) {
        const struct thread *thread = &first->threads[t];
        if (thread->process != id)
            continue;
        lost += gs_thread_page(first, thread)->lost;
        may |= thread->losing || thread->cut;
    }
    for (uint32_t i = 0; i < process->n_gils; i++) {
        const struct gil *gil = &first->gils[process->first_gil + i];
        for (uint64_t h = 0; h < gil->n_holes; h++)
            missing += gil->holes[h].missing;
    }
    return may && lost > missing;
}

static int note_open_ends(struct gs_order *first) {
    for (uint32_t p = 0; p < first->n_processes; p++) {
        const struct process *process = &first->processes[p];
        bool open = process->n_gils && ends_open(first, p);
        for (uint32_t i = 0; open && i < process->n_gils; i++) {
            struct gil *gil = &first->gils[process->first_gil + i];
            if (gil->expected && gs_add_hole(gil, (struct hole){gil->expected, 0}))
                return -1;
        }
    }
    return 0;
}

/* To be called before gs_order_begin. Returns 0, or -1: out of memory. A file that is broken is not
 * refused here: the reading that follows does that. */
GS_EXPORT int gs_order_survey(struct gs_order *order) {
    struct gs_order first = *order; /* shares what is only read */
    first.survey = true;
    first.stop_ns = INT64_MAX;
    first.queue = NULL;
    first.n_queue = first.queue_capacity = 0;
    first.threads = copy(order->threads, order->n_threads, sizeof *first.threads);
    first.processes = copy(order->processes, order->n_processes, sizeof *first.processes);
    first.gils = calloc(order->n_gils + 1, sizeof *first.gils);
    int64_t *ends = calloc(order->n_processes + 1, sizeof *ends);
    uint8_t *unclean = calloc(order->n_processes + 1, sizeof *unclean);
    struct gs_event *batch = calloc(BATCH, sizeof *batch);
    int result = -1;
    if (first.threads && first.processes && first.gils && ends && unclean && batch &&
        gs_order_begin(&first, ends, unclean) == 0) {
        while (gs_order_next(&first, batch, BATCH, NULL) > 0)
            ;
        result = note_open_ends(&first);
        for (uint64_t i = 0; i < order->n_gils; i++) {
            order->gils[i].holes = first.gils[i].holes;
            order->gils[i].n_holes = first.gils[i].n_holes;
            first.gils[i].holes = NULL;
        }
    }
    gs_free_gils(&first);
    free(first.threads);
    free(first.processes);
    free(first.queue);
    free(ends);
    free(unclean);
    free(batch);
    return result ? gs_order_fail(order, "out of memory") : 0;
}

/* To be called before gs_order_begin where recording stopped before the program did. */
GS_EXPORT void gs_order_stopped(struct gs_order *order, int64_t stop_ns) {
    order->stop_ns = stop_ns;
}

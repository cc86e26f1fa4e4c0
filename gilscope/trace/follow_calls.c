/* The calls of the live reader; follow.h has the rules, follow.c the merge. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdlib.h>

#include "follow.h"

/* Announces what has come: processes that begin, threads that go on, releases that have settled. */
static int announce_all(struct gs_follow *follow, uint64_t n_processes, uint64_t n_threads) {
    for (uint64_t i = 0; i < n_processes; i++) {
        struct follow_process *process = &follow->processes[i];
        if (process->first_thread == UINT32_MAX || process->starts)
            continue;
        process->starts = true;
        process->last_ns = process->start_ns = gs_follow_ns(follow, process->start_ticks);
        if (gs_follow_push(follow, (struct follow_candidate){process->start_ns, (uint32_t)i,
                                                             FOLLOW_PROCESS_START}))
            return -1;
    }
    for (uint64_t i = 0; i < n_threads; i++)
        if (gs_follow_announce(follow, (uint32_t)i))
            return -1;
    for (uint64_t i = 0; i < follow->n_gils; i++)
        if (gs_follow_queue_gil(follow, (uint32_t)i))
            return -1;
    return 0;
}

/* Opens a mapped ring file; the mapping must outlive it. NULL only when out of memory: otherwise
 * ask gs_follow_error whether it can be read. */
GS_EXPORT struct gs_follow *gs_follow_open(const void *map, uint64_t bytes) {
    struct gs_follow *follow = calloc(1, sizeof *follow);
    if (!follow)
        return NULL;
    follow->map = map;
    follow->bytes = bytes;
    follow->header = map;
    follow->stop_ns = INT64_MAX;
    follow->horizon_ns = INT64_MIN;
    const struct gs_file_header *header = map;
    if (bytes < GS_UNIT_BYTES || header->magic != GS_FILE_MAGIC)
        gs_follow_fail(follow, "not a ring file of gilscope");
    else if (header->abi_version != GS_ABI_VERSION)
        gs_follow_fail(follow,
                       "written by another version of gilscope (ring format %" PRIu32 ", not %d)",
                       header->abi_version, GS_ABI_VERSION);
    else if (header->n_clocks == 0 || header->clocks[0].monotonic_ns < 0 ||
             header->clocks[0].monotonic_ns > INT64_MAX / 4)
        gs_follow_fail(follow, "no clock snapshot that can be");
    else
        follow->newest = header->clocks[0];
    return follow;
}

GS_EXPORT void gs_follow_close(struct gs_follow *follow) {
    if (!follow)
        return;
    for (uint64_t i = 0; i < follow->n_threads; i++)
        free(follow->threads[i].chunks);
    for (uint64_t i = 0; i < follow->n_processes; i++) {
        free(follow->processes[i].gils);
        free(follow->processes[i].numbers);
    }
    for (uint64_t i = 0; i < follow->n_gils; i++)
        free(follow->gils[i].heap);
    void *owned[] = {follow->rooms,
                     follow->threads,
                     follow->processes,
                     follow->gils,
                     follow->nodes,
                     follow->node_ids,
                     follow->queue,
                     follow->segments,
                     follow->node_slots,
                     follow->found,
                     follow};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        free(owned[i]);
}

/* What went wrong, or "" */
GS_EXPORT const char *gs_follow_error(const struct gs_follow *follow) {
    return follow->error;
}

/* Looks at what was stored since. Call gs_follow_name_nodes for new nodes before gs_follow_next.
 * 0, or -1 with `error`. */
GS_EXPORT int gs_follow_poll(struct gs_follow *follow) {
    uint64_t n_threads = follow->n_threads, n_processes = follow->n_processes;
    follow->polls++;
    if (gs_follow_clock(follow))
        return -1;
    for (uint64_t i = 0; i < n_threads; i++)
        if (!follow->threads[i].left && !follow->threads[i].ended)
            gs_follow_look(follow, &follow->threads[i]);
    if (gs_follow_scan(follow))
        return -1;
    return announce_all(follow, n_processes, n_threads);
}

/* A process is over: nobody stores records of it any more. It ended at `end_ns`, as far as anyone
 * knows, or `unclean`: without saying so. 0, or -1 with `error`. */
GS_EXPORT int gs_follow_over(struct gs_follow *follow, uint64_t id, int64_t end_ns, int unclean) {
    struct follow_process *process = &follow->processes[id];
    if (process->over)
        return 0;
    process->over = true;
    process->end_ns = end_ns;
    process->unclean = unclean != 0;
    for (uint32_t t = process->threads; t != UINT32_MAX; t = follow->threads[t].next_of_process) {
        if (!follow->threads[t].ended && !follow->threads[t].left)
            gs_follow_look(follow, &follow->threads[t]);
        if (gs_follow_announce(follow, t))
            return -1;
    }
    return gs_follow_end_process(follow, (uint32_t)id);
}

/* From `stop_ns` on nothing was recorded. To be called behind gs_follow_finish. */
GS_EXPORT void gs_follow_stopped(struct gs_follow *follow, int64_t stop_ns) {
    follow->stop_ns = stop_ns;
}

/* The end of the recording is known: what is stored now is all. Then gs_follow_over is to be called
 * for each process, and gs_follow_next until it gives nothing. 0, or -1 with `error`. */
GS_EXPORT int gs_follow_finish(struct gs_follow *follow) {
    if (gs_follow_clock(follow))
        return -1;
    follow->final = true;
    follow->horizon_ns = INT64_MAX;
    /* Twice: the second look sees the records of what the first scan found. */
    for (int i = 0; i < 2; i++) {
        if (gs_follow_scan(follow))
            return -1;
        for (uint64_t t = 0; t < follow->n_threads; t++)
            if (!follow->threads[t].left && !follow->threads[t].ended)
                gs_follow_look(follow, &follow->threads[t]);
    }
    return announce_all(follow, follow->n_processes, follow->n_threads);
}

/* counts: processes, threads, GILs, nodes, clamped stamps, records missing in GILs' sequences,
 * yields that were given as releases, and the records' stamps (in ticks) up to which all is given.
 */
GS_EXPORT void gs_follow_counts(struct gs_follow *follow, uint64_t counts[8]) {
    uint64_t before = UINT64_MAX >> GS_KIND_BITS;
    if (!follow->final)
        before = follow->horizon_ticks & (UINT64_MAX >> GS_KIND_BITS);
    for (uint64_t i = 0; i < follow->n_threads; i++) {
        const struct follow_thread *thread = &follow->threads[i];
        bool dry =
            thread->head.ordinal == thread->past.ordinal && thread->head.at == thread->past.at;
        if (thread->left || dry || !gs_stamp(thread->head.at))
            continue;
        uint64_t stamp = gs_stamp(thread->head.at) >> GS_KIND_BITS;
        if (stamp < before)
            before = stamp;
    }
    counts[0] = follow->n_processes;
    counts[1] = follow->n_threads;
    counts[2] = follow->n_gils;
    counts[3] = follow->n_nodes;
    counts[4] = follow->clamped;
    counts[5] = follow->lost;
    counts[6] = follow->late;
    counts[7] = before;
}

/* A process: where its page is in the file (0: it is another's now), its serial, its parent as its
 * page has it, the time of its last event, its GILs. */
GS_EXPORT void gs_follow_process(const struct gs_follow *follow, uint64_t id, uint64_t *page,
                                 uint32_t *first_thread, int64_t *start_ns, int64_t *last_ns) {
    const struct follow_process *process = &follow->processes[id];
    *page = process->gone ? 0 : (uint64_t)process->unit * GS_UNIT_BYTES;
    *first_thread = process->first_thread;
    *start_ns = process->start_ns;
    *last_ns = process->last_ns;
}

/* A thread: where its page is (0: it is another's now), its process, the time of its last record
 * (0: none). */
GS_EXPORT void gs_follow_thread(struct gs_follow *follow, uint64_t id, uint64_t *page,
                                uint64_t *process, int64_t *last_ns) {
    const struct follow_thread *thread = &follow->threads[id];
    const struct gs_thread_page *its = gs_follow_unit(follow, thread->unit);
    bool there = !thread->gone && its->header.magic == GS_THREAD_PAGE &&
                 its->start_ticks == thread->start_ticks;
    *page = there ? (uint64_t)thread->unit * GS_UNIT_BYTES : 0;
    *process = thread->process;
    *last_ns = thread->last_ticks ? gs_follow_ns(follow, thread->last_ticks) : 0;
}

/* The process of a GIL. */
GS_EXPORT uint32_t gs_follow_gil(const struct gs_follow *follow, uint64_t id) {
    return follow->gils[id].process;
}

GS_EXPORT int64_t gs_follow_to_ns(struct gs_follow *follow, uint64_t ticks) {
    return gs_follow_ns(follow, ticks);
}

/* The nodes of stacks; a row a node, callers before those that they call. */
GS_EXPORT uint64_t gs_follow_nodes(const struct gs_follow *follow,
                                   const struct follow_node **rows) {
    *rows = follow->nodes;
    return follow->n_nodes;
}

/* What stack events are to call `n` more nodes. 0, or -1 out of memory. */
GS_EXPORT int gs_follow_name_nodes(struct gs_follow *follow, const uint32_t *ids, uint64_t n) {
    for (uint64_t i = 0; i < n; i++) {
        if (gs_follow_reserve((void **)&follow->node_ids, follow->n_named, &follow->id_capacity,
                              sizeof *follow->node_ids))
            return gs_follow_fail(follow, "out of memory");
        follow->node_ids[follow->n_named++] = ids[i];
    }
    return 0;
}

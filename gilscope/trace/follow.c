/* The merge of the live reader; follow.h has the rules.
 *
 * It is the merge of order.c, which gives a GIL's events by their numbers and among all that can be
 * given the earliest first; what differs is that what is not there yet may still come. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "follow.h"

/* How long a thread may take between the store of a release and its correction, where the feed
 * looks at what comes next; and where it knows, but corrects in place. */
#define SETTLED_NS      INT64_C(200000000)
#define SETTLED_TOLD_NS INT64_C(5000000)

/* ---- queues ------------------------------------------------------------------------------------
 */

int gs_follow_push(struct gs_follow *follow, struct follow_candidate item) {
    if (gs_follow_reserve((void **)&follow->queue, follow->n_queue, &follow->queue_capacity,
                          sizeof *follow->queue))
        return gs_follow_fail(follow, "out of memory");
    uint64_t at = follow->n_queue++;
    while (at > 0 && follow->queue[(at - 1) / 2].time_ns > item.time_ns) {
        follow->queue[at] = follow->queue[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    follow->queue[at] = item;
    return 0;
}

static struct follow_candidate pop(struct gs_follow *follow) {
    struct follow_candidate top = follow->queue[0], last = follow->queue[--follow->n_queue];
    uint64_t at = 0;
    for (;;) {
        uint64_t child = 2 * at + 1;
        if (child >= follow->n_queue)
            break;
        if (child + 1 < follow->n_queue &&
            follow->queue[child + 1].time_ns < follow->queue[child].time_ns)
            child++;
        if (follow->queue[child].time_ns >= last.time_ns)
            break;
        follow->queue[at] = follow->queue[child];
        at = child;
    }
    if (follow->n_queue)
        follow->queue[at] = last;
    return top;
}

static uint64_t head_sequence(const struct gs_follow *follow, uint32_t thread) {
    return follow->threads[thread].head.at->payload >> GS_SEQUENCE_SHIFT;
}

static int gil_push(struct gs_follow *follow, struct follow_gil *gil, uint32_t thread) {
    uint64_t capacity = gil->capacity;
    if (gs_follow_reserve((void **)&gil->heap, gil->n, &capacity, sizeof *gil->heap))
        return gs_follow_fail(follow, "out of memory");
    gil->capacity = (uint32_t)capacity;
    uint64_t sequence = head_sequence(follow, thread);
    uint32_t at = gil->n++;
    while (at > 0 && head_sequence(follow, gil->heap[(at - 1) / 2]) > sequence) {
        gil->heap[at] = gil->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    gil->heap[at] = thread;
    return 0;
}

static void gil_pop(const struct gs_follow *follow, struct follow_gil *gil) {
    uint32_t last = gil->heap[--gil->n], at = 0;
    uint64_t sequence = gil->n ? head_sequence(follow, last) : 0;
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= gil->n)
            break;
        if (child + 1 < gil->n &&
            head_sequence(follow, gil->heap[child + 1]) < head_sequence(follow, gil->heap[child]))
            child++;
        if (head_sequence(follow, gil->heap[child]) >= sequence)
            break;
        gil->heap[at] = gil->heap[child];
        at = child;
    }
    if (gil->n)
        gil->heap[at] = last;
}

/* ---- what stands at the heads ------------------------------------------------------------------
 */

static int64_t later(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static int64_t head_time(struct gs_follow *follow, const struct follow_thread *thread) {
    uint64_t stamp = gs_stamp(thread->head.at);
    if ((stamp & GS_KIND_MASK) == GS_THREAD_LOST && thread->last_ns)
        return thread->last_ns; /* the loss began there */
    return gs_follow_ns(follow, stamp >> GS_KIND_BITS);
}

static bool is_last(const struct follow_thread *thread) {
    return thread->head.ordinal == thread->past.ordinal && thread->head.at + 1 == thread->past.at;
}

/* Whether the record at a thread's head is what it will be. */
static bool settled(struct gs_follow *follow, const struct follow_thread *thread) {
    const struct follow_process *process = &follow->processes[thread->process];
    if (follow->final || process->over || !is_last(thread) ||
        (gs_stamp(thread->head.at) & GS_KIND_MASK) != GS_GIL_RELEASE)
        return true;
    int64_t after = process->told_yields ? SETTLED_TOLD_NS : SETTLED_NS;
    return follow->horizon_ns - head_time(follow, thread) >= after;
}

static int comes_twice(struct gs_follow *follow, uint32_t thread) {
    return gs_follow_fail(follow, "offset 0x%" PRIx64 ": sequence number %" PRIu64 " comes twice",
                          gs_follow_offset(follow, follow->threads[thread].head.at),
                          head_sequence(follow, thread));
}

/* Queues a GIL whose next event stands at the head of a thread and is certain. */
int gs_follow_queue_gil(struct gs_follow *follow, uint32_t id) {
    struct follow_gil *gil = &follow->gils[id];
    if (gil->queued || gil->n == 0 || head_sequence(follow, gil->heap[0]) > gil->expected)
        return 0;
    if (head_sequence(follow, gil->heap[0]) < gil->expected)
        return comes_twice(follow, gil->heap[0]);
    const struct follow_thread *thread = &follow->threads[gil->heap[0]];
    if (!settled(follow, thread))
        return 0;
    gil->queued = true;
    gil->stuck_at = 0;
    return gs_follow_push(follow,
                          (struct follow_candidate){head_time(follow, thread), id, FOLLOW_GIL});
}

/* Records that the thread lost and never told. Its page may be another's by now: then its process
 * had it until it was over, and it told. */
static uint64_t untold(const struct gs_follow *follow, const struct follow_thread *thread) {
    const struct gs_thread_page *page = gs_follow_unit(follow, thread->unit);
    if (thread->gone || page->start_ticks != thread->start_ticks)
        return 0;
    uint64_t lost = __atomic_load_n(&page->lost, __ATOMIC_RELAXED);
    return lost > thread->told_lost ? lost : 0;
}

static bool stopped(const struct gs_follow *follow, const struct follow_process *process) {
    return follow->stop_ns < process->end_ns;
}

/* Whether records of a process may be missing behind the last events of its GILs: a thread lost
 * some and gave no event of a GIL since, or perhaps of another one, and the holes are fewer than
 * what was lost. */
static bool ends_open(const struct gs_follow *follow, const struct follow_process *process) {
    uint64_t lost = follow->header->lost_unattached;
    bool may = lost > 0 || process->n_gils > 1;
    for (uint32_t id = process->threads; id != UINT32_MAX;
         id = follow->threads[id].next_of_process) {
        const struct follow_thread *thread = &follow->threads[id];
        uint64_t its = untold(follow, thread);
        lost += its ? its : thread->told_lost;
        may |= thread->losing || thread->cut;
    }
    return may && lost > process->missing;
}

int gs_follow_end_process(struct gs_follow *follow, uint32_t id) {
    struct follow_process *process = &follow->processes[id];
    if (process->ends || !process->over || process->open_threads || !process->begun)
        return 0;
    process->ends = true;
    process->open_end = ends_open(follow, process);
    if (stopped(follow, process))
        return gs_follow_push(follow,
                              (struct follow_candidate){follow->stop_ns, id, FOLLOW_GILS_CUT});
    return gs_follow_push(follow, (struct follow_candidate){
                                      later(process->end_ns, process->last_ns), id,
                                      process->open_end ? FOLLOW_GILS_CUT : FOLLOW_PROCESS_END});
}

/* All records of a thread of a process that is over were read. */
static int leave(struct gs_follow *follow, uint32_t id) {
    struct follow_thread *thread = &follow->threads[id];
    struct follow_process *process = &follow->processes[thread->process];
    if (!thread->cut && !thread->ended && (stopped(follow, process) || untold(follow, thread))) {
        thread->cut = true;
        int64_t from_ns = untold(follow, thread) ? process->start_ns : follow->stop_ns;
        return gs_follow_push(follow, (struct follow_candidate){later(from_ns, thread->last_ns), id,
                                                                FOLLOW_THREAD_CUT});
    }
    thread->left = true;
    free(thread->chunks);
    thread->chunks = NULL;
    thread->n_chunks = thread->chunk_capacity = 0;
    process->open_threads--;
    return gs_follow_end_process(follow, thread->process);
}

/* Chunks that are read to their end are of no more use. */
static void drop_read_chunks(struct follow_thread *thread) {
    uint64_t read = 0;
    while (read < thread->n_chunks && thread->chunks[read].ordinal < thread->head.ordinal)
        read++;
    if (read < 64 && read != thread->n_chunks)
        return; /* moving them each time would cost more than they take */
    thread->n_chunks -= read;
    memmove(thread->chunks, thread->chunks + read, thread->n_chunks * sizeof *thread->chunks);
}

/* Brings the thread's next record to the merge, where it has one and is not in it. */
int gs_follow_announce(struct gs_follow *follow, uint32_t id) {
    struct follow_thread *thread = &follow->threads[id];
    struct follow_process *process = &follow->processes[thread->process];
    if (thread->announced || thread->left || !process->begun)
        return 0;
    while (gs_follow_turn(follow, thread, &thread->head))
        drop_read_chunks(thread);
    if (thread->head.ordinal == thread->past.ordinal && thread->head.at == thread->past.at)
        return process->over ? leave(follow, id) : 0;
    uint64_t offset = gs_follow_offset(follow, thread->head.at);
    /* More was seen of it: what lay between is there no more, in a damaged file. */
    if (thread->head.at == thread->head.end)
        return gs_follow_fail(follow, "offset 0x%" PRIx64 ": the records behind it are gone",
                              offset);
    if (thread->given) {
        follow->late += (gs_stamp(thread->given) & GS_KIND_MASK) == GS_GIL_YIELD;
        thread->given = NULL;
    }
    uint64_t kind = gs_stamp(thread->head.at) & GS_KIND_MASK;
    thread->announced = true;
    if (gs_is_thread_event(kind))
        return gs_follow_push(
            follow, (struct follow_candidate){head_time(follow, thread), id, FOLLOW_THREAD});
    if (!gs_is_gil_event(kind))
        return gs_follow_fail(follow, "offset 0x%" PRIx64 ": unknown kind %" PRIu64, offset, kind);
    uint64_t index = thread->head.at->payload >> GS_GIL_SHIFT & GS_GIL_MASK;
    if (index >= process->n_gils)
        return gs_follow_fail(follow, "offset 0x%" PRIx64 ": GIL %" PRIu64 " of %" PRIu64, offset,
                              index, process->n_gils);
    struct follow_gil *gil = &follow->gils[process->gils[index]];
    if (head_sequence(follow, id) < gil->expected)
        return comes_twice(follow, id);
    if (gil_push(follow, gil, id))
        return -1;
    return gs_follow_queue_gil(follow, process->gils[index]);
}

/* ---- events ------------------------------------------------------------------------------------
 */

static struct gs_event process_event(struct gs_follow *follow, struct follow_candidate item) {
    struct follow_process *process = &follow->processes[item.index];
    bool end = item.type == FOLLOW_PROCESS_END;
    process->last_ns = later(process->last_ns, item.time_ns);
    process->ended |= end;
    return (struct gs_event){.time_ns = process->last_ns,
                             .arg = end && process->unclean,
                             .thread = process->first_thread,
                             .gil = GS_NO_GIL,
                             .kind = end ? GS_PROCESS_END : GS_PROCESS_START};
}

/* Right behind the last event of a GIL, and of the thread whose event it was: its end may have
 * come since. */
static int64_t end_of(const struct gs_follow *follow, const struct follow_gil *gil) {
    return later(gil->last_ns, follow->threads[gil->last_thread].last_ns);
}

/* From here on no more is known of a thread. */
static struct gs_event thread_cut_event(struct gs_follow *follow, struct follow_candidate item) {
    struct follow_thread *thread = &follow->threads[item.index];
    struct follow_process *process = &follow->processes[thread->process];
    process->last_ns = later(process->last_ns, item.time_ns);
    return (struct gs_event){.time_ns = item.time_ns,
                             .arg = untold(follow, thread),
                             .thread = item.index,
                             .gil = GS_NO_GIL,
                             .kind = GS_THREAD_LOST};
}

/* The same of one more of a process's GILs, right behind its last event where recording did not
 * stop; false where there is none left. One without any may have come later: it is told of in the
 * first thread's name. */
static bool gil_cut_event(struct gs_follow *follow, struct follow_candidate item,
                          struct gs_event *out) {
    struct follow_process *process = &follow->processes[item.index];
    bool stop = stopped(follow, process);
    while (process->cut_gils < process->n_gils) {
        uint32_t id = process->gils[process->cut_gils++];
        const struct follow_gil *gil = &follow->gils[id];
        if (!gil->expected && !stop)
            continue;
        if (stop)
            process->last_ns = later(process->last_ns, item.time_ns);
        *out = (struct gs_event){.time_ns = stop ? process->last_ns : end_of(follow, gil),
                                 .thread = gil->expected ? gil->last_thread : process->first_thread,
                                 .gil = (uint16_t)id,
                                 .kind = GS_GIL_LOST};
        return true;
    }
    return false;
}

/* Records of a GIL are missing before what stands at its first thread's head. */
static struct gs_event gap_event(struct gs_follow *follow, uint32_t id) {
    struct follow_gil *gil = &follow->gils[id];
    uint32_t thread = gil->heap[0];
    uint64_t missing = head_sequence(follow, thread) - gil->expected;
    bool first = gil->expected == 0;
    if (first)
        gil->last_ns =
            later(head_time(follow, &follow->threads[thread]), follow->threads[thread].last_ns);
    else
        gil->last_ns = end_of(follow, gil);
    follow->lost += missing;
    follow->processes[gil->process].missing += missing;
    gil->expected += missing;
    return (struct gs_event){.time_ns = gil->last_ns,
                             .arg = missing,
                             .thread = first ? thread : gil->last_thread,
                             .gil = (uint16_t)id,
                             .kind = GS_GIL_LOST};
}

/* A GIL that cannot go on, the earliest of those whose missing records are certainly lost; -1:
 * none. */
static int64_t find_gap(struct gs_follow *follow) {
    int64_t earliest = -1, time_ns = 0;
    for (uint64_t i = 0; i < follow->n_gils; i++) {
        struct follow_gil *gil = &follow->gils[i];
        if (gil->n == 0 || gil->queued || head_sequence(follow, gil->heap[0]) <= gil->expected)
            continue;
        int64_t its = head_time(follow, &follow->threads[gil->heap[0]]);
        if (its > follow->horizon_ns)
            continue;
        if (!gil->stuck_at)
            gil->stuck_at = follow->polls;
        if (!follow->final && follow->polls < gil->stuck_at + 2)
            continue;
        if (earliest < 0 || its < time_ns) {
            time_ns = its;
            earliest = (int64_t)i;
        }
    }
    return earliest;
}

static int64_t advance(struct gs_follow *follow, struct follow_thread *thread,
                       struct follow_gil *gil) {
    int64_t time_ns = head_time(follow, thread), floor = thread->last_ns;
    if (gil && gil->last_ns > floor)
        floor = gil->last_ns;
    if (time_ns < floor) {
        time_ns = floor;
        follow->clamped++;
    }
    thread->last_ns = time_ns;
    if (gil)
        gil->last_ns = time_ns;
    struct follow_process *process = &follow->processes[thread->process];
    if (process->last_ns < time_ns)
        process->last_ns = time_ns;
    return time_ns;
}

/* What a record of a GIL tells beside its flags. False: no thread of the process has the number. */
static bool gil_argument(const struct gs_follow *follow, const struct gs_record *record,
                         const struct follow_process *process, uint64_t *arg) {
    (void)follow;
    *arg = record->payload & GS_WAITERS_MAX;
    if ((gs_stamp(record) & GS_KIND_MASK) != GS_GIL_WAKEUP || *arg == 0)
        return true;
    if (*arg > process->n_numbers)
        return false;
    *arg = process->numbers[*arg - 1];
    return *arg != 0;
}

static bool stack_argument(const struct gs_follow *follow, const struct gs_record *record,
                           uint32_t process, uint64_t *arg, uint8_t *flags) {
    uint64_t payload = record->payload;
    int64_t node = gs_follow_node(follow, (uint32_t)(payload & GS_STACK_REFERENCE_MASK));
    if (node < 0 || follow->nodes[node].process != process ||
        payload & ~(GS_STACK_REFERENCE_MASK | GS_STACK_OF_WAIT | GS_STACK_SEEN | GS_STACK_OF_SYNC))
        return false;
    *arg = (uint64_t)node < follow->n_named ? follow->node_ids[node] : (uint64_t)node;
    *flags = (payload & GS_STACK_OF_WAIT ? GS_FLAG_OF_WAIT : 0) |
             (payload & GS_STACK_SEEN ? GS_FLAG_SEEN : 0) |
             (payload & GS_STACK_OF_SYNC ? GS_FLAG_OF_SYNC : 0);
    return true;
}

/* The event of the record at a thread's head, which is taken. 0, or -1 with `error`. */
static int record_event(struct gs_follow *follow, struct follow_candidate item,
                        struct gs_event *out) {
    struct follow_gil *gil = item.type == FOLLOW_GIL ? &follow->gils[item.index] : NULL;
    uint32_t id = gil ? gil->heap[0] : item.index;
    struct follow_thread *thread = &follow->threads[id];
    const struct gs_record *record = thread->head.at;
    if (gil) {
        gil_pop(follow, gil);
        gil->expected++;
        gil->queued = false;
        gil->last_thread = id;
        thread->losing = false;
    }
    uint64_t arg = record->payload;
    uint64_t offset = gs_follow_offset(follow, record);
    if (gil && !gil_argument(follow, record, &follow->processes[thread->process], &arg))
        return gs_follow_fail(follow, "offset 0x%" PRIx64 ": a wakeup of thread number %" PRIu64,
                              offset, record->payload & GS_WAITERS_MAX);
    uint8_t flags = gil ? record->payload >> GS_FLAGS_SHIFT & GS_FLAGS_MASK : 0;
    uint8_t kind = gs_stamp(record) & GS_KIND_MASK;
    if (kind == GS_STACK && !stack_argument(follow, record, thread->process, &arg, &flags))
        return gs_follow_fail(follow, "offset 0x%" PRIx64 ": a stack that was not recorded",
                              offset);
    *out = (struct gs_event){
        .time_ns = advance(follow, thread, gil),
        .arg = arg,
        .thread = id,
        .gil = gil ? (uint16_t)item.index : GS_NO_GIL,
        .kind = kind,
        .flags = flags,
    };
    if (kind == GS_THREAD_LOST) {
        thread->told_lost = arg;
        thread->losing = true;
    }
    if (kind == GS_GIL_RELEASE && is_last(thread) && !follow->final)
        thread->given = record;
    thread->ended |= kind == GS_THREAD_END;
    thread->head.at++;
    thread->announced = false;
    if (gs_follow_announce(follow, id))
        return -1;
    return gil ? gs_follow_queue_gil(follow, item.index) : 0;
}

/* Fills `out` with up to `capacity` events that are certain. Returns their number, 0 where there
 * are none now, or -1 (gs_follow_error says why). */
GS_EXPORT int64_t gs_follow_next(struct gs_follow *follow, struct gs_event *out, int64_t capacity) {
    int64_t n = 0;
    while (n < capacity) {
        if (follow->n_queue == 0 || follow->queue[0].time_ns > follow->horizon_ns) {
            int64_t gap = find_gap(follow);
            if (gap < 0)
                break;
            out[n++] = gap_event(follow, (uint32_t)gap);
            if (gs_follow_queue_gil(follow, (uint32_t)gap))
                return -1;
            continue;
        }
        struct follow_candidate item = pop(follow);
        switch (item.type) {
        case FOLLOW_PROCESS_START:
            out[n++] = process_event(follow, item);
            follow->processes[item.index].begun = true;
            for (uint32_t id = follow->processes[item.index].threads; id != UINT32_MAX;
                 id = follow->threads[id].next_of_process)
                if (gs_follow_announce(follow, id))
                    return -1;
            if (gs_follow_end_process(follow, item.index))
                return -1;
            break;
        case FOLLOW_PROCESS_END:
            out[n++] = process_event(follow, item);
            break;
        case FOLLOW_THREAD_CUT:
            out[n++] = thread_cut_event(follow, item);
            if (leave(follow, item.index))
                return -1;
            break;
        case FOLLOW_GILS_CUT:
            if (gil_cut_event(follow, item, &out[n])) {
                n++;
            } else {
                struct follow_process *process = &follow->processes[item.index];
                item.time_ns = later(process->end_ns, process->last_ns);
                item.type = FOLLOW_PROCESS_END;
            }
            if (gs_follow_push(follow, item))
                return -1;
            break;
        default:
            if (record_event(follow, item, &out[n]))
                return -1;
            n++;
        }
    }
    return n;
}

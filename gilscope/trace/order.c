/* From a ring file to events in order.
 *
 * Each thread's records are in order already (one writer); each GIL's are numbered. So this is a
 * merge: a GIL gives its next event when the thread that has it is at its head, whatever the time
 * stamps say. Among everything that can be given next, the earliest goes first, so the order
 * across GILs is nearly that of time, but only the order within a GIL and within a thread is a
 * promise. Where no GIL can go on, records are missing: the gap becomes a gil.lost event. That it
 * is one shows only at its end, so where a recording may have such holes a survey (holes.c) finds
 * them first, and gil.lost is given where the hole begins: right behind the last event that is
 * known.
 *
 * What a thread lost is told by its thread.lost, which it writes when it can write again; here it
 * comes where the loss began. Where it never could, or where the recording was stopped, the same
 * events are made up: from there on nothing is known.
 *
 * Where a recorder took back what was old, there is a cut in time (event_abi.h). What is before it
 * is skipped, even where it is still there, and with it what comes before the last skipped record
 * of its GIL: stamps of two processors may disagree. Processes and threads that are older begin at
 * the cut, and of their GILs a gil.lost says that nothing is known yet.
 *
 * One reader, one file, no thread. Memory: a few words for each thread, GIL and chunk; the file is
 * mapped, and the mapping gives pages back as it is read. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <sys/mman.h>

#include "order.h"

static int push(struct gs_order *order, struct candidate item) {
    if (gs_reserve((void **)&order->queue, order->n_queue, &order->queue_capacity,
                   sizeof *order->queue))
        return gs_order_fail(order, "out of memory");
    uint64_t at = order->n_queue++;
    while (at > 0 && order->queue[(at - 1) / 2].time_ns > item.time_ns) {
        order->queue[at] = order->queue[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    order->queue[at] = item;
    return 0;
}

static struct candidate pop(struct gs_order *order) {
    struct candidate top = order->queue[0], last = order->queue[--order->n_queue];
    uint64_t at = 0;
    for (;;) {
        uint64_t child = 2 * at + 1;
        if (child >= order->n_queue)
            break;
        if (child + 1 < order->n_queue &&
            order->queue[child + 1].time_ns < order->queue[child].time_ns)
            child++;
        if (order->queue[child].time_ns >= last.time_ns)
            break;
        order->queue[at] = order->queue[child];
        at = child;
    }
    if (order->n_queue)
        order->queue[at] = last;
    return top;
}

static uint64_t head_sequence(const struct gs_order *order, uint32_t thread) {
    return order->threads[thread].head->payload >> GS_SEQUENCE_SHIFT;
}

static int gil_push(struct gs_order *order, struct gil *gil, uint32_t thread) {
    uint64_t capacity = gil->capacity;
    if (gs_reserve((void **)&gil->heap, gil->n, &capacity, sizeof *gil->heap))
        return gs_order_fail(order, "out of memory");
    gil->capacity = (uint32_t)capacity;
    uint64_t sequence = head_sequence(order, thread);
    uint32_t at = gil->n++;
    while (at > 0 && head_sequence(order, gil->heap[(at - 1) / 2]) > sequence) {
        gil->heap[at] = gil->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    gil->heap[at] = thread;
    return 0;
}

static void gil_pop(const struct gs_order *order, struct gil *gil) {
    uint32_t last = gil->heap[--gil->n], at = 0;
    uint64_t sequence = gil->n ? head_sequence(order, last) : 0;
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= gil->n)
            break;
        if (child + 1 < gil->n &&
            head_sequence(order, gil->heap[child + 1]) < head_sequence(order, gil->heap[child]))
            child++;
        if (head_sequence(order, gil->heap[child]) >= sequence)
            break;
        gil->heap[at] = gil->heap[child];
        at = child;
    }
    if (gil->n)
        gil->heap[at] = last;
}

static int64_t head_time(struct gs_order *order, const struct thread *thread) {
    if ((thread->head->stamp_kind & GS_KIND_MASK) == GS_THREAD_LOST && thread->last_ns)
        return thread->last_ns; /* the loss began there */
    return gs_order_to_ns(order, thread->head->stamp_kind >> GS_KIND_BITS);
}

static int comes_twice(struct gs_order *order, uint32_t thread) {
    return gs_order_fail(order, "offset 0x%" PRIx64 ": sequence number %" PRIu64 " comes twice",
                         gs_offset_of(order, order->threads[thread].head),
                         head_sequence(order, thread));
}

/* Queues a GIL whose next event stands at the head of a thread. */
static int queue_gil(struct gs_order *order, uint32_t id) {
    struct gil *gil = &order->gils[id];
    if (gil->queued || gil->n == 0 || head_sequence(order, gil->heap[0]) > gil->expected)
        return 0;
    if (head_sequence(order, gil->heap[0]) < gil->expected)
        return comes_twice(order, gil->heap[0]);
    gil->queued = true;
    return push(order,
                (struct candidate){head_time(order, &order->threads[gil->heap[0]]), id, GIL});
}

static int64_t later(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* Records that the thread lost and never told. */
static uint64_t untold(const struct gs_order *order, const struct thread *thread) {
    uint64_t lost = gs_thread_page(order, thread)->lost;
    return lost > thread->told_lost ? lost : 0;
}

/* All records of a thread were read. */
static int leave(struct gs_order *order, uint32_t id) {
    struct thread *thread = &order->threads[id];
    struct process *process = &order->processes[thread->process];
    bool stopped = order->stop_ns < process->end_ns;
    if (!thread->cut && !thread->ended && (stopped || untold(order, thread))) {
        thread->cut = true;
        int64_t from_ns = untold(order, thread) ? process->start_ns : order->stop_ns;
        return push(order, (struct candidate){later(from_ns, thread->last_ns), id, THREAD_CUT});
    }
    if (--process->open_threads > 0)
        return 0;
    return push(order, (struct candidate){stopped ? order->stop_ns : process->end_ns,
                                          thread->process, stopped ? GILS_CUT : PROCESS_END});
}

/* Moves on to the next place with records where those of this one are read. */
static void find_head(const struct gs_order *order, struct thread *thread) {
    while (thread->head != thread->past &&
           (thread->head == thread->end || thread->head->stamp_kind == 0)) {
        if (thread->next_chunk > thread->n_chunks)
            thread->head = thread->past;
        else
            gs_open_records(order, thread, thread->next_chunk++);
    }
}

/* The GIL of the record at a thread's head, NULL: it belongs to none that is known. */
static struct gil *head_gil(const struct gs_order *order, const struct thread *thread) {
    const struct process *process = &order->processes[thread->process];
    uint64_t index = thread->head->payload >> GS_GIL_SHIFT & GS_GIL_MASK;
    if (!gs_is_gil_event(thread->head->stamp_kind & GS_KIND_MASK) || index >= process->n_gils)
        return NULL;
    return &order->gils[process->first_gil + index];
}

/* Skips what is older than the cut. */
static void skip_old(struct gs_order *order, struct thread *thread) {
    for (find_head(order, thread); thread->head != thread->past &&
                                   gs_before_cut(order, thread->head->stamp_kind >> GS_KIND_BITS);
         find_head(order, thread)) {
        struct gil *gil = head_gil(order, thread);
        uint64_t sequence = thread->head->payload >> GS_SEQUENCE_SHIFT;
        if (gil && gil->floor <= sequence)
            gil->floor = sequence + 1;
        if ((thread->head->stamp_kind & GS_KIND_MASK) == GS_THREAD_LOST)
            thread->told_lost = thread->head->payload;
        thread->head++;
    }
}

/* Lowers what each GIL expects to the first of the thread's records of it that is kept. */
static void find_first(const struct gs_order *order, const struct thread *from) {
    struct thread thread = *from;
    uint32_t left = order->processes[thread.process].n_gils;
    uint64_t seen[(GS_GIL_MASK + 1) / 64] = {0};
    for (; left && thread.head != thread.past; thread.head++, find_head(order, &thread)) {
        struct gil *gil = head_gil(order, &thread);
        uint64_t sequence = thread.head->payload >> GS_SEQUENCE_SHIFT;
        if (!gil || sequence < gil->floor)
            continue;
        uint64_t index = (uint64_t)(gil - order->gils) - order->processes[thread.process].first_gil;
        left -= !(seen[index / 64] >> index % 64 & 1);
        seen[index / 64] |= UINT64_C(1) << index % 64;
        if (sequence < gil->expected)
            gil->expected = sequence;
    }
}

/* Brings the thread's next record to its head and announces it. */
static int announce(struct gs_order *order, uint32_t id) {
    struct thread *thread = &order->threads[id];
    struct process *process = &order->processes[thread->process];
    for (find_head(order, thread); order->cut && thread->head != thread->past;
         find_head(order, thread)) {
        const struct gil *old = head_gil(order, thread);
        if (!old || thread->head->payload >> GS_SEQUENCE_SHIFT >= old->floor)
            break;
        thread->head++;
    }
    if (thread->head == thread->past) {
        thread->head = thread->end = thread->past = NULL;
        return leave(order, id);
    }
    uint64_t kind = thread->head->stamp_kind & GS_KIND_MASK;
    if (gs_is_thread_event(kind))
        return push(order, (struct candidate){head_time(order, thread), id, THREAD});
    if (!gs_is_gil_event(kind))
        return gs_order_fail(order, "offset 0x%" PRIx64 ": unknown kind %" PRIu64,
                             gs_offset_of(order, thread->head), kind);
    uint64_t index = thread->head->payload >> GS_GIL_SHIFT & GS_GIL_MASK;
    if (index >= process->n_gils)
        return gs_order_fail(order, "offset 0x%" PRIx64 ": GIL %" PRIu64 " of %" PRIu32,
                             gs_offset_of(order, thread->head), index, process->n_gils);
    struct gil *gil = &order->gils[process->first_gil + index];
    if (head_sequence(order, id) < gil->expected)
        return comes_twice(order, id);
    if (gil_push(order, gil, id))
        return -1;
    return queue_gil(order, process->first_gil + (uint32_t)index);
}

/* Begins the reading. end_ns and unclean have an entry for each process: when it ended as far as
 * anyone knows, and whether it ended without saying so. */
GS_EXPORT int gs_order_begin(struct gs_order *order, const int64_t *end_ns,
                             const uint8_t *unclean) {
    for (uint64_t i = 0; i < order->n_processes; i++) {
        struct process *process = &order->processes[i];
        const struct gs_process_page *page =
            (const void *)(order->map + (uint64_t)process->unit * GS_UNIT_BYTES);
        process->start_ns = process->last_ns =
            gs_order_to_ns(order, process->before_cut ? order->cut : page->start.ticks);
        process->end_ns = end_ns[i];
        process->unclean = unclean[i];
        if (process->first_thread != UINT32_MAX &&
            push(order, (struct candidate){process->start_ns, (uint32_t)i, PROCESS_START}))
            return -1;
    }
    return 0;
}

/* What a record of a GIL tells beside its flags. False: no thread of the process has the number. */
static bool gil_argument(const struct gs_order *order, const struct gs_record *record,
                         const struct process *process, uint64_t *arg) {
    *arg = record->payload & GS_WAITERS_MAX;
    if ((record->stamp_kind & GS_KIND_MASK) != GS_GIL_WAKEUP || *arg == 0)
        return true;
    *arg = *arg > process->max_number ? 0 : order->numbers[process->first_number + *arg - 1];
    return *arg != 0 || order->cut; /* its page may have been taken back */
}

/* A gap: nothing can go on, yet threads stand at events of this GIL. The one that is earliest in
 * time says where it goes on. */
static struct gil *find_gap(struct gs_order *order) {
    struct gil *earliest = NULL;
    int64_t time_ns = 0;
    for (uint64_t i = 0; i < order->n_gils; i++) {
        struct gil *gil = &order->gils[i];
        if (gil->n == 0)
            continue;
        int64_t its = head_time(order, &order->threads[gil->heap[0]]);
        if (!earliest || its < time_ns) {
            time_ns = its;
            earliest = gil;
        }
    }
    return earliest;
}

static void process_event(struct gs_order *order, struct candidate item, struct gs_event *out) {
    struct process *process = &order->processes[item.index];
    bool end = item.type == PROCESS_END;
    *out = (struct gs_event){.time_ns = item.time_ns,
                             .arg = end && process->unclean,
                             .thread = process->first_thread,
                             .gil = GS_NO_GIL,
                             .kind = end ? GS_PROCESS_END : GS_PROCESS_START};
    if (out->time_ns < process->last_ns)
        out->time_ns = process->last_ns;
}

/* Of a process that is older than the cut one more thread, or GIL, that is older; false where there
 * is none left. */
static bool opening_event(struct gs_order *order, struct candidate item, struct gs_event *out) {
    struct process *process = &order->processes[item.index];
    *out = (struct gs_event){.time_ns = item.time_ns, .gil = GS_NO_GIL};
    while (process->opened < order->n_threads) {
        uint32_t id = process->opened++;
        struct thread *thread = &order->threads[id];
        if (thread->process != item.index || !thread->before_cut)
            continue;
        thread->last_ns = item.time_ns;
        out->thread = id;
        out->kind = GS_THREAD_START;
        return true;
    }
    while (process->opened < order->n_threads + process->n_gils) {
        uint32_t id = process->first_gil + process->opened++ - (uint32_t)order->n_threads;
        struct gil *gil = &order->gils[id];
        if (gil->expected == 0) /* it has begun since, or has no events at all */
            continue;
        gil->last_ns = item.time_ns;
        gil->last_thread = process->first_thread;
        out->thread = process->first_thread;
        out->gil = (uint16_t)id;
        out->kind = GS_GIL_LOST;
        return true;
    }
    return false;
}

/* A process's threads enter the merge when it has begun. */
static int announce_all(struct gs_order *order, uint32_t process) {
    for (uint64_t i = 0; i < order->n_threads; i++)
        if (order->threads[i].process == process && announce(order, (uint32_t)i))
            return -1;
    return 0;
}

/* Skips what is older than the cut in a process that is. */
static void begin_at_cut(struct gs_order *order, uint32_t id) {
    const struct process *process = &order->processes[id];
    for (uint64_t i = 0; i < order->n_threads; i++)
        if (order->threads[i].process == id)
            skip_old(order, &order->threads[i]);
    for (uint32_t i = 0; i < process->n_gils; i++)
        order->gils[process->first_gil + i].expected = UINT64_MAX;
    for (uint64_t i = 0; i < order->n_threads; i++)
        if (order->threads[i].process == id)
            find_first(order, &order->threads[i]);
    for (uint32_t i = 0; i < process->n_gils; i++) {
        struct gil *gil = &order->gils[process->first_gil + i];
        if (gil->expected == UINT64_MAX)
            gil->expected = gil->floor;
    }
}

/* From here on no more is known of a thread. */
static void thread_cut_event(struct gs_order *order, struct candidate item, struct gs_event *out) {
    struct thread *thread = &order->threads[item.index];
    struct process *process = &order->processes[thread->process];
    *out = (struct gs_event){.time_ns = item.time_ns,
                             .arg = untold(order, thread),
                             .thread = item.index,
                             .gil = GS_NO_GIL,
                             .kind = GS_THREAD_LOST};
    process->last_ns = later(process->last_ns, out->time_ns);
}

/* The same of one more of a process's GILs; false where there is none left. Its other events have
 * been given all. One without any may have come later: it is told of in the first thread's name. */
static bool gil_cut_event(struct gs_order *order, struct candidate item, struct gs_event *out) {
    struct process *process = &order->processes[item.index];
    if (process->cut_gils == process->n_gils)
        return false;
    uint32_t id = process->first_gil + process->cut_gils++;
    const struct gil *gil = &order->gils[id];
    process->last_ns = later(process->last_ns, item.time_ns);
    *out = (struct gs_event){.time_ns = process->last_ns,
                             .thread = gil->expected ? gil->last_thread : process->first_thread,
                             .gil = (uint16_t)id,
                             .kind = GS_GIL_LOST};
    return true;
}

/* Records of a GIL are missing behind its last event. */
static int gap_event(struct gs_order *order, struct gs_event *out) {
    struct gil *gil = &order->gils[order->gap];
    const struct hole hole = gil->holes[gil->next_hole++];
    *out = (struct gs_event){.time_ns = gil->last_ns,
                             .arg = hole.missing,
                             .thread = gil->last_thread,
                             .gil = (uint16_t)order->gap,
                             .kind = GS_GIL_LOST};
    uint32_t id = order->gap;
    order->gap = GS_NO_GIL;
    order->lost += hole.missing;
    gil->expected += hole.missing;
    return queue_gil(order, id);
}

static bool at_hole(const struct gil *gil) {
    return gil->next_hole < gil->n_holes && gil->holes[gil->next_hole].at == gil->expected;
}

/* The same where that shows only now that nothing else can be given. */
static int late_gap_event(struct gs_order *order, struct gil *gil, struct gs_event *out) {
    uint32_t id = gil->heap[0];
    uint64_t missing = head_sequence(order, id) - gil->expected;
    if (at_hole(gil))
        gil->next_hole++; /* the GIL's first numbers: no event stands before them */
    else if (order->survey && gs_add_hole(gil, (struct hole){gil->expected, missing}))
        return gs_order_fail(order, "out of memory");
    int64_t time_ns = later(head_time(order, &order->threads[id]), gil->last_ns);
    gil->last_ns = later(time_ns, order->threads[id].last_ns);
    *out = (struct gs_event){.time_ns = gil->last_ns,
                             .arg = missing,
                             .thread = id,
                             .gil = (uint16_t)(gil - order->gils),
                             .kind = GS_GIL_LOST};
    order->lost += missing;
    gil->expected += missing;
    return queue_gil(order, (uint32_t)(gil - order->gils));
}

static int64_t advance(struct gs_order *order, struct thread *thread, struct gil *gil) {
    int64_t time_ns = head_time(order, thread), floor = thread->last_ns;
    if (gil && gil->last_ns > floor)
        floor = gil->last_ns;
    if (time_ns < floor) {
        time_ns = floor;
        order->clamped++;
    }
    thread->last_ns = time_ns;
    if (gil)
        gil->last_ns = time_ns;
    struct process *process = &order->processes[thread->process];
    if (process->last_ns < time_ns)
        process->last_ns = time_ns;
    return time_ns;
}

/* Gives pages that have been read back to the kernel: they stay in the file. */
static void give_back(const struct thread *thread) {
    if (thread->head + 1 == thread->end && thread->next_chunk > GS_SMALL_CHUNKS + 1) {
        uintptr_t end = (uintptr_t)thread->end;
        madvise((void *)(end - (uint64_t)GS_CHUNK_UNITS * GS_UNIT_BYTES),
                (uint64_t)GS_CHUNK_UNITS * GS_UNIT_BYTES, MADV_DONTNEED);
    }
}

static uint64_t offset_of_thread(const struct gs_order *order, uint32_t id) {
    return (uint64_t)order->threads[id].unit * GS_UNIT_BYTES;
}

/* Fills `out` with up to `capacity` events and, where `offsets` is given, with each one's place in
 * the file. Returns their number, 0 at the end, or -1 (gs_order_error says why). */
GS_EXPORT int64_t gs_order_next(struct gs_order *order, struct gs_event *out, int64_t capacity,
                                uint64_t *offsets) {
    int64_t n = 0;
    while (n < capacity) {
        if (order->gap != GS_NO_GIL) {
            if (offsets)
                offsets[n] = offset_of_thread(order, order->gils[order->gap].last_thread);
            if (gap_event(order, &out[n++]))
                return -1;
            continue;
        }
        if (order->n_queue == 0) {
            struct gil *gil = find_gap(order);
            if (!gil)
                break;
            if (offsets)
                offsets[n] = gs_offset_of(order, order->threads[gil->heap[0]].head);
            if (late_gap_event(order, gil, &out[n++]))
                return -1;
            continue;
        }
        struct candidate item = pop(order);
        if (item.type == PROCESS_START || item.type == PROCESS_END) {
            process_event(order, item, &out[n]);
            if (offsets)
                offsets[n] = (uint64_t)order->processes[item.index].unit * GS_UNIT_BYTES;
            n++;
            if (item.type == PROCESS_END)
                continue;
            int failed;
            if (order->processes[item.index].before_cut) {
                begin_at_cut(order, item.index);
                item.type = PROCESS_OPENS;
                failed = push(order, item);
            } else {
                failed = announce_all(order, item.index);
            }
            if (failed)
                return -1;
            continue;
        }
        if (item.type == PROCESS_OPENS) {
            if (opening_event(order, item, &out[n])) {
                if (offsets)
                    offsets[n] = offset_of_thread(order, out[n].thread);
                n++;
                if (push(order, item))
                    return -1;
            } else if (announce_all(order, item.index)) {
                return -1;
            }
            continue;
        }
        if (item.type == THREAD_CUT) {
            if (offsets)
                offsets[n] = offset_of_thread(order, item.index);
            thread_cut_event(order, item, &out[n++]);
            if (leave(order, item.index))
                return -1;
            continue;
        }
        if (item.type == GILS_CUT) {
            const struct process *process = &order->processes[item.index];
            if (gil_cut_event(order, item, &out[n])) {
                if (offsets)
                    offsets[n] = (uint64_t)process->unit * GS_UNIT_BYTES;
                n++;
            } else {
                item = (struct candidate){process->end_ns, item.index, PROCESS_END};
            }
            if (push(order, item))
                return -1;
            continue;
        }
        struct gil *gil = item.type == GIL ? &order->gils[item.index] : NULL;
        uint32_t id = gil ? gil->heap[0] : item.index;
        struct thread *thread = &order->threads[id];
        const struct gs_record *record = thread->head;
        if (gil) {
            gil_pop(order, gil);
            gil->expected++;
            gil->queued = false;
            gil->last_thread = id;
            thread->losing = false;
            if (at_hole(gil))
                order->gap = item.index;
        }
        uint64_t arg = record->payload;
        if (gil && !gil_argument(order, record, &order->processes[thread->process], &arg))
            return gs_order_fail(order, "offset 0x%" PRIx64 ": a wakeup of thread number %" PRIu64,
                                 gs_offset_of(order, record), record->payload & GS_WAITERS_MAX);
        uint8_t flags = gil ? record->payload >> GS_FLAGS_SHIFT & GS_FLAGS_MASK : 0;
        if ((record->stamp_kind & GS_KIND_MASK) == GS_STACK &&
            !gs_order_stack(order, record->payload, thread->process, &arg, &flags))
            return gs_order_fail(order, "offset 0x%" PRIx64 ": a stack that was not recorded",
                                 gs_offset_of(order, record));
        out[n] = (struct gs_event){
            .time_ns = advance(order, thread, gil),
            .arg = arg,
            .thread = id,
            .gil = gil ? (uint16_t)item.index : GS_NO_GIL,
            .kind = record->stamp_kind & GS_KIND_MASK,
            .flags = flags,
        };
        if (offsets)
            offsets[n] = gs_offset_of(order, record);
        if (out[n].kind == GS_THREAD_LOST) {
            thread->told_lost = arg;
            thread->losing = true;
        }
        thread->ended |= out[n].kind == GS_THREAD_END;
        n++;
        give_back(thread);
        thread->head++;
        if (announce(order, id) || (gil && order->gap == GS_NO_GIL && queue_gil(order, item.index)))
            return -1;
    }
    return n;
}

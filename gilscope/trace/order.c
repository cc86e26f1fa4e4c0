/* From a ring file to events in order.
 *
 * Each thread's records are in order already (one writer); each GIL's are numbered. So this is a
 * merge: a GIL gives its next event when the thread that has it is at its head, whatever the time
 * stamps say. Among everything that can be given next, the earliest goes first, so the order
 * across GILs is nearly that of time, but only the order within a GIL and within a thread is a
 * promise. Where no GIL can go on, records are missing: the gap becomes a gil.lost event.
 *
 * One reader, one file, no thread. Memory: a few words for each thread, GIL and chunk; the file is
 * mapped, and the mapping gives pages back as it is read. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "event.h"

struct chunk {
    uint32_t thread; /* id */
    uint32_t ordinal;
    uint32_t unit;
};

struct thread {
    uint32_t unit, process;
    uint32_t first_chunk, n_chunks, next_chunk; /* in gs_order.chunks */
    const struct gs_record *head, *end;
    uint64_t last_ticks; /* of its last record, low 58 bits; 0: none */
    int64_t last_ns;
};

struct process {
    uint32_t unit;
    uint32_t first_thread; /* id of its main thread, or of the first one seen; UINT32_MAX: none */
    uint32_t first_gil, n_gils;
    uint32_t open_threads; /* that have records left */
    int64_t start_ns, end_ns, last_ns;
    uint8_t unclean;
};

struct gil {
    uint64_t expected; /* sequence number */
    int64_t last_ns;
    uint32_t *heap; /* threads whose head belongs to this GIL, by sequence number */
    uint32_t n, capacity;
    bool queued; /* in the queue of what can be given next */
};

/* What can be given next: a GIL, a thread whose head belongs to none, or a process's start or end,
 * in a heap by time. */
struct candidate {
    int64_t time_ns;
    uint32_t index;
    uint8_t type;
};
enum { PROCESS_START, PROCESS_END, THREAD, GIL };

struct segment { /* of the clock: ns = base_ns + (ticks - base_ticks) * slope */
    int64_t base_ticks, base_ns;
    double slope;
};

struct gs_order {
    const unsigned char *map;
    uint64_t bytes;
    const struct gs_file_header *header;
    struct chunk *chunks;
    struct thread *threads;
    struct process *processes;
    struct gil *gils;
    struct candidate *queue;
    uint64_t n_chunks, n_threads, n_processes, n_gils, n_queue, queue_capacity;
    struct segment segments[GS_MAX_CLOCKS];
    uint32_t n_segments, segment;
    uint64_t clamped;
    uint64_t lost; /* records missing in the sequences of GILs */
    char error[160];
};

static int fail(struct gs_order *order, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(order->error, sizeof order->error, format, arguments);
    va_end(arguments);
    return -1;
}

static uint64_t offset_of(const struct gs_order *order, const void *at) {
    return (uint64_t)((const unsigned char *)at - order->map);
}

/* Grows an array by doubling. Returns 0, or -1 out of memory. */
static int reserve(void **array, uint64_t n, uint64_t *capacity, size_t item) {
    if (n < *capacity)
        return 0;
    uint64_t wanted = *capacity ? *capacity * 2 : 64;
    void *grown = realloc(*array, wanted * item);
    if (!grown)
        return -1;
    *array = grown;
    *capacity = wanted;
    return 0;
}

/* ---- the clock --------------------------------------------------------------------------------
 */

/* Ticks since the file's first snapshot; the record keeps 58 bits, so the sign is bit 57. */
static int64_t ticks_since_start(const struct gs_order *order, uint64_t ticks) {
    uint64_t delta = (ticks - order->header->clocks[0].ticks) << GS_KIND_BITS;
    return (int64_t)delta >> GS_KIND_BITS;
}

static void build_clock(struct gs_order *order) {
    const struct gs_file_header *header = order->header;
    uint32_t n = header->n_clocks < GS_MAX_CLOCKS ? header->n_clocks : GS_MAX_CLOCKS;
    double slope = 1.0;
    for (uint32_t i = 0; i + 1 < n; i++) {
        const struct gs_clock_snapshot *a = &header->clocks[i], *b = a + 1;
        if (b->ticks <= a->ticks || b->monotonic_ns <= a->monotonic_ns)
            continue;
        slope = (double)(b->monotonic_ns - a->monotonic_ns) / (double)(b->ticks - a->ticks);
        order->segments[order->n_segments++] =
            (struct segment){ticks_since_start(order, a->ticks), a->monotonic_ns, slope};
    }
    if (order->n_segments == 0)
        order->segments[order->n_segments++] =
            (struct segment){0, header->clocks[0].monotonic_ns, slope};
}

static int64_t to_ns(struct gs_order *order, uint64_t ticks) {
    int64_t t = ticks_since_start(order, ticks);
    uint32_t i = order->segment;
    while (i > 0 && t < order->segments[i].base_ticks)
        i--;
    while (i + 1 < order->n_segments && t >= order->segments[i + 1].base_ticks)
        i++;
    order->segment = i;
    const struct segment *s = &order->segments[i];
    return s->base_ns + (int64_t)((double)(t - s->base_ticks) * s->slope);
}

/* ---- the index --------------------------------------------------------------------------------
 */

static int compare_chunks(const void *left, const void *right) {
    const struct chunk *a = left, *b = right;
    if (a->thread != b->thread)
        return a->thread < b->thread ? -1 : 1;
    return a->ordinal < b->ordinal ? -1 : a->ordinal > b->ordinal;
}

/* Finds the id of the thread or process whose page is at `unit`: pages are found in file order. */
static int64_t find_thread(const struct gs_order *order, uint32_t unit) {
    uint64_t low = 0, high = order->n_threads;
    while (low < high) {
        uint64_t middle = (low + high) / 2;
        if (order->threads[middle].unit < unit)
            low = middle + 1;
        else
            high = middle;
    }
    return low < order->n_threads && order->threads[low].unit == unit ? (int64_t)low : -1;
}

static int64_t find_process(const struct gs_order *order, uint32_t unit) {
    for (uint64_t i = order->n_processes; i-- > 0;)
        if (order->processes[i].unit == unit)
            return (int64_t)i;
    return -1;
}

static int index_file(struct gs_order *order) {
    uint64_t units = order->bytes / GS_UNIT_BYTES;
    if (units > order->header->next_unit)
        units = order->header->next_unit;
    if (units > order->header->ready_units)
        units = order->header->ready_units;
    uint64_t chunk_capacity = 0, thread_capacity = 0, process_capacity = 0;
    /* A chunk's owner may stand behind it in the file only by its own doing: a thread takes its
     * page before its chunks, a process before its threads. So one pass finds them in order. */
    for (uint64_t unit = 1; unit < units;) {
        const struct gs_chunk_header *header = (const void *)(order->map + unit * GS_UNIT_BYTES);
        uint32_t length = header->units;
        uint64_t at = unit * GS_UNIT_BYTES;
        if (header->magic == 0) {
            unit++;
            continue;
        }
        if (length == 0 || length > units - unit)
            return fail(order, "offset 0x%" PRIx64 ": a chunk of %" PRIu32 " units", at, length);
        if (header->magic == GS_PROCESS_PAGE && length == 1) {
            if (reserve((void **)&order->processes, order->n_processes, &process_capacity,
                        sizeof *order->processes))
                return fail(order, "out of memory");
            const struct gs_process_page *page = (const void *)header;
            uint32_t n_gils = page->n_gils < GS_GIL_MASK + 1 ? page->n_gils : GS_GIL_MASK + 1;
            order->processes[order->n_processes++] =
                (struct process){.unit = (uint32_t)unit,
                                 .first_thread = UINT32_MAX,
                                 .first_gil = (uint32_t)order->n_gils,
                                 .n_gils = n_gils};
            order->n_gils += n_gils;
        } else if (header->magic == GS_THREAD_PAGE && length == 1) {
            int64_t process = find_process(order, header->owner);
            if (process < 0)
                return fail(order, "offset 0x%" PRIx64 ": a thread of no process", at);
            if (reserve((void **)&order->threads, order->n_threads, &thread_capacity,
                        sizeof *order->threads))
                return fail(order, "out of memory");
            const struct gs_thread_page *page = (const void *)header;
            struct process *its = &order->processes[process];
            if (its->first_thread == UINT32_MAX || page->is_main)
                its->first_thread = (uint32_t)order->n_threads;
            its->open_threads++;
            order->threads[order->n_threads++] =
                (struct thread){.unit = (uint32_t)unit, .process = (uint32_t)process};
        } else if (header->magic == GS_EVENT_CHUNK && length == GS_CHUNK_UNITS) {
            int64_t thread = find_thread(order, header->owner);
            if (thread < 0)
                return fail(order, "offset 0x%" PRIx64 ": a chunk of no thread", at);
            if (reserve((void **)&order->chunks, order->n_chunks, &chunk_capacity,
                        sizeof *order->chunks))
                return fail(order, "out of memory");
            order->chunks[order->n_chunks++] =
                (struct chunk){(uint32_t)thread, header->ordinal, (uint32_t)unit};
        } else {
            return fail(order, "offset 0x%" PRIx64 ": not a page or chunk (magic 0x%" PRIx32 ")",
                        at, header->magic);
        }
        unit += length;
    }
    if (order->n_gils >= GS_NO_GIL)
        return fail(order, "more than %u GILs", (unsigned)GS_NO_GIL - 1);
    if (order->n_chunks)
        qsort(order->chunks, order->n_chunks, sizeof *order->chunks, compare_chunks);
    for (uint64_t i = 0; i < order->n_chunks; i++) {
        struct thread *thread = &order->threads[order->chunks[i].thread];
        if (thread->n_chunks++ == 0)
            thread->first_chunk = (uint32_t)i;
    }
    return 0;
}

static const struct gs_thread_page *thread_page(const struct gs_order *order,
                                                const struct thread *thread) {
    return (const void *)(order->map + (uint64_t)thread->unit * GS_UNIT_BYTES);
}

/* Sets the head to the thread's records in its page (which == 0) or its which-th chunk. */
static void open_records(const struct gs_order *order, struct thread *thread, uint32_t which) {
    if (which == 0) {
        const struct gs_thread_page *page = thread_page(order, thread);
        thread->head = page->records;
        thread->end = page->records + sizeof page->records / sizeof *page->records;
    } else {
        uint64_t unit = order->chunks[thread->first_chunk + which - 1].unit;
        const struct gs_event_chunk *chunk = (const void *)(order->map + unit * GS_UNIT_BYTES);
        thread->head = chunk->records;
        thread->end = chunk->records + sizeof chunk->records / sizeof *chunk->records;
    }
}

/* The time of a thread's last record: in its last place that has any. */
static void find_last(const struct gs_order *order, struct thread *thread) {
    struct thread probe = *thread;
    for (uint32_t which = thread->n_chunks + 1; which-- > 0;) {
        open_records(order, &probe, which);
        const struct gs_record *low = probe.head, *high = probe.end;
        while (low < high) { /* records are written in order: the first unwritten one */
            const struct gs_record *middle = low + (high - low) / 2;
            if (middle->stamp_kind)
                low = middle + 1;
            else
                high = middle;
        }
        if (low > probe.head) {
            thread->last_ticks = low[-1].stamp_kind >> GS_KIND_BITS;
            return;
        }
    }
}

GS_EXPORT void gs_order_close(struct gs_order *order) {
    if (!order)
        return;
    for (uint64_t i = 0; order->gils && i < order->n_gils; i++)
        free(order->gils[i].heap);
    free(order->gils);
    free(order->chunks);
    free(order->threads);
    free(order->processes);
    free(order->queue);
    free(order);
}

/* Opens a mapped ring file; the mapping must outlive it. NULL only when out of memory: otherwise
 * ask gs_order_error whether it can be read. */
GS_EXPORT struct gs_order *gs_order_open(const void *map, uint64_t bytes) {
    struct gs_order *order = calloc(1, sizeof *order);
    if (!order)
        return NULL;
    order->map = map;
    order->bytes = bytes;
    order->header = map;
    if (bytes < GS_UNIT_BYTES || order->header->magic != GS_FILE_MAGIC) {
        fail(order, "not a ring file of gilscope");
    } else if (order->header->abi_version != GS_ABI_VERSION) {
        fail(order, "written by another version of gilscope (ring format %" PRIu32 ", not %d)",
             order->header->abi_version, GS_ABI_VERSION);
    } else if (order->header->n_clocks == 0) {
        fail(order, "no clock snapshot");
    } else if (index_file(order) == 0) {
        build_clock(order);
        for (uint64_t i = 0; i < order->n_threads; i++)
            find_last(order, &order->threads[i]);
        if (order->n_gils && !(order->gils = calloc(order->n_gils, sizeof *order->gils)))
            fail(order, "out of memory");
    }
    return order;
}

/* What went wrong, or "" */
GS_EXPORT const char *gs_order_error(const struct gs_order *order) {
    return order->error;
}

/* counts: processes, threads, GILs, clamped stamps, records missing in GILs' sequences. */
GS_EXPORT void gs_order_counts(const struct gs_order *order, uint64_t counts[5]) {
    counts[0] = order->n_processes;
    counts[1] = order->n_threads;
    counts[2] = order->n_gils;
    counts[3] = order->clamped;
    counts[4] = order->lost;
}

/* A process's page and its number of GILs; a thread's page, process and last record's time (0:
 * none). Indexes are ids. */
GS_EXPORT void gs_order_process(const struct gs_order *order, uint64_t id, uint64_t *page,
                                uint64_t *n_gils) {
    *page = (uint64_t)order->processes[id].unit * GS_UNIT_BYTES;
    *n_gils = order->processes[id].n_gils;
}

GS_EXPORT void gs_order_thread(struct gs_order *order, uint64_t id, uint64_t *page,
                               uint64_t *process, int64_t *last_ns) {
    *page = (uint64_t)order->threads[id].unit * GS_UNIT_BYTES;
    *process = order->threads[id].process;
    *last_ns = order->threads[id].last_ticks ? to_ns(order, order->threads[id].last_ticks) : 0;
}

GS_EXPORT int64_t gs_order_to_ns(struct gs_order *order, uint64_t ticks) {
    return to_ns(order, ticks);
}

/* ---- the merge --------------------------------------------------------------------------------
 */

static int push(struct gs_order *order, struct candidate item) {
    if (reserve((void **)&order->queue, order->n_queue, &order->queue_capacity,
                sizeof *order->queue))
        return fail(order, "out of memory");
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
    if (reserve((void **)&gil->heap, gil->n, &capacity, sizeof *gil->heap))
        return fail(order, "out of memory");
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

static bool is_gil_event(uint64_t kind) {
    return kind >= GS_GIL_WAIT && kind <= GS_GIL_REQUEST;
}

static int64_t head_time(struct gs_order *order, const struct thread *thread) {
    return to_ns(order, thread->head->stamp_kind >> GS_KIND_BITS);
}

/* Queues a GIL whose next event stands at the head of a thread. */
static int queue_gil(struct gs_order *order, uint32_t id) {
    struct gil *gil = &order->gils[id];
    if (gil->queued || gil->n == 0 || head_sequence(order, gil->heap[0]) > gil->expected)
        return 0;
    gil->queued = true;
    return push(order,
                (struct candidate){head_time(order, &order->threads[gil->heap[0]]), id, GIL});
}

/* Brings the thread's next record to its head and announces it; at its end tells the process. */
static int announce(struct gs_order *order, uint32_t id) {
    struct thread *thread = &order->threads[id];
    struct process *process = &order->processes[thread->process];
    while (thread->head == thread->end || thread->head->stamp_kind == 0) {
        if (thread->next_chunk > thread->n_chunks) {
            thread->head = thread->end = NULL;
            if (--process->open_threads > 0)
                return 0;
            return push(order, (struct candidate){process->end_ns, thread->process, PROCESS_END});
        }
        open_records(order, thread, thread->next_chunk++);
    }
    uint64_t kind = thread->head->stamp_kind & GS_KIND_MASK;
    if (kind == GS_THREAD_START || kind == GS_THREAD_END)
        return push(order, (struct candidate){head_time(order, thread), id, THREAD});
    if (!is_gil_event(kind))
        return fail(order, "offset 0x%" PRIx64 ": unknown kind %" PRIu64,
                    offset_of(order, thread->head), kind);
    uint64_t index = thread->head->payload >> GS_GIL_SHIFT & GS_GIL_MASK;
    if (index >= process->n_gils)
        return fail(order, "offset 0x%" PRIx64 ": GIL %" PRIu64 " of %" PRIu32,
                    offset_of(order, thread->head), index, process->n_gils);
    struct gil *gil = &order->gils[process->first_gil + index];
    if (head_sequence(order, id) < gil->expected)
        return fail(order, "offset 0x%" PRIx64 ": sequence number %" PRIu64 " comes twice",
                    offset_of(order, thread->head), head_sequence(order, id));
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
        process->start_ns = process->last_ns = to_ns(order, page->start.ticks);
        process->end_ns = end_ns[i];
        process->unclean = unclean[i];
        if (process->first_thread != UINT32_MAX &&
            push(order, (struct candidate){process->start_ns, (uint32_t)i, PROCESS_START}))
            return -1;
    }
    return 0;
}

/* A gap: nothing can go on, yet threads stand at events of this GIL. The one that is earliest in
 * time says where it goes on. */
static struct gil *find_gap(struct gs_order *order) {
    struct gil *earliest = NULL;
    int64_t time_ns = INT64_MAX;
    for (uint64_t i = 0; i < order->n_gils; i++) {
        struct gil *gil = &order->gils[i];
        if (gil->n == 0)
            continue;
        int64_t its = head_time(order, &order->threads[gil->heap[0]]);
        if (its < time_ns) {
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
static void give_back(const struct gs_order *order, const struct thread *thread) {
    if (thread->head + 1 == thread->end && thread->next_chunk > 1) {
        uintptr_t end = (uintptr_t)thread->end;
        madvise((void *)(end - (uint64_t)GS_CHUNK_UNITS * GS_UNIT_BYTES),
                (uint64_t)GS_CHUNK_UNITS * GS_UNIT_BYTES, MADV_DONTNEED);
    }
    (void)order;
}

/* Fills `out` with up to `capacity` events and, where `offsets` is given, with each one's place in
 * the file. Returns their number, 0 at the end, or -1 (gs_order_error says why). */
GS_EXPORT int64_t gs_order_next(struct gs_order *order, struct gs_event *out, int64_t capacity,
                                uint64_t *offsets) {
    int64_t n = 0;
    while (n < capacity) {
        if (order->n_queue == 0) {
            struct gil *gil = find_gap(order);
            if (!gil)
                break;
            uint32_t id = gil->heap[0];
            uint64_t missing = head_sequence(order, id) - gil->expected;
            struct thread *thread = &order->threads[id];
            out[n] = (struct gs_event){.time_ns = head_time(order, thread),
                                       .arg = missing,
                                       .thread = id,
                                       .gil = (uint16_t)(gil - order->gils),
                                       .kind = GS_GIL_LOST};
            if (out[n].time_ns < gil->last_ns)
                out[n].time_ns = gil->last_ns;
            if (out[n].time_ns < thread->last_ns)
                out[n].time_ns = thread->last_ns;
            gil->last_ns = out[n].time_ns;
            if (offsets)
                offsets[n] = offset_of(order, thread->head);
            n++;
            order->lost += missing;
            gil->expected += missing;
            if (queue_gil(order, (uint32_t)(gil - order->gils)))
                return -1;
            continue;
        }
        struct candidate item = pop(order);
        if (item.type == PROCESS_START || item.type == PROCESS_END) {
            process_event(order, item, &out[n]);
            if (offsets)
                offsets[n] = (uint64_t)order->processes[item.index].unit * GS_UNIT_BYTES;
            n++;
            /* A process's threads enter the merge when it has begun. */
            for (uint64_t i = 0; item.type == PROCESS_START && i < order->n_threads; i++)
                if (order->threads[i].process == item.index && announce(order, (uint32_t)i))
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
        }
        out[n] = (struct gs_event){
            .time_ns = advance(order, thread, gil),
            .arg = gil ? record->payload & GS_WAITERS_MAX : record->payload,
            .thread = id,
            .gil = gil ? (uint16_t)item.index : GS_NO_GIL,
            .kind = record->stamp_kind & GS_KIND_MASK,
            .flags = gil ? record->payload >> GS_FLAGS_SHIFT & GS_FLAGS_MASK : 0,
        };
        if (offsets)
            offsets[n] = offset_of(order, record);
        n++;
        give_back(order, thread);
        thread->head++;
        if (announce(order, id) || (gil && queue_gil(order, item.index)))
            return -1;
    }
    return n;
}

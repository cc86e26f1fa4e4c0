/* Opens a ring file: finds its processes, threads and chunks, and the way from ticks to
 * nanoseconds. One pass over the chunk headers; records are read by order.c. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "order.h"

int gs_order_fail(struct gs_order *order, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(order->error, sizeof order->error, format, arguments);
    va_end(arguments);
    return -1;
}

int gs_reserve(void **array, uint64_t n, uint64_t *capacity, size_t item) {
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

/* So that sums of times stay within their type. */
static bool sane_clocks(const struct gs_file_header *header) {
    for (uint32_t i = 0; i < header->n_clocks && i < GS_MAX_CLOCKS; i++)
        if (header->clocks[i].monotonic_ns < 0 || header->clocks[i].monotonic_ns > INT64_MAX / 4)
            return false;
    return true;
}

static const struct gs_process_page *process_page(const struct gs_order *order,
                                                  const struct process *process) {
    return (const void *)(order->map + (uint64_t)process->unit * GS_UNIT_BYTES);
}

/* Returns the later one of two snapshots; where that is `b`, it ends a segment. */
static const struct gs_clock_snapshot *add_segment(struct gs_order *order,
                                                   const struct gs_clock_snapshot *a,
                                                   const struct gs_clock_snapshot *b) {
    if (b->ticks <= a->ticks || b->monotonic_ns <= a->monotonic_ns)
        return a;
    double slope =
        ((double)b->monotonic_ns - (double)a->monotonic_ns) / (double)(b->ticks - a->ticks);
    order->segments[order->n_segments++] =
        (struct segment){ticks_since_start(order, a->ticks), a->monotonic_ns, slope};
    return b;
}

/* Each snapshot that is later than all before it ends a segment; one that is not was being moved
 * when its recorder died (gs_ring_clock). */
static void build_clock(struct gs_order *order) {
    const struct gs_file_header *header = order->header;
    uint32_t n = header->n_clocks < GS_MAX_CLOCKS ? header->n_clocks : GS_MAX_CLOCKS;
    const struct gs_clock_snapshot *a = &header->clocks[0];
    for (uint32_t i = 1; i < n; i++)
        a = add_segment(order, a, &header->clocks[i]);
    /* A recorder that was killed at once: each process took a snapshot when it began. */
    for (uint64_t i = order->n_processes; i-- > 0 && order->n_segments == 0;)
        add_segment(order, a, &process_page(order, &order->processes[i])->start);
    if (order->n_segments == 0)
        order->segments[order->n_segments++] = (struct segment){0, a->monotonic_ns, 1.0};
}

GS_EXPORT int64_t gs_order_to_ns(struct gs_order *order, uint64_t ticks) {
    int64_t t = ticks_since_start(order, ticks);
    uint32_t i = order->segment;
    while (i > 0 && t < order->segments[i].base_ticks)
        i--;
    while (i + 1 < order->n_segments && t >= order->segments[i + 1].base_ticks)
        i++;
    order->segment = i;
    const struct segment *s = &order->segments[i];
    double delta = (double)(t - s->base_ticks) * s->slope;
    if (delta > 0x1p61 || delta < -0x1p61) /* 73 years: a damaged file; stay within the type */
        delta = delta > 0 ? 0x1p61 : -0x1p61;
    return s->base_ns + (int64_t)delta;
}

/* ---- the index --------------------------------------------------------------------------------
 */

static int compare_chunks(const void *left, const void *right) {
    const struct chunk *a = left, *b = right;
    if (a->thread != b->thread)
        return a->thread < b->thread ? -1 : 1;
    return a->ordinal < b->ordinal ? -1 : a->ordinal > b->ordinal;
}

static int compare_pages(const void *left, const void *right) {
    const struct page_at *a = left, *b = right;
    return a->unit < b->unit ? -1 : a->unit > b->unit;
}

/* Id of the thread or process whose page is at this unit, or -1. */
static int64_t find_page(const struct page_at *pages, uint64_t n, uint32_t unit) {
    const struct page_at key = {unit, 0}, *found = NULL;
    if (n)
        found = bsearch(&key, pages, n, sizeof *pages, compare_pages);
    return found ? (int64_t)found->id : -1;
}

static int64_t find_thread(const struct gs_order *order, uint32_t unit) {
    return find_page(order->thread_pages, order->n_threads, unit);
}

static int64_t find_process(const struct gs_order *order, uint32_t unit) {
    return find_page(order->process_pages, order->n_processes, unit);
}

/* gil.wakeup names a thread by its number in its process. */
static int index_numbers(struct gs_order *order) {
    uint64_t n = 0;
    for (uint64_t i = 0; i < order->n_processes; i++) {
        order->processes[i].first_number = (uint32_t)n;
        n += order->processes[i].max_number;
    }
    if (n && !(order->numbers = calloc(n, sizeof *order->numbers)))
        return gs_order_fail(order, "out of memory");
    for (uint64_t i = 0; i < order->n_threads; i++) {
        const struct thread *thread = &order->threads[i];
        if (!thread->number)
            continue;
        uint32_t *its =
            &order->numbers[order->processes[thread->process].first_number + thread->number - 1];
        if (*its)
            return gs_order_fail(order, "offset 0x%" PRIx64 ": a thread's number comes twice",
                                 (uint64_t)thread->unit * GS_UNIT_BYTES);
        *its = (uint32_t)i + 1;
    }
    return 0;
}

/* A page or chunk that is published, at or behind `unit`; its unit, or `end`. 0: it is broken. */
static uint64_t next_room(struct gs_order *order, uint64_t unit, uint64_t end) {
    for (; unit < end; unit++) {
        const struct gs_chunk_header *header = (const void *)(order->map + unit * GS_UNIT_BYTES);
        if (header->magic == 0)
            continue;
        if (header->units == 0 || header->units > end - unit) {
            gs_order_fail(order, "offset 0x%" PRIx64 ": a chunk of %" PRIu32 " units",
                          unit * GS_UNIT_BYTES, header->units);
            return 0;
        }
        return unit;
    }
    return end;
}

/* Counts of what is in the file, and where. */
struct found {
    struct page_at *processes, *threads; /* unit; id: their place in the order of their begins */
    uint32_t *chunks;
    uint64_t n_processes, n_threads, n_chunks, process_capacity, thread_capacity, chunk_capacity;
};

static bool is_page(const struct gs_chunk_header *header) {
    return header->units == 1 || header->units == GS_CHUNK_UNITS;
}

static int find_rooms(struct gs_order *order, struct found *found) {
    uint64_t units = order->bytes / GS_UNIT_BYTES;
    if (units > order->header->end_unit)
        units = order->header->end_unit;
    for (uint64_t unit = GS_FIRST_UNIT; (unit = next_room(order, unit, units)) < units;) {
        if (unit == 0)
            return -1;
        const struct gs_chunk_header *header = (const void *)(order->map + unit * GS_UNIT_BYTES);
        const struct page_at page = {.unit = (uint32_t)unit};
        int failed = 0;
        if (header->magic == GS_PROCESS_PAGE && is_page(header)) {
            failed = gs_reserve((void **)&found->processes, found->n_processes,
                                &found->process_capacity, sizeof page);
            if (!failed)
                found->processes[found->n_processes++] = page;
        } else if (header->magic == GS_THREAD_PAGE && is_page(header)) {
            failed = gs_reserve((void **)&found->threads, found->n_threads, &found->thread_capacity,
                                sizeof page);
            if (!failed)
                found->threads[found->n_threads++] = page;
        } else if (header->magic == GS_EVENT_CHUNK && is_page(header)) {
            failed = gs_reserve((void **)&found->chunks, found->n_chunks, &found->chunk_capacity,
                                sizeof *found->chunks);
            if (!failed)
                found->chunks[found->n_chunks++] = (uint32_t)unit;
        } else if (header->magic == GS_STACK_PAGE && header->units == 1) {
            failed = gs_reserve((void **)&order->stack_pages, order->n_stack_pages,
                                &order->stack_page_capacity, sizeof *order->stack_pages);
            if (!failed)
                order->stack_pages[order->n_stack_pages++] =
                    (struct stack_page){.ordinal = header->ordinal, .unit = (uint32_t)unit};
        } else if (header->magic != GS_STACK_TABLE && header->magic != GS_GIVEN_BACK) {
            return gs_order_fail(order,
                                 "offset 0x%" PRIx64 ": not a page or chunk (magic 0x%" PRIx32 ")",
                                 unit * GS_UNIT_BYTES, header->magic);
        }
        if (failed)
            return gs_order_fail(order, "out of memory");
        unit += header->units;
    }
    return 0;
}

/* In the order of their begins; by their unit where that is the same. */
struct begin {
    uint64_t begin;
    uint32_t unit;
};

static int compare_begins(const void *left, const void *right) {
    const struct begin *a = left, *b = right;
    if (a->begin != b->begin)
        return a->begin < b->begin ? -1 : 1;
    return a->unit < b->unit ? -1 : a->unit > b->unit;
}

static int64_t begin_of(const struct gs_order *order, uint32_t unit) {
    const struct gs_chunk_header *header =
        (const void *)(order->map + (uint64_t)unit * GS_UNIT_BYTES);
    if (header->magic == GS_PROCESS_PAGE)
        return header->ordinal;
    return ticks_since_start(order, ((const struct gs_thread_page *)header)->start_ticks);
}

/* Brings pages, which are in the order of their units, into that of their begins. NULL: no memory.
 */
static struct begin *sort_pages(const struct gs_order *order, const struct page_at *pages,
                                uint64_t n) {
    struct begin *begins = calloc(n + 1, sizeof *begins);
    for (uint64_t i = 0; begins && i < n; i++) /* negative ones first */
        begins[i] =
            (struct begin){(uint64_t)begin_of(order, pages[i].unit) ^ INT64_MIN, pages[i].unit};
    if (begins && n)
        qsort(begins, n, sizeof *begins, compare_begins);
    return begins;
}

/* Where each page is that has an id. NULL: no memory. */
static struct page_at *places(const struct begin *begins, uint64_t n) {
    struct page_at *pages = calloc(n + 1, sizeof *pages);
    for (uint64_t i = 0; pages && i < n; i++)
        pages[i] = (struct page_at){begins[i].unit, (uint32_t)i};
    if (pages && n)
        qsort(pages, n, sizeof *pages, compare_pages);
    return pages;
}

static int index_processes(struct gs_order *order, const struct found *found) {
    uint64_t n = found->n_processes;
    struct begin *begins = sort_pages(order, found->processes, n);
    order->processes = calloc(n + 1, sizeof *order->processes);
    order->process_pages = begins ? places(begins, n) : NULL;
    if (!order->processes || !order->process_pages) {
        free(begins);
        return gs_order_fail(order, "out of memory");
    }
    for (uint64_t i = 0; i < n; i++) {
        const struct gs_process_page *page =
            (const void *)(order->map + (uint64_t)begins[i].unit * GS_UNIT_BYTES);
        order->processes[i] =
            (struct process){.unit = begins[i].unit,
                             .first_thread = UINT32_MAX,
                             .before_cut = gs_before_cut(order, page->start.ticks)};
    }
    order->n_processes = n;
    free(begins);
    return 0;
}

/* Whether a thread was over before what is kept begins. */
static bool is_gone(const struct gs_order *order, const struct gs_thread_page *page) {
    return page->end_ticks && gs_before_cut(order, page->end_ticks);
}

static int index_threads(struct gs_order *order, const struct found *found) {
    struct begin *begins = sort_pages(order, found->threads, found->n_threads);
    order->threads = calloc(found->n_threads + 1, sizeof *order->threads);
    uint64_t n = 0;
    for (uint64_t i = 0; begins && order->threads && i < found->n_threads; i++) {
        uint64_t at = (uint64_t)begins[i].unit * GS_UNIT_BYTES;
        const struct gs_thread_page *page = (const void *)(order->map + at);
        if (is_gone(order, page))
            continue;
        int64_t process = find_process(order, page->header.owner);
        if (process < 0) {
            free(begins);
            return gs_order_fail(order, "offset 0x%" PRIx64 ": a thread of no process", at);
        }
        struct process *its = &order->processes[process];
        if (its->first_thread == UINT32_MAX || page->is_main)
            its->first_thread = (uint32_t)n;
        its->open_threads++;
        if (page->number > its->max_number)
            its->max_number = page->number;
        order->threads[n] = (struct thread){.unit = begins[i].unit,
                                            .process = (uint32_t)process,
                                            .number = page->number,
                                            .before_cut = gs_before_cut(order, page->start_ticks)};
        begins[n++].unit = begins[i].unit;
    }
    order->thread_pages = begins ? places(begins, n) : NULL;
    free(begins);
    if (!order->threads || !order->thread_pages)
        return gs_order_fail(order, "out of memory");
    order->n_threads = n;
    return 0;
}

/* GILs of processes that were over before what is kept begins are in no table. */
static void index_gils(struct gs_order *order) {
    for (uint64_t i = 0; i < order->n_processes; i++) {
        struct process *process = &order->processes[i];
        const struct gs_process_page *page = process_page(order, process);
        bool gone = process->first_thread == UINT32_MAX && page->end_ticks &&
                    gs_before_cut(order, page->end_ticks);
        uint32_t n_gils = page->n_gils < GS_GIL_MASK + 1 ? page->n_gils : GS_GIL_MASK + 1;
        process->first_gil = (uint32_t)order->n_gils;
        process->n_gils = gone ? 0 : n_gils;
        order->n_gils += process->n_gils;
    }
}

static int index_chunks(struct gs_order *order, const struct found *found) {
    order->chunks = calloc(found->n_chunks + 1, sizeof *order->chunks);
    if (!order->chunks)
        return gs_order_fail(order, "out of memory");
    for (uint64_t i = 0; i < found->n_chunks; i++) {
        uint64_t at = (uint64_t)found->chunks[i] * GS_UNIT_BYTES;
        const struct gs_chunk_header *header = (const void *)(order->map + at);
        int64_t thread = find_thread(order, header->owner);
        if (thread >= 0)
            order->chunks[order->n_chunks++] =
                (struct chunk){(uint32_t)thread, header->ordinal, found->chunks[i], header->units};
        else if (!order->cut) /* else of one that was over before */
            return gs_order_fail(order, "offset 0x%" PRIx64 ": a chunk of no thread", at);
    }
    if (order->n_chunks)
        qsort(order->chunks, order->n_chunks, sizeof *order->chunks, compare_chunks);
    for (uint64_t i = 0; i < order->n_chunks; i++) {
        struct thread *thread = &order->threads[order->chunks[i].thread];
        if (thread->n_chunks++ == 0)
            thread->first_chunk = (uint32_t)i;
    }
    return 0;
}

static int index_stack_pages(struct gs_order *order) {
    for (uint64_t i = 0; i < order->n_stack_pages; i++) {
        uint64_t at = (uint64_t)order->stack_pages[i].unit * GS_UNIT_BYTES;
        const struct gs_chunk_header *header = (const void *)(order->map + at);
        int64_t process = find_process(order, header->owner);
        if (process < 0)
            return gs_order_fail(order, "offset 0x%" PRIx64 ": stacks of no process", at);
        order->stack_pages[i].process = (uint32_t)process;
    }
    return gs_index_stacks(order);
}

static int index_file(struct gs_order *order) {
    struct found found = {0};
    int failed = find_rooms(order, &found) || index_processes(order, &found) ||
                 index_threads(order, &found) || index_chunks(order, &found) ||
                 index_stack_pages(order);
    free(found.processes);
    free(found.threads);
    free(found.chunks);
    if (failed)
        return -1;
    index_gils(order);
    if (order->n_gils >= GS_NO_GIL)
        return gs_order_fail(order, "more than %u GILs", (unsigned)GS_NO_GIL - 1);
    return index_numbers(order);
}

void gs_open_records(const struct gs_order *order, struct thread *thread, uint32_t which) {
    if (which == 0) {
        const struct gs_thread_page *page = gs_thread_page(order, thread);
        thread->head = page->records;
        thread->end = page->records + sizeof page->records / sizeof *page->records;
    } else {
        const struct chunk *its = &order->chunks[thread->first_chunk + which - 1];
        const struct gs_event_chunk *chunk =
            (const void *)(order->map + (uint64_t)its->unit * GS_UNIT_BYTES);
        thread->head = chunk->records;
        thread->end = chunk->records + gs_chunk_records(its->units);
    }
}

/* Whether a record was written, and before a copy's end. */
static bool is_there(const struct gs_order *order, const struct gs_record *record) {
    return record->stamp_kind &&
           (!order->until || record->stamp_kind >> GS_KIND_BITS < order->until);
}

/* The place and time of a thread's last record: in its last place that has any. A program that
 * still runs writes more meanwhile; what counts is what was there at this moment. */
static void find_last(const struct gs_order *order, struct thread *thread) {
    struct thread probe = *thread;
    for (uint32_t which = thread->n_chunks + 1; which-- > 0;) {
        gs_open_records(order, &probe, which);
        const struct gs_record *low = probe.head, *high = probe.end;
        while (low < high) { /* records are written in order: the first unwritten one */
            const struct gs_record *middle = low + (high - low) / 2;
            if (is_there(order, middle))
                low = middle + 1;
            else
                high = middle;
        }
        if (low > probe.head) {
            thread->last_ticks = low[-1].stamp_kind >> GS_KIND_BITS;
            thread->past = low;
            return;
        }
    }
}

void gs_free_gils(struct gs_order *order) {
    for (uint64_t i = 0; order->gils && i < order->n_gils; i++) {
        free(order->gils[i].heap);
        free(order->gils[i].holes);
    }
    free(order->gils);
}

GS_EXPORT void gs_order_close(struct gs_order *order) {
    if (!order)
        return;
    gs_free_gils(order);
    free(order->chunks);
    free(order->threads);
    free(order->processes);
    free(order->queue);
    free(order->numbers);
    free(order->thread_pages);
    free(order->process_pages);
    free(order->stack_pages);
    free(order->stacks);
    free(order->stack_ids);
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
    order->stop_ns = INT64_MAX;
    order->gap = GS_NO_GIL;
    if (bytes >= GS_UNIT_BYTES && order->header->kept_from)
        order->cut = (order->header->kept_from & UINT64_MAX >> GS_KIND_BITS) + GS_CUT_MARGIN;
    if (bytes >= GS_UNIT_BYTES)
        order->until = order->header->kept_until;
    if (bytes < GS_UNIT_BYTES || order->header->magic != GS_FILE_MAGIC) {
        gs_order_fail(order, "not a ring file of gilscope");
    } else if (order->header->abi_version != GS_ABI_VERSION) {
        gs_order_fail(order,
                      "written by another version of gilscope (ring format %" PRIu32 ", not %d)",
                      order->header->abi_version, GS_ABI_VERSION);
    } else if (order->header->n_clocks == 0) {
        gs_order_fail(order, "no clock snapshot");
    } else if (!sane_clocks(order->header)) {
        gs_order_fail(order, "a clock snapshot outside all time");
    } else if (index_file(order) == 0) {
        build_clock(order);
        for (uint64_t i = 0; i < order->n_threads; i++)
            find_last(order, &order->threads[i]);
        if (order->n_gils && !(order->gils = calloc(order->n_gils, sizeof *order->gils)))
            gs_order_fail(order, "out of memory");
    }
    return order;
}

/* Where what is kept begins, in ticks; 0: nothing was taken back. */
GS_EXPORT uint64_t gs_order_cut(const struct gs_order *order) {
    return order->cut;
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
    *last_ns =
        order->threads[id].last_ticks ? gs_order_to_ns(order, order->threads[id].last_ticks) : 0;
}

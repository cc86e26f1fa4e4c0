/* What the live reader finds in a ring file: the clock, pages, chunks, GILs, nodes of stacks.
 *
 * Rooms of the file may be taken back and used again meanwhile (event_abi.h). What stands at a unit
 * is told apart by what its header says; a recorder takes nothing back that the reader has not
 * forgotten, so only what was read to its end is ever replaced. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "follow.h"

int gs_follow_fail(struct gs_follow *follow, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(follow->error, sizeof follow->error, format, arguments);
    va_end(arguments);
    return -1;
}

int gs_follow_reserve(void **array, uint64_t n, uint64_t *capacity, size_t item) {
    if (n < *capacity)
        return 0;
    uint64_t wanted = *capacity ? *capacity * 2 : 16;
    void *grown = realloc(*array, wanted * item);
    if (!grown)
        return -1;
    *array = grown;
    *capacity = wanted;
    return 0;
}

static int no_memory(struct gs_follow *follow) {
    return gs_follow_fail(follow, "out of memory");
}

/* ---- the clock ---------------------------------------------------------------------------------
 */

/* Ticks since the file's first snapshot; the record keeps 58 bits, so the sign is bit 57. */
static int64_t since_start(const struct gs_follow *follow, uint64_t ticks) {
    uint64_t delta = (ticks - follow->header->clocks[0].ticks) << GS_KIND_BITS;
    return (int64_t)delta >> GS_KIND_BITS;
}

static int add_segment(struct gs_follow *follow, const struct gs_clock_snapshot *to) {
    const struct gs_clock_snapshot *from = &follow->newest;
    if (to->ticks <= from->ticks || to->monotonic_ns <= from->monotonic_ns ||
        to->monotonic_ns > INT64_MAX / 4)
        return 0;
    if (gs_follow_reserve((void **)&follow->segments, follow->n_segments, &follow->segment_capacity,
                          sizeof *follow->segments))
        return no_memory(follow);
    double slope =
        ((double)to->monotonic_ns - (double)from->monotonic_ns) / (double)(to->ticks - from->ticks);
    follow->segments[follow->n_segments++] =
        (struct follow_segment){since_start(follow, from->ticks), from->monotonic_ns, slope};
    follow->newest = *to;
    return 0;
}

int gs_follow_clock(struct gs_follow *follow) {
    const struct gs_file_header *header = follow->header;
    if (!follow->final && follow->n_segments) {
        follow->horizon_ns = follow->newest.monotonic_ns;
        follow->horizon_ticks = follow->newest.ticks;
    }
    struct gs_clock_snapshot snapshots[GS_MAX_CLOCKS];
    uint32_t n, again;
    do { /* the recorder moves them when there is no room (gs_ring_clock) */
        n = __atomic_load_n(&header->n_clocks, __ATOMIC_ACQUIRE);
        n = n < GS_MAX_CLOCKS ? n : GS_MAX_CLOCKS;
        memcpy(snapshots, header->clocks, n * sizeof *snapshots);
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        again = __atomic_load_n(&header->n_clocks, __ATOMIC_RELAXED);
    } while (again < n);
    /* Those that are being moved are older than the newest, which stands: only the first look
     * takes the others. */
    for (uint32_t i = follow->n_segments ? n - 1 : 1; n && i < n; i++)
        if (add_segment(follow, &snapshots[i]))
            return -1;
    return 0;
}

int64_t gs_follow_ns(struct gs_follow *follow, uint64_t ticks) {
    int64_t t = since_start(follow, ticks);
    if (follow->n_segments == 0)
        return follow->newest.monotonic_ns + t;
    uint64_t i = follow->segment;
    while (i > 0 && t < follow->segments[i].base_ticks)
        i--;
    while (i + 1 < follow->n_segments && t >= follow->segments[i + 1].base_ticks)
        i++;
    follow->segment = i;
    const struct follow_segment *s = &follow->segments[i];
    double delta = (double)(t - s->base_ticks) * s->slope;
    if (delta > 0x1p61 || delta < -0x1p61) /* 73 years: a damaged file; stay within the type */
        delta = delta > 0 ? 0x1p61 : -0x1p61;
    return s->base_ns + (int64_t)delta;
}

/* ---- a thread's records ------------------------------------------------------------------------
 */

static struct place place_of(const struct gs_follow *follow, const struct follow_chunk *chunk) {
    const struct gs_chunk_header *header = gs_follow_unit(follow, chunk->unit);
    const struct gs_record *records = (const void *)(header + 1);
    uint64_t n = (chunk->units * (uint64_t)GS_UNIT_BYTES - sizeof *header) / sizeof *records;
    return (struct place){records, records + n, header, chunk->ordinal};
}

bool gs_follow_turn(const struct gs_follow *follow, const struct follow_thread *thread,
                    struct place *place) {
    if (place->at != place->end)
        return false;
    for (uint64_t i = 0; i < thread->n_chunks; i++) {
        const struct follow_chunk *chunk = &thread->chunks[i];
        if (chunk->ordinal > place->ordinal) {
            if (chunk->ordinal != place->ordinal + 1 && !follow->final)
                return false; /* the one between is taken and not yet seen */
            *place = place_of(follow, chunk);
            return true;
        }
    }
    return false;
}

bool gs_follow_is_there(const struct gs_follow *follow, const struct follow_thread *thread) {
    const struct gs_thread_page *page = gs_follow_unit(follow, thread->unit);
    const struct gs_chunk_header *chunk = thread->past.chunk;
    return !thread->gone && page->header.magic == GS_THREAD_PAGE &&
           page->start_ticks == thread->start_ticks &&
           (!chunk || (chunk->magic == GS_EVENT_CHUNK && chunk->owner == thread->unit &&
                       chunk->ordinal == thread->past.ordinal));
}

void gs_follow_look(const struct gs_follow *follow, struct follow_thread *thread) {
    struct place place = thread->past;
    uint64_t last_ticks = thread->last_ticks;
    /* A thread that is dead may have lost all this to another, once all of it was read. */
    if (!gs_follow_is_there(follow, thread))
        return;
    do {
        if (place.at == place.end || !gs_stamp(place.at)) {
            if (place.at != place.end)
                break;
            continue;
        }
        const struct gs_record *low = place.at + 1, *high = place.end;
        while (low < high) { /* records are stored in order: the first that is not */
            const struct gs_record *middle = low + (high - low) / 2;
            if (gs_stamp(middle))
                low = middle + 1;
            else
                high = middle;
        }
        place.at = low;
        last_ticks = gs_stamp(low - 1) >> GS_KIND_BITS;
    } while (gs_follow_turn(follow, thread, &place));
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    if (!gs_follow_is_there(follow, thread))
        return;
    thread->past = place;
    thread->last_ticks = last_ticks;
}

/* What was at these units is there no more. */
static void retire(struct gs_follow *follow, uint64_t unit, uint64_t units) {
    for (uint64_t i = unit; i < unit + units && i < follow->n_rooms; i++) {
        struct follow_room *room = &follow->rooms[i];
        if (room->magic == GS_THREAD_PAGE)
            follow->threads[room->id].gone = true;
        else if (room->magic == GS_PROCESS_PAGE)
            follow->processes[room->id].gone = true;
        *room = (struct follow_room){0};
    }
}

/* What was published after its owner was looked for is found the next time. */
static int not_yet(struct gs_follow *follow, uint64_t unit, const char *what) {
    if (!follow->final)
        return 0;
    return gs_follow_fail(follow, "offset 0x%" PRIx64 ": %s", unit * GS_UNIT_BYTES, what);
}

/* ---- tables ------------------------------------------------------------------------------------
 */

static int add_process(struct gs_follow *follow, uint64_t unit) {
    const struct gs_process_page *page = gs_follow_unit(follow, unit);
    retire(follow, unit, 1);
    if (gs_follow_reserve((void **)&follow->processes, follow->n_processes,
                          &follow->process_capacity, sizeof *follow->processes))
        return no_memory(follow);
    follow->rooms[unit] = (struct follow_room){GS_PROCESS_PAGE, (uint32_t)follow->n_processes,
                                               page->header.ordinal, 0};
    follow->processes[follow->n_processes++] =
        (struct follow_process){.unit = (uint32_t)unit,
                                .serial = page->header.ordinal,
                                .parent = page->parent,
                                .first_thread = UINT32_MAX,
                                .threads = UINT32_MAX,
                                .start_ticks = page->start.ticks,
                                .start_ns = gs_follow_ns(follow, page->start.ticks)};
    return 0;
}

static int add_thread(struct gs_follow *follow, uint64_t unit) {
    const struct gs_thread_page *page = gs_follow_unit(follow, unit);
    uint32_t owner = page->header.owner;
    if (owner >= follow->n_rooms || follow->rooms[owner].magic != GS_PROCESS_PAGE)
        return not_yet(follow, unit, "a thread of no process");
    retire(follow, unit, 1);
    if (gs_follow_reserve((void **)&follow->threads, follow->n_threads, &follow->thread_capacity,
                          sizeof *follow->threads))
        return no_memory(follow);
    uint32_t id = (uint32_t)follow->n_threads++, process = follow->rooms[owner].id;
    struct follow_process *its = &follow->processes[process];
    const struct gs_record *records = page->records;
    const struct place place = {records, records + sizeof page->records / sizeof *records, NULL, 0};
    follow->threads[id] = (struct follow_thread){.unit = (uint32_t)unit,
                                                 .process = process,
                                                 .next_of_process = its->threads,
                                                 .head = place,
                                                 .past = place,
                                                 .start_ticks = page->start_ticks,
                                                 .number = page->number};
    follow->rooms[unit] = (struct follow_room){GS_THREAD_PAGE, id, process, 0};
    its->threads = id;
    its->open_threads++;
    if (its->first_thread == UINT32_MAX || (page->is_main && !its->begun))
        its->first_thread = id;
    if (!page->number)
        return 0;
    while (its->n_numbers < page->number) {
        if (gs_follow_reserve((void **)&its->numbers, its->n_numbers, &its->number_capacity,
                              sizeof *its->numbers))
            return no_memory(follow);
        its->numbers[its->n_numbers++] = 0;
    }
    if (its->numbers[page->number - 1])
        return gs_follow_fail(follow, "offset 0x%" PRIx64 ": a thread's number comes twice",
                              unit * GS_UNIT_BYTES);
    its->numbers[page->number - 1] = id + 1;
    return 0;
}

static int add_chunk(struct gs_follow *follow, uint64_t unit, uint32_t units, uint32_t ordinal,
                     uint32_t id) {
    struct follow_thread *thread = &follow->threads[id];
    retire(follow, unit, units);
    if (gs_follow_reserve((void **)&thread->chunks, thread->n_chunks, &thread->chunk_capacity,
                          sizeof *thread->chunks))
        return no_memory(follow);
    follow->rooms[unit] = (struct follow_room){GS_EVENT_CHUNK, id, ordinal, 0};
    uint64_t at = thread->n_chunks++;
    for (; at > 0 && thread->chunks[at - 1].ordinal > ordinal; at--)
        thread->chunks[at] = thread->chunks[at - 1];
    thread->chunks[at] = (struct follow_chunk){ordinal, (uint32_t)unit, units};
    if (thread->left_over && ordinal == thread->head.ordinal) {
        thread->head =
            gs_follow_with_left(place_of(follow, &thread->chunks[at]), thread->left_over);
        thread->past = thread->head;
        thread->left_over = 0;
    }
    return 0;
}

/* ---- stacks ------------------------------------------------------------------------------------
 */

static uint32_t *node_slot(const struct gs_follow *follow, uint32_t reference) {
    uint64_t i = reference * UINT64_C(0x9e3779b97f4a7c15) >> 32 & follow->node_mask;
    while (follow->node_slots[i] && follow->nodes[follow->node_slots[i] - 1].reference != reference)
        i = (i + 1) & follow->node_mask;
    return &follow->node_slots[i];
}

int64_t gs_follow_node(const struct gs_follow *follow, uint32_t reference) {
    return follow->node_slots ? (int64_t)*node_slot(follow, reference) - 1 : -1;
}

static int add_node(struct gs_follow *follow, const struct follow_node *node) {
    if (gs_follow_reserve((void **)&follow->nodes, follow->n_nodes, &follow->node_capacity,
                          sizeof *follow->nodes))
        return no_memory(follow);
    if (!follow->node_slots || 2 * (follow->n_nodes + 1) > follow->node_mask) {
        uint64_t n = follow->node_slots ? 2 * (follow->node_mask + 1) : 1024;
        uint32_t *slots = calloc(n, sizeof *slots);
        if (!slots)
            return no_memory(follow);
        free(follow->node_slots);
        follow->node_slots = slots;
        follow->node_mask = n - 1;
        for (uint64_t i = 0; i < follow->n_nodes; i++)
            *node_slot(follow, follow->nodes[i].reference) = (uint32_t)i + 1;
    }
    /* Of a page that is used again the newer node has the reference. */
    uint32_t *slot = node_slot(follow, node->reference);
    follow->nodes[follow->n_nodes++] = *node;
    *slot = (uint32_t)follow->n_nodes;
    return 0;
}

/* A text by its reference; false where there is none. */
static bool find_text(const struct gs_follow *follow, uint32_t reference, uint32_t process,
                      uint64_t *offset, uint32_t *bytes) {
    uint32_t at = (reference & ((1u << GS_STACK_OFFSET_BITS) - 1)) * 16;
    uint64_t unit = reference >> GS_STACK_OFFSET_BITS;
    if (unit >= follow->n_rooms || at < sizeof(struct gs_chunk_header))
        return false;
    const struct gs_chunk_header *page = gs_follow_unit(follow, unit);
    if (page->magic != GS_STACK_PAGE || page->owner != follow->processes[process].unit)
        return false;
    const struct gs_stack_text *text = (const void *)((const char *)page + at);
    uint32_t room = GS_UNIT_BYTES - at - (uint32_t)sizeof *text;
    if (text->entry.kind != GS_STACK_TEXT || text->bytes > room)
        return false;
    *offset = gs_follow_offset(follow, text->text);
    *bytes = text->bytes;
    return true;
}

static bool read_node(const struct gs_follow *follow, const struct gs_stack_node *node,
                      struct follow_node *row) {
    if (node->parent) {
        int64_t parent = gs_follow_node(follow, node->parent);
        if (parent < 0 || follow->nodes[parent].process != row->process)
            return false;
        row->parent = (uint32_t)parent + 1;
    }
    row->line = node->line;
    return node->line >= 0 &&
           (!node->file ||
            find_text(follow, node->file, row->process, &row->file, &row->file_bytes)) &&
           (!node->function ||
            find_text(follow, node->function, row->process, &row->function, &row->function_bytes));
}

/* Reads on in a page of stacks. A node whose parent is not known yet is read the next time. */
static int read_stacks(struct gs_follow *follow, uint64_t unit) {
    struct follow_room *room = &follow->rooms[unit];
    const char *page = gs_follow_unit(follow, unit);
    while (room->at < GS_UNIT_BYTES) {
        const struct gs_stack_entry *entry = (const void *)(page + room->at);
        uint16_t kind = __atomic_load_n(&entry->kind, __ATOMIC_ACQUIRE);
        uint32_t bytes = entry->sixteens * 16u;
        uint64_t offset = unit * GS_UNIT_BYTES + room->at;
        if (kind == 0)
            break;
        if (kind > GS_STACK_TEXT || bytes == 0 || bytes > GS_UNIT_BYTES - room->at)
            return gs_follow_fail(follow, "offset 0x%" PRIx64 ": not an entry of a page of stacks",
                                  offset);
        if (kind == GS_STACK_NODE) {
            struct follow_node row = {
                .process = room->id,
                .reference = (uint32_t)(unit << GS_STACK_OFFSET_BITS | room->at / 16),
            };
            if (bytes != sizeof(struct gs_stack_node) ||
                !read_node(follow, (const void *)entry, &row)) {
                if (!follow->final)
                    break;
                return gs_follow_fail(follow, "offset 0x%" PRIx64 ": a broken node of a stack",
                                      offset);
            }
            if (add_node(follow, &row))
                return -1;
        }
        room->at += bytes;
    }
    return 0;
}

/* ---- the scan ----------------------------------------------------------------------------------
 */

#define STACKS_FROM ((uint32_t)sizeof(struct gs_stack_page))

static uint64_t end_of_rooms(const struct gs_follow *follow) {
    uint64_t units = follow->bytes / GS_UNIT_BYTES;
    uint64_t end = __atomic_load_n(&follow->header->end_unit, __ATOMIC_ACQUIRE);
    return end < units ? end : units;
}

/* Pages are taken in in the order of their beginnings, wherever they stand. */
static int find(struct gs_follow *follow, uint64_t key, uint64_t unit) {
    if (gs_follow_reserve((void **)&follow->found, follow->n_found, &follow->found_capacity,
                          sizeof *follow->found))
        return no_memory(follow);
    follow->found[follow->n_found++] = (struct follow_found){key, (uint32_t)unit};
    return 0;
}

static int compare_found(const void *left, const void *right) {
    const struct follow_found *a = left, *b = right;
    if (a->key != b->key)
        return a->key < b->key ? -1 : 1;
    return a->unit < b->unit ? -1 : a->unit > b->unit;
}

static int take_found(struct gs_follow *follow, int (*add)(struct gs_follow *, uint64_t)) {
    uint64_t n = follow->n_found;
    follow->n_found = 0;
    if (n)
        qsort(follow->found, n, sizeof *follow->found, compare_found);
    for (uint64_t i = 0; i < n; i++)
        if (add(follow, follow->found[i].unit))
            return -1;
    return 0;
}

typedef int visit(struct gs_follow *follow, uint64_t unit, const struct gs_chunk_header *header,
                  uint32_t magic, uint32_t units);

static int visit_processes(struct gs_follow *follow, uint64_t unit,
                           const struct gs_chunk_header *header, uint32_t magic, uint32_t units) {
    (void)units;
    if (magic != GS_PROCESS_PAGE)
        return 0;
    const struct follow_room *room = &follow->rooms[unit];
    const struct gs_process_page *page = (const void *)header;
    if (room->magic == magic && follow->processes[room->id].start_ticks == page->start.ticks &&
        room->ordinal == header->ordinal)
        return 0;
    return find(follow, header->ordinal, unit);
}

static int visit_threads(struct gs_follow *follow, uint64_t unit,
                         const struct gs_chunk_header *header, uint32_t magic, uint32_t units) {
    (void)units;
    if (magic != GS_THREAD_PAGE)
        return 0;
    const struct follow_room *room = &follow->rooms[unit];
    const struct gs_thread_page *page = (const void *)header;
    if (room->magic == magic && follow->threads[room->id].start_ticks == page->start_ticks)
        return 0;
    return find(follow, page->start_ticks, unit);
}

static int visit_chunks(struct gs_follow *follow, uint64_t unit,
                        const struct gs_chunk_header *header, uint32_t magic, uint32_t units) {
    struct follow_room *room = &follow->rooms[unit];
    uint32_t owner = header->owner, ordinal = header->ordinal;
    bool stacks = magic == GS_STACK_PAGE;
    if (!stacks && magic != GS_EVENT_CHUNK)
        return 0;
    uint32_t of = stacks ? GS_PROCESS_PAGE : GS_THREAD_PAGE;
    if (owner >= follow->n_rooms || follow->rooms[owner].magic != of)
        return not_yet(follow, unit, stacks ? "stacks of no process" : "a chunk of no thread");
    uint32_t id = follow->rooms[owner].id;
    bool known = room->magic == magic && room->id == id && room->ordinal == ordinal;
    if (!known && !stacks)
        return add_chunk(follow, unit, units, ordinal, id);
    if (!known) {
        retire(follow, unit, 1);
        *room = (struct follow_room){magic, id, ordinal, STACKS_FROM};
    }
    return stacks ? read_stacks(follow, unit) : 0;
}

static int visit_all(struct gs_follow *follow, visit *one) {
    for (uint64_t unit = GS_FIRST_UNIT; unit < follow->n_rooms;) {
        const struct gs_chunk_header *header = gs_follow_unit(follow, unit);
        uint32_t magic = __atomic_load_n(&header->magic, __ATOMIC_ACQUIRE);
        /* 0 beside a magic word: it is being taken back. */
        uint32_t length = __atomic_load_n(&header->units, __ATOMIC_RELAXED);
        length = magic && length ? length : 1;
        bool room = length == 1 || (length == GS_CHUNK_UNITS && magic != GS_STACK_PAGE);
        if (!room || length > follow->n_rooms - unit)
            return gs_follow_fail(follow, "offset 0x%" PRIx64 ": a chunk of %" PRIu32 " units",
                                  unit * GS_UNIT_BYTES, length);
        if (magic && one(follow, unit, header, magic, length))
            return -1;
        unit += length;
    }
    return 0;
}

static int add_gils(struct gs_follow *follow, uint32_t id) {
    struct follow_process *process = &follow->processes[id];
    if (process->gone)
        return 0;
    const struct gs_process_page *page = gs_follow_unit(follow, process->unit);
    uint32_t n = __atomic_load_n(&page->n_gils, __ATOMIC_ACQUIRE);
    n = n < GS_GIL_MASK + 1 ? n : GS_GIL_MASK + 1;
    process->told_yields =
        (__atomic_load_n(&page->interpreter, __ATOMIC_RELAXED) & GS_YIELDS_TOLD) != 0;
    while (process->n_gils < n) {
        if (gs_follow_reserve((void **)&process->gils, process->n_gils, &process->gil_capacity,
                              sizeof *process->gils) ||
            gs_follow_reserve((void **)&follow->gils, follow->n_gils, &follow->gil_capacity,
                              sizeof *follow->gils))
            return no_memory(follow);
        if (follow->n_gils + 1 >= GS_NO_GIL)
            return gs_follow_fail(follow, "more than %u GILs", (unsigned)GS_NO_GIL - 1);
        process->gils[process->n_gils++] = (uint32_t)follow->n_gils;
        follow->gils[follow->n_gils++] = (struct follow_gil){.process = id};
    }
    return 0;
}

int gs_follow_scan(struct gs_follow *follow) {
    uint64_t n = end_of_rooms(follow);
    if (n > follow->n_rooms) {
        struct follow_room *rooms = realloc(follow->rooms, n * sizeof *rooms);
        if (!rooms)
            return no_memory(follow);
        memset(rooms + follow->n_rooms, 0, (n - follow->n_rooms) * sizeof *rooms);
        follow->rooms = rooms;
        follow->n_rooms = n;
    }
    /* Owners before what they own: an owner may stand behind it. */
    follow->n_found = 0;
    if (visit_all(follow, visit_processes) || take_found(follow, add_process) ||
        visit_all(follow, visit_threads) || take_found(follow, add_thread) ||
        visit_all(follow, visit_chunks))
        return -1;
    for (uint64_t i = 0; i < follow->n_processes; i++)
        if (add_gils(follow, (uint32_t)i))
            return -1;
    return 0;
}

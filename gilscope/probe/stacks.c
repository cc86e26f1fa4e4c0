#define _GNU_SOURCE
#include "stacks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "emit.h"

struct gs_stack_slot {
    uint64_t key; /* 0: free */
    uint32_t reference;
    uint32_t pad;
};

/* A page and up to LAST_CHUNKS chunks. Its slots are in the page itself while it has no chunk. */
#define LAST_CHUNKS 32u  /* 131,040 slots, 2 MiB */
#define TEXT_BYTES  1000 /* of a file's or a function's name, at most */

struct gs_stack_table {
    struct gs_chunk_header header;
    uint32_t chunks[LAST_CHUNKS]; /* units; 0: no more */
    struct gs_stack_slot slots[(GS_UNIT_BYTES - 16 - 4 * LAST_CHUNKS) / 16];
};
static_assert(sizeof(struct gs_stack_table) == GS_UNIT_BYTES, "one unit");

#define SLOTS_IN_PAGE  ((uint32_t)(sizeof((struct gs_stack_table *)0)->slots / 16))
#define SLOTS_IN_CHUNK ((uint32_t)(GS_CHUNK_UNITS * GS_UNIT_BYTES / 16 - 1))

uint64_t gs_stacks_threshold(const char *value, uint64_t clock_hz) {
    double us = GS_STACKS_US;
    if (value && *value) {
        char *end;
        us = strtod(value, &end);
        if (*end || !(us >= 0 && us < 1e12))
            return GS_STACKS_OFF;
    }
    return clock_hz ? (uint64_t)(us * ((double)clock_hz / 1e6)) : GS_STACKS_OFF;
}

/* ---- the table --------------------------------------------------------------------------------
 */

static void *at_unit(uint32_t unit) {
    return (char *)gs_process.ring.header + (uint64_t)unit * GS_UNIT_BYTES;
}

/* What is met in the file may have been written over. */
static bool is_in_file(uint32_t unit, uint32_t units) {
    return unit >= GS_FIRST_UNIT &&
           (uint64_t)unit + units <=
               __atomic_load_n(&gs_process.ring.mapped_units, __ATOMIC_RELAXED);
}

static struct gs_stack_slot *slot_at(const struct gs_stacks *its, uint32_t index) {
    static struct gs_stack_slot nowhere;
    if (its->capacity == SLOTS_IN_PAGE)
        return &its->table->slots[index];
    uint32_t unit = its->table->chunks[index / SLOTS_IN_CHUNK];
    if (!is_in_file(unit, GS_CHUNK_UNITS))
        return &nowhere;
    struct gs_stack_slot *chunk = at_unit(unit);
    return &chunk[1 + index % SLOTS_IN_CHUNK]; /* its header is as large as a slot */
}

/* A quarter is always free; where none is, somebody wrote over the file, and any slot will do. */
static struct gs_stack_slot *find(const struct gs_stacks *its, uint64_t key) {
    uint32_t i = (uint32_t)((key >> 32) * its->capacity >> 32);
    struct gs_stack_slot *slot = slot_at(its, i);
    for (uint32_t steps = its->capacity; steps && slot->key != key && slot->key != 0; steps--) {
        i = i + 1 < its->capacity ? i + 1 : 0;
        slot = slot_at(its, i);
    }
    return slot;
}

static void *take_room(uint32_t units, enum gs_chunk_type type) {
    uint64_t unit = gs_ring_take(&gs_process.ring, units);
    if (unit == 0)
        return NULL;
    struct gs_chunk_header *header = gs_ring_at(&gs_process.ring, unit, units);
    header->units = units;
    header->owner = gs_process.unit;
    if (type == GS_STACK_PAGE)
        header->ordinal = __atomic_add_fetch(&gs_process.n_stack_pages, 1, __ATOMIC_RELAXED);
    gs_ring_publish(header, type);
    return header;
}

static void give_back(struct gs_stack_table *table) {
    for (uint32_t i = 0; table && i < LAST_CHUNKS && table->chunks[i]; i++)
        if (is_in_file(table->chunks[i], GS_CHUNK_UNITS))
            gs_ring_give_back(at_unit(table->chunks[i]));
    if (table)
        gs_ring_give_back(&table->header);
}

/* An empty table with so many chunks; NULL where there is no room. */
static struct gs_stack_table *make_table(uint32_t chunks) {
    struct gs_stack_table *table = take_room(1, GS_STACK_TABLE);
    for (uint32_t i = 0; table && i < chunks; i++) {
        void *chunk = take_room(GS_CHUNK_UNITS, GS_STACK_TABLE);
        if (!chunk) {
            give_back(table);
            return NULL;
        }
        table->chunks[i] = gs_unit_of(&gs_process.ring, chunk);
    }
    return table;
}

/* Room for one more; at three quarters full the table moves to one that is about four times as
 * large. */
static bool reserve(struct gs_stacks *its) {
    if (its->used < its->capacity / 4 * 3)
        return true;
    uint32_t chunks = its->capacity / SLOTS_IN_CHUNK;
    uint32_t more = its->capacity == 0 ? 0 : chunks == 0 ? 1 : chunks == 16 ? 32 : chunks * 4;
    struct gs_stack_table *table = more > LAST_CHUNKS ? NULL : make_table(more);
    if (!table) {
        its->full = its->capacity > 0;
        return false;
    }
    struct gs_stacks old = *its;
    its->table = table;
    its->capacity = more ? more * SLOTS_IN_CHUNK : SLOTS_IN_PAGE;
    for (uint32_t i = 0; i < old.capacity; i++) {
        const struct gs_stack_slot *slot = slot_at(&old, i);
        if (slot->key)
            *find(its, slot->key) = *slot;
    }
    give_back(old.table);
    return true;
}

/* What is recorded from here on refers to a new tree. */
static void begin_anew(struct gs_stacks *its) {
    uint64_t now = gs_clock_now(gs_process.clock) & UINT64_MAX >> GS_KIND_BITS;
    uint32_t steps = gs_process.n_stack_pages;
    for (uint32_t unit = its->unit, before; is_in_file(unit, 1) && steps; unit = before, steps--) {
        struct gs_stack_page *page = at_unit(unit);
        before = page->previous;
        __atomic_store_n(&page->retired, now, __ATOMIC_RELEASE); /* not ours from here on */
    }
    give_back(its->table);
    *its = (struct gs_stacks){.seen = its->seen};
}

/* `bytes` of a page, a multiple of 16; NULL where there is no room left in the recording. */
static void *entry(struct gs_stacks *its, uint32_t bytes, uint32_t *reference) {
    if (its->unit == 0 || its->next + bytes > GS_UNIT_BYTES) {
        struct gs_stack_page *page = take_room(1, GS_STACK_PAGE);
        if (!page)
            return NULL;
        if (gs_unit_of(&gs_process.ring, page) > GS_STACK_UNIT_MAX) {
            gs_ring_give_back(&page->header);
            return NULL;
        }
        page->previous = its->unit;
        its->unit = gs_unit_of(&gs_process.ring, page);
        its->next = sizeof *page;
    }
    *reference = its->unit << GS_STACK_OFFSET_BITS | its->next / 16;
    void *at = (char *)at_unit(its->unit) + its->next;
    its->next += bytes;
    return at;
}

/* Release: what a reader sees a kind of is written whole. */
static void publish(struct gs_stack_entry *at, uint16_t kind, uint32_t bytes) {
    at->sixteens = (uint16_t)(bytes / 16);
    __atomic_store_n(&at->kind, kind, __ATOMIC_RELEASE);
}

static uint64_t hash_of(const char *text, size_t n) {
    uint64_t hash = UINT64_C(0xcbf29ce484222325) ^ n;
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ (uint8_t)text[i]) * UINT64_C(0x100000001b3);
    return hash ? hash : 1;
}

static uint32_t intern_text(struct gs_stacks *its, const char *text, size_t n) {
    if (n == 0 || !reserve(its))
        return 0;
    struct gs_stack_slot *slot = find(its, hash_of(text, n));
    if (slot->key)
        return slot->reference;
    uint32_t reference, bytes = (uint32_t)(sizeof(struct gs_stack_text) + n + 15) / 16 * 16;
    struct gs_stack_text *at = entry(its, bytes, &reference);
    if (!at)
        return 0;
    at->bytes = (uint32_t)n;
    memcpy(at->text, text, n);
    publish(&at->entry, GS_STACK_TEXT, bytes);
    *slot = (struct gs_stack_slot){hash_of(text, n), reference, 0};
    its->used++;
    return reference;
}

/* The node of this frame below its caller's; 0: there is no room for it. */
static uint32_t intern_frame(struct gs_stacks *its, const struct gs_frame *frame, uint32_t parent,
                             uint64_t place) {
    uint64_t key = (place ^ (uint64_t)parent << 32 ^ parent) * UINT64_C(0x9e3779b97f4a7c15);
    key = key ? key : 1;
    if (!reserve(its))
        return 0;
    struct gs_stack_slot *slot = find(its, key);
    if (slot->key)
        return slot->reference;
    char text[TEXT_BYTES];
    uint32_t file = intern_text(its, text, gs_frames_file(frame, text, sizeof text));
    uint32_t function = intern_text(its, text, gs_frames_function(frame, text, sizeof text));
    uint32_t reference, bytes = sizeof(struct gs_stack_node);
    struct gs_stack_node *at = reserve(its) ? entry(its, bytes, &reference) : NULL;
    if (!at)
        return 0;
    at->parent = parent;
    at->file = file;
    at->function = function;
    at->line = gs_frames_line(frame);
    publish(&at->entry, GS_STACK_NODE, bytes);
    *find(its, key) = (struct gs_stack_slot){key, reference, 0}; /* texts may have moved it */
    its->used++;
    return reference;
}

/* The node of frames[leaf], called from frames[n - 1] down; 0: there is no room, or no frame. */
static uint32_t intern(struct gs_stacks *its, const struct gs_frame *frames, unsigned n,
                       unsigned leaf) {
    uint32_t node = 0;
    for (unsigned i = n; i-- > leaf;) {
        node = intern_frame(its, &frames[i], node, gs_frames_place(&frames[i]));
        if (!node)
            return 0;
    }
    return node;
}

/* ---- taking -----------------------------------------------------------------------------------
 */

/* The frames from where the requester saw the thread, if that one is still alive; else all. */
static unsigned as_seen(const struct gs_gil *gil, struct gs_frame *frames, unsigned n, bool *seen) {
    const struct gs_frame *there = &gil->stacks.seen;
    for (unsigned i = 0; gil->looked && i < n; i++)
        if (frames[i].self == there->self && frames[i].code == there->code) {
            frames[i].at = there->at;
            *seen = true;
            return i;
        }
    return 0;
}

void gs_stacks_take(struct gs_gil *gil, uint64_t flags) {
    struct gs_stacks *its = &gil->stacks;
    struct gs_frame frames[GS_STACK_DEPTH];
    bool of_sync = flags & GS_STACK_OF_SYNC;
    if ((!of_sync && !gs_writer.held_since) || !gil->state || !*gil->state || !gs_process.page)
        return;
    int saved_errno = errno;
    bool seen = false;
    enum gs_frames_state state = gs_frames_check(*gil->state);
    if (state != GS_FRAMES_UNTRIED)
        gs_process.page->interpreter |=
            state == GS_FRAMES_GOOD ? GS_STACKS_TOLD : GS_STACKS_UNKNOWN;
    unsigned n = state == GS_FRAMES_GOOD ? gs_frames_walk(*gil->state, frames, GS_STACK_DEPTH) : 0;
    unsigned leaf = flags & GS_STACK_OF_WAIT || of_sync ? 0 : as_seen(gil, frames, n, &seen);
    uint32_t node = intern(its, frames, n, leaf);
    if (!node && its->full) {
        begin_anew(its);
        node = intern(its, frames, n, leaf);
    }
    if (node)
        gs_emit(GS_STACK, node | flags | (seen ? GS_STACK_SEEN : 0));
    else if (n)
        __atomic_fetch_add(&gs_process.page->lost_stacks, 1, __ATOMIC_RELAXED);
    errno = saved_errno;
}

void gs_stacks_look(struct gs_gil *gil) {
    if (gil->looked || !gil->state || !*gil->state || gs_frames_check(NULL) != GS_FRAMES_GOOD)
        return;
    int saved_errno = errno;
    gil->looked = true;
    if (!gs_frames_peek(*gil->state, &gil->stacks.seen))
        gil->stacks.seen.self = NULL;
    errno = saved_errno;
}

void gs_stacks_end(struct gs_gil *gil) {
    if (gs_recording() && gil->stacks.table)
        begin_anew(&gil->stacks);
}

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

#define FIRST_UNITS 2u   /* of the table: 512 slots */
#define LAST_UNITS  512u /* 131,072 slots, 2 MiB */
#define TEXT_BYTES  1000 /* of a file's or a function's name, at most */

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

/* A quarter is always free; where none is, somebody wrote over the file, and any slot will do. */
static struct gs_stack_slot *find(const struct gs_stacks *its, uint64_t key) {
    uint32_t mask = its->capacity - 1, i = (uint32_t)(key >> 20) & mask;
    for (uint32_t steps = 0; steps < mask; steps++, i = (i + 1) & mask)
        if (its->slots[i].key == key || its->slots[i].key == 0)
            break;
    return &its->slots[i];
}

/* Room for one more; at three quarters full the table moves to one of four times the size. */
static bool reserve(struct gs_stacks *its) {
    if (its->used < its->capacity / 4 * 3)
        return true;
    uint32_t units = its->capacity
                         ? its->capacity / (GS_UNIT_BYTES / sizeof(struct gs_stack_slot)) * 4
                         : FIRST_UNITS;
    uint64_t unit = its->full || units > LAST_UNITS ? 0 : gs_ring_take(&gs_process.ring, units + 1);
    if (unit == 0) {
        its->full = true;
        return false;
    }
    struct gs_chunk_header *header = gs_ring_at(&gs_process.ring, unit, units + 1);
    header->units = units + 1;
    header->owner = gs_process.unit;
    gs_ring_publish(header, GS_STACK_TABLE);
    struct gs_stacks old = *its;
    its->slots = (struct gs_stack_slot *)((char *)header + GS_UNIT_BYTES);
    its->capacity = units * (GS_UNIT_BYTES / sizeof(struct gs_stack_slot));
    for (uint32_t i = 0; i < old.capacity; i++)
        if (old.slots[i].key)
            *find(its, old.slots[i].key) = old.slots[i];
    return true;
}

/* `bytes` of a page, a multiple of 16; NULL where there is no room left in the recording. */
static void *entry(struct gs_stacks *its, uint32_t bytes, uint32_t *reference) {
    if (its->unit == 0 || its->next + bytes > GS_UNIT_BYTES) {
        uint64_t unit = gs_ring_take(&gs_process.ring, 1);
        if (unit == 0 || unit > GS_STACK_UNIT_MAX)
            return NULL;
        struct gs_chunk_header *header = gs_ring_at(&gs_process.ring, unit, 1);
        header->units = 1;
        header->owner = gs_process.unit;
        gs_ring_publish(header, GS_STACK_PAGE);
        its->unit = (uint32_t)unit;
        its->next = sizeof *header;
    }
    *reference = its->unit << GS_STACK_OFFSET_BITS | its->next / 16;
    void *at = (char *)gs_process.ring.header + (uint64_t)its->unit * GS_UNIT_BYTES + its->next;
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
    uint32_t node = 0;
    for (unsigned i = n; i-- > leaf;) {
        node = intern_frame(its, &frames[i], node, gs_frames_place(&frames[i]));
        if (!node)
            break;
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

/* The space of a ring file: blocks of sixteen units, each one chunk or sixteen pages. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "rooms.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

/* In steps: 64 MiB at once take 50 ms and more, in which a fast writer would lose events with most
 * of them ready and not offered. */
#define STEP_BLOCKS 32u
#define MOST_PAGES  1024u /* ahead of the writers; who finds none takes a chunk */

bool gs_units_add(struct gs_units *list, uint32_t unit) {
    if (list->n == list->capacity) {
        uint64_t wanted = list->capacity ? list->capacity * 2 : 64;
        uint32_t *grown = realloc(list->units, wanted * sizeof *grown);
        if (!grown)
            return false;
        list->units = grown;
        list->capacity = wanted;
    }
    list->units[list->n++] = unit;
    return true;
}

static int populate(char *start, uint64_t bytes) {
    if (madvise(start, bytes, MADV_POPULATE_WRITE) == 0)
        return 0;
    if (errno != EINVAL)
        return errno;
    for (uint64_t at = 0; at < bytes; at += GS_UNIT_BYTES)
        *(volatile char *)(start + at) = 0;
    return 0;
}

int gs_rooms_back(struct gs_rooms *rooms) {
    uint64_t from = rooms->end_unit, more = rooms->limit_units - from;
    more = more < STEP_BLOCKS * GS_CHUNK_UNITS ? more : STEP_BLOCKS * GS_CHUNK_UNITS;
    if (more < GS_CHUNK_UNITS)
        return 0;
    uint64_t blocks = more / GS_CHUNK_UNITS, bytes = blocks * GS_CHUNK_UNITS * GS_UNIT_BYTES;
    /* fallocate first: it says ENOSPC where a store would raise SIGBUS. */
    int error;
    do /* interrupted where the recorder was stopped and continued */
        error = posix_fallocate(rooms->fd, (off_t)(from * GS_UNIT_BYTES), (off_t)bytes);
    while (error == EINTR);
    if (error == 0)
        error = populate((char *)rooms->header + from * GS_UNIT_BYTES, bytes);
    if (error) {
        rooms->limit_units = from; /* there will be no more */
        return error;
    }
    /* The lowest comes first. */
    for (uint64_t block = from / GS_CHUNK_UNITS + blocks; blocks > 0; blocks--)
        if (!gs_units_add(&rooms->free_blocks, (uint32_t)--block * GS_CHUNK_UNITS))
            return ENOMEM;
    /* Release: a reader of what lies below finds it backed. */
    rooms->end_unit = from + bytes / GS_UNIT_BYTES;
    __atomic_store_n(&rooms->header->end_unit, rooms->end_unit, __ATOMIC_RELEASE);
    return 0;
}

static struct gs_block *block_of(const struct gs_rooms *rooms, uint32_t unit) {
    return &rooms->blocks[unit / GS_CHUNK_UNITS];
}

static bool list_cut(struct gs_rooms *rooms, uint32_t unit) {
    struct gs_block *block = block_of(rooms, unit);
    if (!block->listed)
        block->listed = gs_units_add(&rooms->cut_blocks, unit / GS_CHUNK_UNITS * GS_CHUNK_UNITS);
    return block->listed;
}

uint32_t gs_rooms_alloc(struct gs_rooms *rooms, uint32_t units) {
    struct gs_units *cut = &rooms->cut_blocks, *free = &rooms->free_blocks;
    if (units == 1) {
        while (cut->n) {
            uint32_t unit = cut->units[cut->n - 1];
            struct gs_block *block = block_of(rooms, unit);
            if (block->cut && block->free) {
                uint32_t page = (uint32_t)__builtin_ctz(block->free);
                block->free &= (uint16_t)(block->free - 1);
                rooms->n_free_pages--;
                return unit + page;
            }
            block->listed = false;
            cut->n--;
        }
    }
    if (free->n == 0)
        return 0;
    uint32_t unit = free->units[--free->n];
    if (units == 1) {
        struct gs_block *block = block_of(rooms, unit);
        block->cut = true;
        block->free = 0xfffe;
        rooms->n_free_pages += GS_CHUNK_UNITS - 1;
        list_cut(rooms, unit);
    }
    return unit;
}

/* The magic word before the rest of its unit, and that unit last: what is left at any instant is
 * the room's beginning under its header, or nothing that a reader looks at. */
static void zero(struct gs_rooms *rooms, uint32_t unit, uint32_t units) {
    struct gs_chunk_header *header = gs_room_at(rooms, unit);
    while (--units > 0) {
        memset(gs_room_at(rooms, unit + units), 0, GS_UNIT_BYTES);
        __asm__ volatile("" ::: "memory");
    }
    __atomic_store_n(&header->magic, 0, __ATOMIC_RELEASE);
    __asm__ volatile("" ::: "memory");
    memset((char *)header + sizeof header->magic, 0, GS_UNIT_BYTES - sizeof header->magic);
}

void gs_rooms_free(struct gs_rooms *rooms, uint32_t unit) {
    uint32_t units = rooms->rooms[unit].units, first = unit / GS_CHUNK_UNITS * GS_CHUNK_UNITS;
    zero(rooms, unit, units);
    rooms->rooms[unit] = (struct gs_room){0};
    struct gs_block *block = block_of(rooms, unit);
    if (units == 1) {
        block->free |= (uint16_t)(1u << (unit - first));
        rooms->n_free_pages++;
        if (block->free != UINT16_MAX) {
            list_cut(rooms, unit);
            return;
        }
        rooms->n_free_pages -= GS_CHUNK_UNITS;
        block->cut = false; /* the list drops it when it comes to it */
        block->free = 0;
    }
    gs_units_add(&rooms->free_blocks, first);
}

static uint64_t between(uint64_t least, uint64_t n, uint64_t most) {
    return n < least ? least : n > most ? most : n;
}

static uint64_t waiting(const struct gs_rooms *rooms, uint32_t units) {
    uint64_t mask;
    const struct gs_offers *offers = gs_offers(rooms->header, units, &mask);
    return rooms->ready[units != 1] - __atomic_load_n(&offers->next, __ATOMIC_RELAXED);
}

static uint64_t limit_blocks(const struct gs_rooms *rooms) {
    return (rooms->limit_units - GS_FIRST_UNIT) / GS_CHUNK_UNITS;
}

uint64_t gs_rooms_reserve(const struct gs_rooms *rooms) {
    return between(2, limit_blocks(rooms) / 4, GS_CHUNK_OFFERS) * GS_CHUNK_UNITS;
}

uint64_t gs_rooms_spare(const struct gs_rooms *rooms) {
    uint64_t chunks = rooms->free_blocks.n + waiting(rooms, GS_CHUNK_UNITS);
    return rooms->limit_units - rooms->end_unit + chunks * GS_CHUNK_UNITS + rooms->n_free_pages;
}

/* Offers rooms until `wanted` of them wait. Returns 0 or an errno value. */
static int offer(struct gs_rooms *rooms, uint32_t units, uint64_t wanted) {
    uint64_t mask, *ready = &rooms->ready[units != 1];
    struct gs_offers *offers = gs_offers(rooms->header, units, &mask);
    while (waiting(rooms, units) < wanted) {
        uint64_t *slot = &offers->slots[*ready & mask];
        if (__atomic_load_n(slot, __ATOMIC_RELAXED))
            break; /* taken, and not collected yet */
        uint32_t unit = gs_rooms_alloc(rooms, units);
        if (!unit) {
            uint64_t end = rooms->end_unit;
            int error = gs_rooms_back(rooms);
            if (error || rooms->end_unit == end)
                return error;
            continue;
        }
        rooms->rooms[unit] = (struct gs_room){.state = GS_ROOM_OFFERED, .units = (uint8_t)units};
        /* Release: who takes it finds it zero; who finds it ready finds it in its slot. */
        __atomic_store_n(slot, unit, __ATOMIC_RELEASE);
        __atomic_store_n(&offers->ready, ++*ready, __ATOMIC_RELEASE);
    }
    return 0;
}

int gs_rooms_offer(struct gs_rooms *rooms, bool all) {
    bool again = rooms->reuse || rooms->streamed;
    uint64_t chunks = again ? gs_rooms_reserve(rooms) / GS_CHUNK_UNITS : GS_CHUNK_OFFERS;
    if (__atomic_load_n(&rooms->header->stop, __ATOMIC_RELAXED) == GS_COUNT_ALONE)
        chunks = between(0, chunks, STEP_BLOCKS); /* for threads that find no page */
    uint64_t pages = between(2 * GS_CHUNK_UNITS, limit_blocks(rooms) / 2, MOST_PAGES);
    int error = offer(rooms, 1, 2 * GS_CHUNK_UNITS);
    if (!error)
        error = offer(rooms, GS_CHUNK_UNITS, between(0, chunks, STEP_BLOCKS));
    if (!error && all)
        error = offer(rooms, 1, pages);
    if (!error && all)
        error = offer(rooms, GS_CHUNK_UNITS, chunks);
    bool last = rooms->free_blocks.n == 0 && rooms->limit_units - rooms->end_unit < GS_CHUNK_UNITS;
    if (last && !again)
        __atomic_store_n(&rooms->header->final, 1, __ATOMIC_RELAXED);
    return error;
}

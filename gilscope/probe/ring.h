/* The ring file as memory: how a writer comes to its rooms. The other side, which offers them and
 * takes them back, is gilscope/recorder/rooms.c.
 *
 * Actors: any number of writer threads in any number of processes; one recorder.
 * Invariants: a room has one taker (a compare-and-swap of the offer); a taker stores nowhere else.
 * The recorder keeps rooms offered ahead of the writers; a writer that overtakes it drops the event
 * and counts it: it never waits. */
#ifndef GILSCOPE_RING_H
#define GILSCOPE_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "event_abi.h"

struct gs_ring {
    struct gs_file_header *header; /* NULL: not mapped */
    uint64_t mapped_units;         /* atomic; less than the file's where address space is short */
    uint64_t top_unit; /* atomic: what this process has taken, or is about to take, lies below */
    uint32_t taker;    /* its name in offers */
};

/* Maps the ring file, if it is the user's own. No descriptor is kept. Returns 0 or an errno value.
 */
int gs_ring_map(struct gs_ring *ring, const char *path);

/* Finds the calling process's name in offers: at its start (parent 0), or in the child of a fork
 * from a process of this pid, which may not be allowed any system call but getpid. */
void gs_ring_name_taker(struct gs_ring *ring, uint32_t parent);

/* The part of an address space that is limited to `bytes` (RLIMIT_AS) that the mapping may have:
 * the space is the program's, and glibc fills it with arenas, used or not. Whole units, in bytes.
 */
static inline uint64_t gs_ring_share(uint64_t bytes) {
    return bytes / 32 / GS_UNIT_BYTES * GS_UNIT_BYTES;
}

/* Takes a room, of 1 unit or of GS_CHUNK_UNITS. Returns its first unit, 0 where none is offered
 * that lies in the mapping. Any thread; no lock, no system call. */
uint64_t gs_ring_take(struct gs_ring *ring, uint32_t units);

/* A record is lost for want of a room: where nothing is offered and nothing ever will be, recording
 * is over. */
void gs_ring_is_full(struct gs_ring *ring);

/* Gives back the address space past what this process has taken and `more` units, while writers may
 * be at work. Returns at which unit the mapping ends now. One caller at a time. */
uint64_t gs_ring_shorten(struct gs_ring *ring, uint64_t more);

/* Makes a mapping that ends at unit `end` as long as `units` again, if nobody else has the
 * addresses. Same caller. */
void gs_ring_lengthen(struct gs_ring *ring, uint64_t end, uint64_t units);

/* The page or chunk at `unit`; its header is filled in by the caller and published with
 * gs_ring_publish. Reading both ends first lets the kernel map the whole chunk in two faults. */
static inline void *gs_ring_at(struct gs_ring *ring, uint64_t unit, uint32_t units) {
    volatile char *start = (volatile char *)ring->header + unit * GS_UNIT_BYTES;
    (void)start[0];
    (void)start[(uint64_t)units * GS_UNIT_BYTES - 1];
    return (void *)start;
}

/* A room of `units` or, where there is none, of the other kind; its length is in its header. */
static inline void *gs_ring_take_any(struct gs_ring *ring, uint32_t units) {
    uint64_t unit = gs_ring_take(ring, units);
    if (unit == 0) {
        units = units == 1 ? GS_CHUNK_UNITS : 1;
        unit = gs_ring_take(ring, units);
    }
    if (unit == 0)
        return NULL;
    struct gs_chunk_header *header = gs_ring_at(ring, unit, units);
    header->units = units;
    return header;
}

static inline uint32_t gs_unit_of(const struct gs_ring *ring, const void *room) {
    return (uint32_t)(((const char *)room - (const char *)ring->header) / GS_UNIT_BYTES);
}

/* Pairs with the acquire load of whoever reads the file while it grows. */
static inline void gs_ring_publish(struct gs_chunk_header *chunk, enum gs_chunk_type type) {
    __atomic_store_n(&chunk->magic, (uint32_t)type, __ATOMIC_RELEASE);
}

/* A room goes from one thread to another by way of the recorder, which is another process: the
 * thread sanitizer cannot see that, so it is told. */
#if defined(__SANITIZE_THREAD__)
void __tsan_acquire(void *address);
void __tsan_release(void *address);
#define gs_room_was_taken(header) __tsan_acquire(header)
#define gs_rooms_are_left(header) __tsan_release(header)
#else
#define gs_room_was_taken(header) ((void)(header))
#define gs_rooms_are_left(header) ((void)(header))
#endif

/* Nothing before it comes after it, as others see it. The thread sanitizer knows no fences; nothing
 * that it looks at rests on one. */
static inline void gs_fence(void) {
#if !defined(__SANITIZE_THREAD__)
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

/* Gives a room that nothing refers to back before its owner is dead. */
static inline void gs_ring_give_back(struct gs_chunk_header *chunk) {
    gs_ring_publish(chunk, GS_GIVEN_BACK);
}

/* The queue of the rooms of so many units, and its length (a power of two) less one. */
static inline struct gs_offers *gs_offers(struct gs_file_header *header, uint32_t units,
                                          uint64_t *mask) {
    *mask = (units == 1 ? GS_PAGE_OFFERS : GS_CHUNK_OFFERS) - 1;
    return (void *)((char *)header + (units == 1 ? GS_PAGES_AT : GS_CHUNKS_AT));
}

static inline bool gs_is_offered(uint64_t slot) {
    return slot != 0 && slot >> GS_TAKER_SHIFT == 0;
}

#endif

/* The ring file as memory: taking units (writers) and making them ready (the recorder).
 *
 * Actors: any number of writer threads in any number of processes; one recorder.
 * Invariants: a unit has one taker (atomic add); a taker stores only below the ready_units that it
 * has read; ready_units and stop only grow.
 * The recorder keeps units ready ahead of the writers; a writer that overtakes it drops the event
 * and counts it: it never waits. */
#ifndef GILSCOPE_RING_H
#define GILSCOPE_RING_H

#include <stdbool.h>
#include <stdint.h>

#include "event_abi.h"

struct gs_ring {
    struct gs_file_header *header; /* NULL: not mapped */
    uint64_t mapped_units;         /* atomic; less than the file's where address space is short */
};

/* Maps the ring file, if it is the user's own. No descriptor is kept. Returns 0 or an errno value.
 */
int gs_ring_map(struct gs_ring *ring, const char *path);

/* The part of an address space that is limited to `bytes` (RLIMIT_AS) that the mapping may have:
 * the space is the program's, and glibc fills it with arenas, used or not. Whole units, in bytes.
 */
static inline uint64_t gs_ring_share(uint64_t bytes) {
    return bytes / 32 / GS_UNIT_BYTES * GS_UNIT_BYTES;
}

/* Takes `units` ready units, or returns 0 (unit 0 is the header). Any thread; no lock, no system
 * call. Sets the header's stop flag when the file's limit is what is in the way. */
uint64_t gs_ring_take(struct gs_ring *ring, uint32_t units);

/* Gives back the address space past what has been taken and `more` units, while writers may be at
 * work. Returns at which unit the mapping ends now. One caller at a time. */
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

/* Pairs with the acquire load of whoever reads the file while it grows. */
static inline void gs_ring_publish(struct gs_chunk_header *chunk, enum gs_chunk_type type) {
    __atomic_store_n(&chunk->magic, (uint32_t)type, __ATOMIC_RELEASE);
}

/* ---- the recorder's side --------------------------------------------------------------------- */

/* Writes a fresh header into the mapping of a zero-filled file of `limit_units`. */
void gs_ring_create(struct gs_file_header *header, uint64_t limit_units, uint32_t follow);

/* Backs the file with zeroed, mapped pages up to `ready_units` and publishes them. Returns 0 or an
 * errno value (ENOSPC: the file system is full; nothing was published). */
int gs_ring_extend(struct gs_file_header *header, int fd, uint64_t ready_units);

/* Appends a clock snapshot; when the table is full every second one goes, so that the rest still
 * spans the whole recording. */
void gs_ring_clock(struct gs_file_header *header);

#endif

/* A copy of a ring file whose writers go on. */
#include <string.h>

#include "../probe/ring.h"

#define EXPORT __attribute__((visibility("default")))

static const char *unit_at(const void *map, uint64_t unit) {
    return (const char *)map + unit * GS_UNIT_BYTES;
}

static const struct gs_chunk_header *header_at(const void *map, uint64_t unit) {
    return (const void *)unit_at(map, unit);
}

static uint32_t magic_at(const void *map, uint64_t unit) {
    return __atomic_load_n(&header_at(map, unit)->magic, __ATOMIC_ACQUIRE);
}

/* Word by word, first to last: acquire pairs with the writer's release, so a record whose stamp was
 * copied is whole, and so is an entry of a page of stacks whose kind was. */
static void copy_unit(const void *from, void *to, uint64_t unit) {
    const uint64_t *words = (const void *)unit_at(from, unit);
    uint64_t any = 0, copied[GS_UNIT_BYTES / sizeof *words];
    for (unsigned i = 0; i < GS_UNIT_BYTES / sizeof *words; i++)
        any |= copied[i] = __atomic_load_n(&words[i], __ATOMIC_ACQUIRE);
    if (any) /* else the copy, a sparse file, is spared the page */
        memcpy((char *)to + unit * GS_UNIT_BYTES, copied, sizeof copied);
}

static void copy_room(const void *from, void *to, uint64_t unit, uint32_t units) {
    for (uint32_t i = 0; i < units; i++)
        copy_unit(from, to, unit + i);
}

/* A block may be published as a chunk after it was seen to be none: then it is not in the copy. */
static void copy_block(const void *from, void *to, uint64_t unit) {
    const struct gs_chunk_header *header = header_at(from, unit);
    if (magic_at(from, unit) && header->units == GS_CHUNK_UNITS) {
        copy_room(from, to, unit, GS_CHUNK_UNITS);
        return;
    }
    for (uint32_t i = 0; i < GS_CHUNK_UNITS; i++)
        if (magic_at(from, unit + i))
            copy_unit(from, to, unit + i);
    if (magic_at(from, unit) && header->units == GS_CHUNK_UNITS)
        memset((char *)to + unit * GS_UNIT_BYTES, 0, GS_CHUNK_UNITS * GS_UNIT_BYTES);
}

/* Copies the file at `from` into zeroed memory of the same size. It must be held (gs_file_header),
 * and `until` (ticks, of before the copy began) is where the copy ends: its writers go on. */
EXPORT void gs_rooms_copy(const struct gs_file_header *from, void *to, uint64_t until) {
    uint64_t end = __atomic_load_n(&from->end_unit, __ATOMIC_ACQUIRE);
    copy_unit(from, to, 0);
    for (uint64_t unit = GS_FIRST_UNIT; unit + GS_CHUNK_UNITS <= end; unit += GS_CHUNK_UNITS)
        copy_block(from, to, unit);
    ((struct gs_file_header *)to)->kept_until = until & UINT64_MAX >> GS_KIND_BITS;
}

/* ---- holding: nothing is taken back while one process copies -----------------------------------
 */

/* Asks for it in the name of this pid. Returns 0, or the pid of who was first. */
EXPORT uint32_t gs_rooms_hold(struct gs_file_header *header, uint32_t pid) {
    uint32_t other = 0;
    return __atomic_compare_exchange_n(&header->hold, &other, pid, false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_ACQUIRE)
               ? 0
               : other;
}

/* Whether the recording is over, and its rooms are no more. */
EXPORT int gs_rooms_are_gone(const struct gs_file_header *header) {
    return __atomic_load_n(&header->moving, __ATOMIC_ACQUIRE) == GS_ROOMS_GONE;
}

/* Whether the recorder has seen it, and holds. */
EXPORT int gs_rooms_is_held(const struct gs_file_header *header, uint32_t pid) {
    return __atomic_load_n(&header->held, __ATOMIC_ACQUIRE) == pid &&
           __atomic_load_n(&header->hold, __ATOMIC_ACQUIRE) == pid;
}

EXPORT void gs_rooms_let_go(struct gs_file_header *header, uint32_t pid) {
    __atomic_compare_exchange_n(&header->hold, &pid, 0, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

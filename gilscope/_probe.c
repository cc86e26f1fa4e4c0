/* The face of the probe's library: what gilscope calls in it by ctypes. The same library is
 * preloaded into traced programs, where these calls are idle and probe/interpose.c is at work. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>

#include "probe/clock.h"
#include "probe/ring.h"

#define EXPORT __attribute__((visibility("default")))

EXPORT uint32_t gilscope_abi_version(void) {
    return GS_ABI_VERSION;
}

/* The recorder: begins a ring file in a mapping of it. */
EXPORT void gilscope_ring_create(struct gs_file_header *header, uint64_t limit_units,
                                 uint32_t follow) {
    gs_ring_create(header, limit_units, follow);
}

/* The recorder: keeps `ahead` units ready beyond what writers have taken. Returns 0 or an errno
 * value; ENOSPC means that the file system is full. In steps: 64 MiB at once take 50 ms and more,
 * in which a fast writer would lose events with most of them ready and not published. */
EXPORT int gilscope_ring_keep_ahead(struct gs_file_header *header, int fd, uint64_t ahead) {
    const uint64_t step = 512;
    uint64_t next = __atomic_load_n(&header->next_unit, __ATOMIC_RELAXED);
    if (next + ahead - ahead / 4 <= header->ready_units)
        return 0;
    int error = 0;
    while (!error && header->ready_units < next + ahead &&
           header->ready_units < header->limit_units)
        error = gs_ring_extend(header, fd, header->ready_units + step);
    return error;
}

EXPORT void gilscope_ring_stop(struct gs_file_header *header) {
    __atomic_store_n(&header->stop, 1, __ATOMIC_RELAXED);
}

EXPORT void gilscope_ring_clock(struct gs_file_header *header) {
    gs_ring_clock(header);
}

EXPORT void gilscope_clock_snapshot(uint32_t source, struct gs_clock_snapshot *out) {
    gs_clock_snapshot(source, out);
}

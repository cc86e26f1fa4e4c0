#define _GNU_SOURCE
#include "ring.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

static int check_header(const struct gs_file_header *header, uint64_t bytes) {
    if (header->magic != GS_FILE_MAGIC || header->abi_version != GS_ABI_VERSION ||
        header->limit_units > bytes / GS_UNIT_BYTES)
        return EINVAL;
    return 0;
}

/* The name outlives the recording in a daemon's environment, and anybody may make a file of it. */
static bool is_own(int fd) {
    struct stat file;
    return fstat(fd, &file) == 0 && S_ISREG(file.st_mode) && file.st_uid == geteuid();
}

int gs_ring_map(struct gs_ring *ring, const char *path) {
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno;
    if (!is_own(fd)) {
        close(fd);
        return EPERM;
    }
    int error = 0;
    off_t bytes = lseek(fd, 0, SEEK_END);
    void *map = MAP_FAILED;
    uint64_t length = bytes > 0 ? (uint64_t)bytes : 0;
    struct rlimit space;
    if (getrlimit(RLIMIT_AS, &space) == 0 && gs_ring_share(space.rlim_cur) < length)
        length = gs_ring_share(space.rlim_cur);
    while (length >= 64 * GS_UNIT_BYTES) {
        map = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
        if (map != MAP_FAILED)
            break;
        length = length / 2 / GS_UNIT_BYTES * GS_UNIT_BYTES;
    }
    if (map == MAP_FAILED) {
        error = errno ? errno : EINVAL;
    } else if ((error = check_header(map, (uint64_t)bytes)) != 0) {
        munmap(map, length);
    } else {
        ring->header = map;
        ring->mapped_units = length / GS_UNIT_BYTES;
    }
    close(fd);
    return error;
}

/* Whether `units` from `unit` on end at `end` or before. Nothing wraps, whatever is in the file. */
static bool fits(uint64_t unit, uint32_t units, uint64_t end) {
    return unit < end && units <= end - unit;
}

uint64_t gs_ring_take(struct gs_ring *ring, uint32_t units) {
    struct gs_file_header *header = ring->header;
    /* Pairs with the release store in gs_ring_extend: what is ready is backed and zero. */
    uint64_t ready = __atomic_load_n(&header->ready_units, __ATOMIC_ACQUIRE);
    uint64_t mapped = __atomic_load_n(&ring->mapped_units, __ATOMIC_RELAXED);
    uint64_t next = __atomic_load_n(&header->next_unit, __ATOMIC_RELAXED);
    if (!fits(next, units, ready) || !fits(next, units, mapped)) {
        if (!fits(next, units, __atomic_load_n(&header->limit_units, __ATOMIC_RELAXED)))
            __atomic_store_n(&header->stop, 1, __ATOMIC_RELAXED);
        return 0;
    }
    uint64_t unit = __atomic_fetch_add(&header->next_unit, units, __ATOMIC_SEQ_CST);
    /* Lost a race for the last ready units, or the mapping is shorter by now (gs_ring_shorten):
     * leave a hole, which readers skip. */
    mapped = __atomic_load_n(&ring->mapped_units, __ATOMIC_SEQ_CST);
    return fits(unit, units, ready) && fits(unit, units, mapped) ? unit : 0;
}

uint64_t gs_ring_shorten(struct gs_ring *ring, uint64_t more) {
    uint64_t *next = &ring->header->next_unit, before = ring->mapped_units;
    uint64_t taken = __atomic_load_n(next, __ATOMIC_RELAXED);
    if (taken >= before || more >= before - taken)
        return before;
    __atomic_store_n(&ring->mapped_units, taken + more, __ATOMIC_SEQ_CST);
    /* A writer takes a unit and then looks at mapped_units. One that did not see the store has
     * taken its unit by now, so it lies before `next`. */
    uint64_t end = __atomic_load_n(next, __ATOMIC_SEQ_CST);
    if (end < taken + more)
        end = taken + more;
    if (end < before)
        munmap((char *)ring->header + end * GS_UNIT_BYTES, (before - end) * GS_UNIT_BYTES);
    return end < before ? end : before;
}

void gs_ring_lengthen(struct gs_ring *ring, uint64_t end, uint64_t units) {
    /* Without MREMAP_MAYMOVE: writers have addresses in it. */
    if (end < units &&
        mremap(ring->header, end * GS_UNIT_BYTES, units * GS_UNIT_BYTES, 0) == MAP_FAILED)
        units = end;
    __atomic_store_n(&ring->mapped_units, units, __ATOMIC_SEQ_CST);
}

void gs_ring_create(struct gs_file_header *header, uint64_t limit_units, uint32_t follow) {
    struct gs_clock_snapshot now;
    enum gs_clock_source source = gs_clock_choose();
    header->clock_hz = gs_clock_rate(source);
    gs_clock_snapshot(source, &now);
    header->abi_version = GS_ABI_VERSION;
    header->clock_source = source;
    header->recorder_pid = (uint32_t)getpid();
    header->follow = follow;
    header->created_ns = (uint64_t)now.realtime_ns;
    header->limit_units = limit_units;
    header->next_unit = 1;
    header->clocks[0] = now;
    header->n_clocks = 1;
    __atomic_store_n(&header->magic, GS_FILE_MAGIC, __ATOMIC_RELEASE);
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

int gs_ring_extend(struct gs_file_header *header, int fd, uint64_t ready_units) {
    uint64_t from = header->ready_units;
    if (ready_units > header->limit_units)
        ready_units = header->limit_units;
    if (ready_units <= from)
        return 0;
    uint64_t bytes = (ready_units - from) * GS_UNIT_BYTES;
    /* fallocate first: it says ENOSPC where a store would raise SIGBUS. */
    int error;
    do /* interrupted where the recorder was stopped and continued */
        error = posix_fallocate(fd, (off_t)(from * GS_UNIT_BYTES), (off_t)bytes);
    while (error == EINTR);
    if (error == 0)
        error = populate((char *)header + from * GS_UNIT_BYTES, bytes);
    if (error) /* what is ready is all there will be: a writer that needs more stops the recording
                */
        __atomic_store_n(&header->limit_units, from, __ATOMIC_RELAXED);
    else
        __atomic_store_n(&header->ready_units, ready_units, __ATOMIC_RELEASE);
    return error;
}

void gs_ring_clock(struct gs_file_header *header) {
    uint32_t n = header->n_clocks;
    if (n >= GS_MAX_CLOCKS) { /* more: somebody wrote over it */
        for (n = 1; n < GS_MAX_CLOCKS / 2; n++)
            header->clocks[n] = header->clocks[2 * n];
        /* A reader of a file whose recorder died just here sees old ones behind new ones, and
         * leaves out each that is not later than all before it. */
        __atomic_store_n(&header->n_clocks, n, __ATOMIC_RELEASE);
    }
    gs_clock_snapshot(header->clock_source, &header->clocks[n]);
    __atomic_store_n(&header->n_clocks, n + 1, __ATOMIC_RELEASE);
}

#define _GNU_SOURCE
#include "ring.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

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
        ring->top_unit = GS_FIRST_UNIT;
    }
    close(fd);
    return error;
}

void gs_ring_name_taker(struct gs_ring *ring, uint32_t parent) {
    struct stat mine;
    uint32_t pid = (uint32_t)getpid();
    bool here;
    if (parent) /* numbers begin anew in a namespace of its own */
        here = ring->taker != GS_TAKER_ELSEWHERE && pid > parent;
    else
        here = stat("/proc/self/ns/pid", &mine) == 0 &&
               (uint64_t)mine.st_ino == ring->header->pid_namespace;
    ring->taker = here ? pid : GS_TAKER_ELSEWHERE;
}

/* Whether a room lies in the file, as far as it is mapped; if so, it stays mapped until the room
 * was taken and beyond. Others may have damaged the offers. */
static bool reserve(struct gs_ring *ring, uint64_t unit, uint32_t units) {
    uint64_t top = __atomic_load_n(&ring->top_unit, __ATOMIC_RELAXED), end = unit + units;
    if (unit < GS_FIRST_UNIT || end > __atomic_load_n(&ring->mapped_units, __ATOMIC_RELAXED))
        return false;
    while (top < end && !__atomic_compare_exchange_n(&ring->top_unit, &top, end, false,
                                                     __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
        ;
    /* Pairs with gs_ring_shorten: it sees the top, or its new end is seen here. */
    return end <= __atomic_load_n(&ring->mapped_units, __ATOMIC_SEQ_CST);
}

static bool take(struct gs_ring *ring, uint64_t *slot, uint64_t offer) {
    uint64_t taken = (uint64_t)ring->taker << GS_TAKER_SHIFT | offer;
    /* Acquire pairs with the release store of the recorder: what it offers is zero. */
    return __atomic_compare_exchange_n(slot, &offer, taken, false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_RELAXED);
}

/* The first offer is out of this process's reach, as later ones need not be. */
static uint64_t take_another(struct gs_ring *ring, struct gs_offers *offers, uint64_t mask,
                             uint32_t units) {
    uint64_t n = __atomic_load_n(&offers->next, __ATOMIC_RELAXED);
    for (uint64_t i = 0; i <= mask; i++) { /* what is past `ready` is empty */
        uint64_t *slot = &offers->slots[(n + i) & mask];
        uint64_t offer = __atomic_load_n(slot, __ATOMIC_RELAXED);
        if (gs_is_offered(offer) && reserve(ring, offer, units) && take(ring, slot, offer))
            return offer;
    }
    return 0;
}

uint64_t gs_ring_take(struct gs_ring *ring, uint32_t units) {
    uint64_t mask;
    struct gs_offers *offers = gs_offers(ring->header, units, &mask);
    gs_rooms_are_left(ring->header); /* what its thread had filled */
    for (uint64_t tries = 0; tries <= mask; tries++) {
        uint64_t n = __atomic_load_n(&offers->next, __ATOMIC_RELAXED);
        /* Pairs with the recorder's release store: what is ready stands in its slot. */
        if (n >= __atomic_load_n(&offers->ready, __ATOMIC_ACQUIRE))
            return 0;
        uint64_t *slot = &offers->slots[n & mask], offer = __atomic_load_n(slot, __ATOMIC_RELAXED);
        bool taken = false;
        if (gs_is_offered(offer)) {
            if (!reserve(ring, offer, units))
                return take_another(ring, offers, mask, units);
            taken = take(ring, slot, offer);
        }
        __atomic_compare_exchange_n(&offers->next, &n, n + 1, false, __ATOMIC_RELAXED,
                                    __ATOMIC_RELAXED);
        if (taken) {
            gs_room_was_taken(ring->header);
            return offer;
        }
    }
    return 0; /* others took all that there was, or the counters are damaged */
}

static bool is_empty(struct gs_ring *ring, uint32_t units) {
    uint64_t mask;
    struct gs_offers *offers = gs_offers(ring->header, units, &mask);
    uint64_t n = __atomic_load_n(&offers->next, __ATOMIC_RELAXED);
    return n >= __atomic_load_n(&offers->ready, __ATOMIC_RELAXED);
}

void gs_ring_is_full(struct gs_ring *ring) {
    if (__atomic_load_n(&ring->header->final, __ATOMIC_RELAXED) && is_empty(ring, 1) &&
        is_empty(ring, GS_CHUNK_UNITS)) {
        uint32_t going = GS_GO_ON;
        __atomic_compare_exchange_n(&ring->header->stop, &going, GS_COUNT_ALONE, false,
                                    __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    }
}

uint64_t gs_ring_shorten(struct gs_ring *ring, uint64_t more) {
    uint64_t before = ring->mapped_units;
    uint64_t taken = __atomic_load_n(&ring->top_unit, __ATOMIC_RELAXED);
    if (taken >= before || more >= before - taken)
        return before;
    __atomic_store_n(&ring->mapped_units, taken + more, __ATOMIC_SEQ_CST);
    /* A writer that did not see the store has raised the top by now. */
    uint64_t end = __atomic_load_n(&ring->top_unit, __ATOMIC_SEQ_CST);
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

/* What a program does to its own memory as a whole: the rings, a mapping that it did not make, must
 * not be what it then has no room for.
 *
 * RLIMIT_AS counts what is mapped, whether it is used or not, so the mapping is made shorter where
 * the program sets that limit. mlockall would fetch every page of the file, and fill the memory
 * that it lies in; so meanwhile there is only what has been written, and that is not locked.
 *
 * Actors: any thread of the host; the rings' writers go on. Like the calls that they wrap these may
 * be called in a signal handler, and do nothing in a vfork's child, which has its parent's memory.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "api.h"
#include "process.h"
#include "wrapped.h"

#define INTERPOSE __attribute__((visibility("default")))

/* Weak: another C library (musl) has no such function, and must still load this library. */
extern int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void),
                             void *object) __attribute__((weak));

static struct {
    int (*setrlimit)(__rlimit_resource_t, const struct rlimit *);
    int (*prlimit)(pid_t, __rlimit_resource_t, const struct rlimit *, struct rlimit *);
    int (*mlockall)(int);
} real;

static void resolve(void) {
    *(void **)&real.setrlimit = dlsym(RTLD_NEXT, "setrlimit");
    *(void **)&real.prlimit = dlsym(RTLD_NEXT, "prlimit");
    *(void **)&real.mlockall = dlsym(RTLD_NEXT, "mlockall");
}

static bool busy;

/* Whoever was busy in the parent is not here. */
static void after_fork_in_child(void) {
    __atomic_store_n(&busy, false, __ATOMIC_RELAXED);
}

__attribute__((constructor)) static void load(void) {
    resolve();
    if (__register_atfork)
        __register_atfork(NULL, NULL, after_fork_in_child, NULL);
}

static inline void ensure_resolved(void) {
    if (__builtin_expect(!real.mlockall, 0))
        resolve();
}

/* A fork's child that has no page yet has the mapping, and nobody writes there. */
static bool is_vfork_child(const struct gs_process *process) {
    return process->pid != (uint32_t)getpid() && *process->alive;
}

/* This process's mapping, for one caller at a time; NULL: none. */
static struct gs_ring *reserve(void) {
    struct gs_process *process = gs_process_here();
    if (!process->ring.header || is_vfork_child(process) ||
        __atomic_exchange_n(&busy, true, __ATOMIC_ACQUIRE))
        return NULL;
    return &process->ring;
}

static void free_again(void) {
    __atomic_store_n(&busy, false, __ATOMIC_RELEASE);
}

/* The same share as at the start. */
static void fit_into(rlim_t address_space) {
    int saved_errno = errno;
    struct gs_ring *ring = reserve();
    if (ring) {
        gs_ring_shorten(ring, gs_ring_share(address_space) / GS_UNIT_BYTES);
        free_again();
    }
    errno = saved_errno;
}

INTERPOSE int setrlimit(__rlimit_resource_t resource, const struct rlimit *limit) {
    ensure_resolved();
    int result = real.setrlimit(resource, limit);
    if (result == 0 && resource == RLIMIT_AS)
        fit_into(limit->rlim_cur);
    return result;
}

INTERPOSE int prlimit(pid_t pid, __rlimit_resource_t resource, const struct rlimit *limit,
                      struct rlimit *before) {
    ensure_resolved();
    int result = real.prlimit(pid, resource, limit, before);
    if (result == 0 && resource == RLIMIT_AS && limit && (pid == 0 || pid == getpid()))
        fit_into(limit->rlim_cur);
    return result;
}

GS_WRAPPER(setrlimit);
GS_WRAPPER(prlimit);

/* Where a long has 64 bits there is one structure under two names. */
INTERPOSE int setrlimit64(__rlimit_resource_t resource, const struct rlimit64 *limit) {
    return gs_wrapper_setrlimit(resource, (const struct rlimit *)limit);
}

INTERPOSE int prlimit64(pid_t pid, __rlimit_resource_t resource, const struct rlimit64 *limit,
                        struct rlimit64 *before) {
    return gs_wrapper_prlimit(pid, resource, (const struct rlimit *)limit, (struct rlimit *)before);
}

INTERPOSE int mlockall(int flags) {
    ensure_resolved();
    struct gs_ring *ring = reserve();
    if (!ring)
        return real.mlockall(flags);
    uint64_t units = ring->mapped_units, end = gs_ring_shorten(ring, 0);
    int result = real.mlockall(flags), saved_errno = errno;
    munlock(ring->header, end * GS_UNIT_BYTES);
    gs_ring_lengthen(ring, end, units);
    free_again();
    errno = saved_errno;
    return result;
}

GS_WRAPPER(setrlimit64);
GS_WRAPPER(prlimit64);
GS_WRAPPER(mlockall);

const struct gs_wrapped gs_wrapped_limits[] = {
    GS_WRAPPED(setrlimit, &real.setrlimit), GS_WRAPPED(setrlimit64, NULL),
    GS_WRAPPED(prlimit, &real.prlimit),     GS_WRAPPED(prlimit64, NULL),
    GS_WRAPPED(mlockall, &real.mlockall),   {NULL, NULL, NULL},
};

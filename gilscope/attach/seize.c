/* Lets a thread that computes and never lets the GIL go call the stub.
 *
 * Such a thread never comes to take_gil. It is stopped, this thread alone and for microseconds at a
 * time, until it stands in the evaluation loop itself, holds the GIL and none of its mutexes: there
 * it is not in the allocator, not in the loader and in no call of the program's. Then it is led to
 * gs_stub_direct, which saves all registers and goes on where the thread was, and let go.
 *
 * Actors: the attacher, in one thread. Killed at any moment it leaves the thread as it was, or on
 * its way through the stub: the kernel lets go of it, and nothing waits for the attacher. */
#define _GNU_SOURCE
#include "stub.h"

#include <errno.h>

#if defined(__x86_64__)

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>

#include "../probe/find_gil.h"

enum { NAP_NS = 300000 };

static bool copy(pid_t pid, uint64_t at, void *out, size_t size) {
    struct iovec mine = {out, size}, theirs = {(void *)at, size};
    return process_vm_readv(pid, &mine, 1, &theirs, 1, 0) == (ssize_t)size;
}

/* Whether the thread, which is stopped, has the GIL for certain and is not about to lose it. */
static bool has_gil(const struct gs_seize *its) {
    struct gs_gil_memory gil;
    return copy(its->pid, its->gil, &gil, sizeof gil) && gil.locked == 1 &&
           (uint64_t)gil.last_holder == its->holder && gil.mutex.__data.__owner != its->tid &&
           gil.switch_mutex.__data.__owner != its->tid;
}

static bool stands_in_loop(const struct user_regs_struct *registers, const struct gs_seize *its) {
    return registers->rip >= its->loop && registers->rip < its->loop_end &&
           (long)registers->orig_rax < 0;
}

/* Waits until the thread is stopped as it was asked to. Signals that came before go on their way.
 */
static int wait_for_stop(pid_t tid) {
    for (;;) {
        int status;
        if (waitpid(tid, &status, __WALL) != tid || !WIFSTOPPED(status))
            return ESRCH;
        if (status >> 16 == PTRACE_EVENT_STOP)
            return 0;
        if (ptrace(PTRACE_CONT, tid, 0, WSTOPSIG(status)) != 0)
            return ESRCH;
    }
}

/* The thread is stopped. Returns 0 when it is on its way to the stub, EAGAIN when it is not where
 * it can be led away from. */
static int lead(const struct gs_seize *its) {
    struct user_regs_struct registers;
    if (ptrace(PTRACE_GETREGS, its->tid, 0, &registers) != 0)
        return ESRCH;
    if (!stands_in_loop(&registers, its) || !has_gil(its))
        return EAGAIN;
    uint64_t resume = registers.rip;
    /* A page that the process cannot write to: only a tracer can. */
    if (ptrace(PTRACE_POKEDATA, its->tid, its->resume, resume) != 0)
        return errno;
    registers.rip = its->entry;
    return ptrace(PTRACE_SETREGS, its->tid, 0, &registers) == 0 ? 0 : errno;
}

EXPORT int gs_seize(const struct gs_seize *its, uint32_t tries) {
    const struct timespec nap = {.tv_nsec = NAP_NS};
    if (ptrace(PTRACE_SEIZE, its->tid, 0, 0) != 0)
        return errno;
    int error = EAGAIN;
    for (uint32_t i = 0; i < tries && error == EAGAIN; i++) {
        if (i) { /* an uneven time, so that it does not keep step with the program */
            if (ptrace(PTRACE_CONT, its->tid, 0, 0) != 0)
                return ESRCH;
            struct timespec uneven = nap;
            uneven.tv_nsec += (long)(i * 37 % 101) * 10000;
            nanosleep(&uneven, NULL);
        }
        if (ptrace(PTRACE_INTERRUPT, its->tid, 0, 0) != 0 || wait_for_stop(its->tid))
            return ESRCH;
        error = lead(its);
    }
    ptrace(PTRACE_DETACH, its->tid, 0, 0);
    return error;
}

#else

EXPORT int gs_seize(const struct gs_seize *its, uint32_t tries) {
    (void)its;
    (void)tries;
    return ENOSYS;
}

#endif

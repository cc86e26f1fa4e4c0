/* The GIL's condition variable, which knows its waiters: the policy io-priority.
 *
 * CPython's own is blind. A thread that comes back from a read waits a whole switch interval behind
 * a thread that computes; a release wakes whoever waited longest, though the releaser will be back
 * before that one is awake. This one keeps a queue of its own and knows two classes of thread:
 *
 *   io   it came back from a release of its own accord
 *   cpu  it was made to yield, and has held the GIL for GS_CPU_NS since it last let it go by itself
 *
 * The rules:
 *  1. io waiters are served before cpu waiters, each class in the order of arrival.
 *  2. An io waiter asks a *cpu* holder to yield after a grace, and never hurries an io holder. One
 *     that comes from a sleep shorter than GS_SHORT_SLEEP_NS polls, and nobody waits for it: it
 * asks when CPython would.
 *  3. But cpu threads are owed the time that io threads kept them from the GIL, and half as much
 *     again for the changes, divided by the number of io threads that wait: one that computes has
 *     as much as each of those. A cpu holder keeps the GIL until that is paid, but for 80 us for
 *     each io thread that waits at most; later holds pay the rest. So a single io thread that could
 *     saturate the GIL leaves half of the time to cpu threads, and six of them a fifth.
 *  4. cpu threads switch among themselves once a quantum. One that yields to an io thread keeps its
 *     place at the head of its queue until its quantum is used up.
 *  5. Hand-offs are lazy. A thread that will be back at once (a write to a socket) finds the GIL
 *     free: whether a release is a short one is predicted from the thread's last ones. Meanwhile
 *     the first in line is awake and spins, or wakes soon by itself.
 *  6. A thread that was made to yield sleeps once: until the GIL is to be its own again, not until
 *     another has taken it.
 *  7. Whoever comes takes a GIL that is free, so a waiter can be passed over. When that many others
 * (GS_CPU_TURNS, GS_IO_TURNS) have had the GIL since its class was last served, the next release is
 * for that waiter alone: the releaser stays until it has been taken.
 *  8. Where no thread was made to yield for long, GIL and waiters are left to CPython: all sleep on
 *     its own condition variable, and ask when it would. So threads that only do IO are served as
 *     they always were, the first cpu thread is found as late as CPython would ask it, the next at
 *     once.
 *  9. A cpu thread is kept from the GIL by io threads for GS_KEPT_NS, and GS_KEPT_MORE_NS for
 *     each of them that waits beside the first; then the next release is for it. Its slice of the
 *     processor is short: Linux would let it end a long one while an io thread, or the client that
 *     this one serves, waits for the same processor.
 *
 * The bound: a waiter that is the first of its class has the GIL after at most GS_…_TURNS + T
 * grants to others, T being the threads of the process (each can pass once more while the waiter
 * wakes up, and then stays). In a queue of its class that is so for each place ahead of it; a cpu
 * thread ahead has its place for a quantum or GS_RETURNS returns.
 *
 * Actors: every thread of the interpreter. All calls but gs_gil_thread_… are made with the
 * GIL's own mutex held, which guards everything here but what spinners read (marked atomic).
 * Nothing is allocated; a waiter's node lies on its stack and is linked only inside a call. A
 * thread cannot be cancelled in here (CPython would leave its mutex locked). errno is kept. */
#ifndef GILSCOPE_GIL_CONDVAR_H
#define GILSCOPE_GIL_CONDVAR_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "park.h"

#define GS_CPU_NS    2000000u /* held this long without a release of its own: a cpu thread */
#define GS_CPU_TURNS 64u
#define GS_IO_TURNS  256u
#define GS_RETURNS   256u

#define GS_KEPT_NS      30000u  /* a cpu thread, at a time … */
#define GS_KEPT_MORE_NS 150000u /* … and for each io thread that waits beside the first … */
#define GS_KEPT_THREADS 6u      /* … up to so many */

enum gs_class { GS_IO, GS_CPU, GS_CLASSES };

struct gs_gil;
struct gs_waiter;

/* Ready for use with its `gil` set and all else zero. */
struct gs_gil_condvar {
    struct gs_gil *gil; /* remembers whether its holder is asked to yield (request.h) */

    /* Atomic: spinners read them without the mutex. */
    uint32_t held;
    uint32_t io_waiting;
    int32_t processor;   /* where the holder took the GIL: who shares it must not spin */
    uint64_t lazy_until; /* ns; a free GIL is left alone until then */

    struct gs_waiter *first[GS_CLASSES], *last[GS_CLASSES];
    struct gs_waiter *stalled;   /* releasers that stay until the GIL is taken */
    uint32_t passed[GS_CLASSES]; /* grants to others while such a thread waits */
    uint32_t spinning;
    uint32_t io_asleep;
    uint64_t tickets; /* given to waiters, in order of arrival */
    uint64_t grants;

    pthread_cond_t *cond; /* CPython's own … */
    uint32_t on_cond;     /* … and how many sleep on it (rule 8) */

    uint32_t inside; /* calls that have let the mutex go, or may yet */
    uint32_t forks;  /* as gil_condvar.c counts them: what is above belongs to such a process */
    bool closing;

    /* Of the present hold. */
    uint64_t since; /* ns; 0: there are io threads only, and nobody has waited for its end yet */
    uint64_t burst; /* what its thread had held before, since it last let go by itself */
    uint64_t used;  /* of its quantum, before */
    uint64_t asks_again; /* ns; a request that had no answer is made again then */
    bool turn_ended;     /* its thread is asked because it is another cpu thread's turn */

    uint64_t owed;       /* ns that cpu threads are owed */
    uint64_t kept_since; /* since when a cpu thread is kept waiting by io threads; 0: none is */
    uint32_t lookout;    /* grants for which io waiters look out for a cpu thread: one was seen */
};

/* The parameters, the process's own; set before the first wait. */
struct gs_gil_parameters {
    uint64_t grace;   /* ns */
    uint64_t quantum; /* ns */
    uint64_t spin;    /* ns; 0 where there is one processor */
    uint64_t stay;    /* ns; a releaser that hands over stays for no longer */
    enum gs_backend backend;
    bool backend_chosen; /* by a switch: under classic CPython's own is used otherwise */
};
extern struct gs_gil_parameters gs_gil_parameters;

enum gs_release_kind { GS_VOLUNTARY, GS_FORCED };

/* The caller has the GIL now. */
void gs_gil_acquired(struct gs_gil_condvar *condvar);

/* The caller has just let it go. May let the mutex go and take it again. Returns whether all is
 * done; otherwise the caller signals CPython's own condition variable. One that gives the GIL away
 * because it was asked (gs_gil_thread_yields) counts as made to yield. */
bool gs_gil_released(struct gs_gil_condvar *condvar, pthread_mutex_t *mutex,
                     enum gs_release_kind kind);

/* How CPython itself would wait: until `until`, by this function. */
struct gs_own_wait {
    int (*timed_wait)(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until);
    pthread_cond_t *cond;
    const struct timespec *until;
};

/* Waits for a GIL that another thread holds. Returns 0 when the caller should look at it again, and
 * ETIMEDOUT when it should ask the holder to yield. To be called until the GIL is taken. */
int gs_gil_wait(struct gs_gil_condvar *condvar, pthread_mutex_t *mutex,
                const struct gs_own_wait *own);

/* What a thread that was made to yield does instead of waiting until another has the GIL: it waits
 * until its own turn, as gs_gil_wait but for at most a switch interval. */
void gs_gil_wait_after_yield(struct gs_gil_condvar *condvar, pthread_mutex_t *mutex);

/* The next release of the calling thread hands the GIL to a waiter at once. No mutex. */
void gs_gil_thread_yields(void);

/* The calling thread, which is without the GIL, asked to sleep for so long and did. No mutex. */
void gs_gil_thread_slept(uint64_t ns);

/* The calling thread is about to start a thread or a program, which would have its slice of the
 * processor for life: gives that back; its next wait makes it short again. No mutex. */
void gs_gil_thread_starts_another(void);

/* Once in a process, before the first wait: a fork's child is to know that its parent's threads do
 * not wait in it. */
void gs_gil_start(void);

/* Before the GIL is destroyed; without the mutex. When it returns no thread is in here. */
void gs_gil_close(struct gs_gil_condvar *condvar, pthread_mutex_t *mutex);

#endif

/* One thread sleeps on one word until another wakes it: the futex, with nothing around it. park.h
 * and sync/core.h rest on it.
 *
 * The word is 0 while its thread may sleep. Whoever sets it to 1 (under the lock that guards what
 * the thread waits for) issues the wake, then or later. By then the sleeper may have seen the word
 * and freed it, so a wake may hit memory that has another use; every user of futexes has to bear a
 * wake without cause.
 */
#ifndef GILSCOPE_WORD_H
#define GILSCOPE_WORD_H

#include <errno.h>
#include <linux/futex.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define GS_NANOSECONDS INT64_C(1000000000)

/* Sleeps until the word is set, `deadline` (CLOCK_MONOTONIC nanoseconds, negative: never) or a
 * signal. Returns 0, ETIMEDOUT or EINTR. */
static inline int gs_word_sleep(uint32_t *word, int64_t deadline) {
    struct timespec until = {.tv_sec = deadline / GS_NANOSECONDS,
                             .tv_nsec = deadline % GS_NANOSECONDS};
    /* Acquire: pairs with the release store in gs_word_set. */
    while (!__atomic_load_n(word, __ATOMIC_ACQUIRE)) {
        if (syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, 0, deadline < 0 ? NULL : &until,
                    NULL, FUTEX_BITSET_MATCH_ANY) == 0 ||
            errno == EAGAIN)
            continue;
        return errno == ETIMEDOUT ? ETIMEDOUT : EINTR;
    }
    return 0;
}

static inline void gs_word_set(uint32_t *word) {
    __atomic_store_n(word, 1, __ATOMIC_RELEASE);
}

/* The wake itself; the caller needs no lock. */
static inline void gs_word_wake(uint32_t *word) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static inline int64_t gs_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * GS_NANOSECONDS + now.tv_nsec;
}

#endif

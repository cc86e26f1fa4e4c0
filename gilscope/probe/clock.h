/* Time stamps and clock snapshots.
 *
 * Ticks come from the cheapest counter that all cores share: the invariant TSC on x86-64, the
 * architectural counter on aarch64, CLOCK_MONOTONIC where neither can be trusted. The recorder
 * decides once and writes it into the file header; every process follows. */
#ifndef GILSCOPE_CLOCK_H
#define GILSCOPE_CLOCK_H

#include <stdint.h>

#include "event_abi.h"

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

/* The best source that this machine has. May read /sys; not for the hot path. */
enum gs_clock_source gs_clock_choose(void);

/* One instant on all clocks, taken as narrowly as a few tries allow. */
void gs_clock_snapshot(enum gs_clock_source source, struct gs_clock_snapshot *out);

/* Its ticks a second; takes 2 ms, to be right by some millionths. */
uint64_t gs_clock_rate(enum gs_clock_source source);

static inline uint64_t gs_clock_counter(void) {
#if defined(__x86_64__)
    return __rdtsc();
#elif defined(__aarch64__)
    uint64_t ticks;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
    return ticks;
#else
    return 0;
#endif
}

/* CLOCK_MONOTONIC in ns. Out of line, so that an event's code stays short. */
uint64_t gs_clock_monotonic(void);

/* Any thread, any lock held; no system call (clock_gettime is the vDSO's). */
static inline uint64_t gs_clock_now(enum gs_clock_source source) {
    return __builtin_expect(source != GS_CLOCK_MONOTONIC, 1) ? gs_clock_counter()
                                                             : gs_clock_monotonic();
}

#endif

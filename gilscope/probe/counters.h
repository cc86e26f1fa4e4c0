/* The counters of the calling thread (struct gs_counters): where they are written.
 *
 * Who calls: emit.h, at the events of a GIL, with that GIL's mutex held. One writer each, plain
 * loads and stores that cannot tear: no lock, no atomic instruction, no system call. What was open
 * when counting began or a page was missing is not counted: an end without a begin is none. */
#ifndef GILSCOPE_COUNTERS_H
#define GILSCOPE_COUNTERS_H

#include <stdint.h>

#include "event_abi.h"

static inline uint64_t gs_counter(const uint64_t *counter) {
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

static inline void gs_count(uint64_t *counter, uint64_t more) {
    __atomic_store_n(counter, gs_counter(counter) + more, __ATOMIC_RELAXED);
}

/* Ticks here are all 64 bits of the clock. */
static inline void gs_stretch_begin(uint64_t *stretch, uint64_t now) {
    uint64_t word = gs_counter(stretch);
    if (!(word & 1))
        __atomic_store_n(stretch, word + 1 - (now << 1), __ATOMIC_RELAXED);
}

static inline void gs_stretch_end(uint64_t *stretch, uint64_t now) {
    uint64_t word = gs_counter(stretch);
    if (word & 1)
        __atomic_store_n(stretch, word - 1 + (now << 1), __ATOMIC_RELAXED);
}

/* Of a stretch, as its reader sees it: the ticks until `now`. */
static inline uint64_t gs_stretch_until(uint64_t word, uint64_t now) {
    int64_t twice = (int64_t)(word & 1 ? word - 1 + (now << 1) : word);
    return twice > 0 ? (uint64_t)twice >> 1 : 0;
}

/* Two readings are kept apart, so that who begins a new one can still read the one before. */
static inline void gs_count_wait(struct gs_counters *its, uint64_t ticks, uint32_t reading) {
    uint32_t before = __atomic_load_n(&its->reading, __ATOMIC_RELAXED);
    if (before != reading) {
        __atomic_store_n(&its->longest_before,
                         reading - before == 1 ? gs_counter(&its->longest) : 0, __ATOMIC_RELAXED);
        __atomic_store_n(&its->longest, ticks, __ATOMIC_RELAXED);
        __atomic_store_n(&its->reading, reading, __ATOMIC_RELAXED);
    } else if (gs_counter(&its->longest) < ticks) {
        __atomic_store_n(&its->longest, ticks, __ATOMIC_RELAXED);
    }
}

/* When what a process had open ended at the latest: `now` while it lives. */
static inline uint64_t gs_end_of_process(const struct gs_process_page *process, uint64_t now) {
    uint64_t end = __atomic_load_n(&process->end_ticks, __ATOMIC_RELAXED);
    uint64_t dead = __atomic_load_n(&process->gone.dead_ticks, __ATOMIC_RELAXED);
    return end ? end : dead ? dead : now;
}

/* When what a thread had open ended at the latest. */
static inline uint64_t gs_end_of_thread(const struct gs_process_page *process,
                                        const struct gs_thread_page *thread, uint64_t now) {
    uint64_t end = __atomic_load_n(&thread->end_ticks, __ATOMIC_RELAXED);
    return end ? end : gs_end_of_process(process, now);
}

#endif

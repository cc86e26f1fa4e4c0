/* What an event costs, for `gilscope bench probe`: the hot path itself, as the feeds run it, and
 * beside it the floor below which no probe of this kind can go. Idle in traced programs. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>

#include "emit.h"
#include "process.h"

#define EXPORT __attribute__((visibility("default")))

static struct gs_gil bench_gil;
static bool bench_begun;

/* Emits `pairs` pairs of acquire and release, refills included. Returns how long that took in ns;
 * 0 where this process is not being recorded. One thread. */
EXPORT uint64_t gilscope_bench_emit(uint64_t pairs) {
    if (!gs_recording())
        return 0;
    if (!bench_begun) {
        bench_gil.index = gs_next_gil_index(GS_NO_INDEX);
        bench_begun = true;
    }
    uint64_t begin = gs_clock_monotonic();
    for (uint64_t i = 0; i < pairs; i++) {
        gs_on_acquire(&bench_gil);
        /* A feed's two events are two calls: nothing may be carried in registers between them. */
        __asm__ volatile("" ::: "memory");
        gs_on_release(&bench_gil);
        __asm__ volatile("" ::: "memory");
    }
    return gs_clock_monotonic() - begin;
}

/* Takes the calling thread's stack `n` times; the caller is Python code that keeps the GIL (PyDLL).
 * Returns ns, 0 where nothing is recorded or its frames cannot be read. */
EXPORT uint64_t gilscope_bench_stack(uint64_t n) {
    void *(*this_state)(void) = NULL;
    *(void **)&this_state = dlsym(RTLD_DEFAULT, "PyGILState_GetThisThreadState");
    const char *state = this_state ? this_state() : NULL;
    if (!gs_recording() || gs_frames_check(state) != GS_FRAMES_GOOD)
        return 0;
    static struct gs_gil gil;
    gil.state = &state;
    uint64_t begin = gs_clock_monotonic();
    for (uint64_t i = 0; i < n; i++)
        gs_stacks_take(&gil, 0);
    uint64_t ns = gs_clock_monotonic() - begin;
    gil.state = NULL;
    return ns;
}

/* From the next event on the process takes stacks as it did, or none. */
EXPORT void gilscope_bench_stacks(bool wanted) {
    static uint64_t ticks;
    if (!ticks)
        ticks = gs_process.stack_ticks;
    gs_process.stack_ticks = wanted ? ticks : GS_STACKS_OFF;
}

/* The floor: `n` times a time stamp, of the clock that recordings here use, and a 16-byte store
 * into `records`, which the caller has mapped shared and touched, and which has room for `n`.
 * Returns ns. */
EXPORT uint64_t gilscope_bench_floor(struct gs_record *records, uint64_t n) {
    const enum gs_clock_source clock = gs_clock_choose();
    uint64_t begin = gs_clock_monotonic();
    for (uint64_t i = 0; i < n; i++) {
        records[i].payload = i;
        records[i].stamp_kind = gs_clock_now(clock);
        __asm__ volatile("" ::: "memory");
    }
    return gs_clock_monotonic() - begin;
}

/* enum gs_clock_source: what a recording on this machine stamps with. */
EXPORT uint32_t gilscope_bench_clock(void) {
    return gs_clock_choose();
}

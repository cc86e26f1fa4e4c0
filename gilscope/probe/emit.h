/* The only way into a ring. Both feeds call the gs_on_… functions below.
 *
 * Actors: every thread that touches a GIL. A thread writes through its own `gs_writer` (static
 * thread-local storage) into pages that it alone owns.
 * Invariants: gs_on_wait, _acquire, _release, _request and _wakeup run while the GIL's own mutex is
 * held by the calling thread, so gs_gil needs no lock of its own and its sequence numbers are in
 * the order in which things happened. gs_on_yield runs without it and touches only the thread's own
 * record. The hot path takes no lock, makes no system call and allocates nothing; it takes a page
 * fault when it enters a chunk (twice in 64 KiB). errno is kept. */
#ifndef GILSCOPE_EMIT_H
#define GILSCOPE_EMIT_H

#include <stdbool.h>
#include <stdint.h>

#include "clock.h"
#include "collections.h"
#include "counters.h"
#include "event_abi.h"
#include "processor.h"
#include "ring.h"
#include "stacks.h"

struct gs_writer;

/* One GIL as a feed sees it. */
struct gs_gil {
    uint64_t sequence; /* of the next event */
    uint64_t switches; /* acquisitions so far */
    uint32_t waiters;  /* atomic: a thread may leave from inside its wait without the mutex */
    uint16_t index;    /* in its process */
    bool looked;       /* who asked for it looked where its holder is (gs_stacks_look) */
    bool asked;        /* atomic: request.h, which alone touches it */
    const struct gs_writer *holder; /* NULL: free */
    const struct gs_writer *had_it; /* who had it last; perhaps the memory of a dead thread */
    uint64_t contended_since; /* ticks: since then somebody waits for the present hold's end; 0 */
    struct gs_processor processor; /* of the present hold, where somebody asked for the GIL */
    const char *const *state; /* where CPython has the PyThreadState of its holder; NULL: unknown */
    struct gs_collections collections;
    struct gs_stacks stacks;
};

/* A thread's way into its pages. Small: it lives in the static thread-local block. */
struct gs_writer {
    struct gs_record *cursor, *end; /* both NULL: not attached */
    struct gs_thread_page *page;
    struct gs_record *last_release; /* the record that gs_on_yield corrects */
    struct gs_gil *waiting;         /* the GIL that this thread waits for */
    uint64_t held_since;   /* ticks (their low 58 bits) of the acquire, or while it waits of the
                              wait's begin; 0: neither, or nothing is recorded or counted */
    uint32_t ordinal;      /* chunks taken */
    uint16_t atomic_depth; /* of the atomic section it is in; 0: in none */
    bool atomic_deferred;  /* Python Plus keeps a request for that section's end */
    bool last_forced;      /* its last release was a yield */
    bool lost;             /* records, since the last one that was written */
    bool yielding;         /* its next release is forced; the built-in feed knows before */
    bool slept_long;       /* its last wait for a lock or a condition is worth a stack */
    uint8_t sleeping;      /* waits for locks and conditions that it has told and is in */
    uint32_t epoch;        /* the process's, when the above began */
};
static_assert(sizeof(struct gs_writer) <= 64, "static thread-local space is scarce");

/* One a process. `alive` points into a page that a fork wipes, so a child that no fork handler
 * announced (a raw clone) cannot write into its parent's chunk. */
struct gs_process {
    uint32_t *alive;
    struct gs_ring ring;
    enum gs_clock_source clock;
    uint32_t
        epoch; /* atomic: how often a recording of this process began late, or ended (late.h) */
    struct gs_process_page *page;
    uint32_t unit;          /* of `page` */
    uint32_t serial;        /* of `page` */
    uint32_t n_threads;     /* that got a page */
    uint32_t n_stack_pages; /* that it took */
    uint32_t pid;
    uint64_t stack_ticks; /* holds and waits from this length on have their stack taken */
    uint64_t gc_ticks;    /* and holds from this one on are looked at for collections */
    uint64_t long_ticks;  /* the lesser of the two */
    const unsigned long *switch_interval_us; /* where CPython has it; NULL: not known */
};

extern __thread struct gs_writer gs_writer;
extern struct gs_process gs_process;

/* What the thread remembers is of a recording that is over: it begins anew. In threads.c. */
void gs_writer_begin_anew(void);

static inline void gs_writer_follow(void) {
    if (__builtin_expect(gs_writer.epoch != __atomic_load_n(&gs_process.epoch, __ATOMIC_RELAXED),
                         0))
        gs_writer_begin_anew();
}

/* Slow paths, in threads.c. gs_attach gives the calling thread a page; gs_refill its next chunk.
 * Both return whether there is room for a record, and count the loss where there is none. */
bool gs_attach(const char *name);
bool gs_refill(void);

/* gs_emit where the thread's chunk is full. Out of line, so that the hot path stays short. */
struct gs_record *gs_emit_refilled(enum gs_event_kind kind, uint64_t payload, uint64_t ticks);

/* enum gs_stop of the calling process. Hot paths ask before they store anything: a load that comes
 * right after a store to an address with the same low twelve bits waits for that store, and where a
 * GIL lies is the linker's doing. */
static inline uint32_t gs_stop(void) {
    gs_writer_follow();
    if (__builtin_expect(!gs_process.alive || !*gs_process.alive, 0))
        return GS_STOP_ALL;
    return __atomic_load_n(&gs_process.ring.header->stop, __ATOMIC_RELAXED);
}

/* Whether events are wanted at all. */
static inline bool gs_recording(void) {
    return __builtin_expect(gs_stop() == GS_GO_ON, 1);
}

/* Whether the process is watched, for events or for counters alone. */
static inline bool gs_counting(void) {
    return gs_stop() < GS_STOP_ALL;
}

/* The calling thread's counters; NULL: it has no page, and can get none. */
static inline struct gs_counters *gs_counters(void) {
    if (__builtin_expect(!gs_writer.page, 0) && !gs_attach(NULL))
        return NULL;
    return &gs_writer.page->counters;
}

/* The calling thread, which is without the GIL, slept for as long as it had asked for. In a signal
 * handler, too: a thread that has no page yet gets none. */
static inline void gs_on_slept(uint64_t ns) {
    if (ns < GS_SHORT_SLEEP_NS && gs_counting() && gs_writer.page)
        gs_count(&gs_writer.page->counters.short_sleeps, 1);
}

/* The GIL's mutex is unlocked soon after an event, and an atomic instruction waits for all stores
 * before it: for one into a line that the recorder's processor has zeroed, some 100 ns. So that
 * line is asked for two lines ahead. It may lie past the chunk and belong to another thread, or to
 * nobody: asking harms neither. */
enum { GS_RECORDS_AHEAD = 8 };

static inline void gs_fetch_for_writing(const struct gs_record *record) {
#if defined(__x86_64__)
    __asm__ volatile("prefetchw %0" : : "m"(*record)); /* gcc knows only -mprfchw */
#else
    __builtin_prefetch(record, 1);
#endif
}

/* Writes one record of that moment; returns it, or NULL where it was dropped (and counted). */
static inline struct gs_record *gs_emit_at(enum gs_event_kind kind, uint64_t payload,
                                           uint64_t ticks) {
    struct gs_writer *writer = &gs_writer;
    struct gs_record *record = writer->cursor;
    if (__builtin_expect(record == writer->end, 0))
        return gs_emit_refilled(kind, payload, ticks);
    writer->cursor = record + 1;
    gs_fetch_for_writing(record + GS_RECORDS_AHEAD);
    record->payload = payload;
    /* Release: a reader that sees the stamp sees the payload. */
    __atomic_store_n(&record->stamp_kind, ticks << GS_KIND_BITS | (uint64_t)kind, __ATOMIC_RELEASE);
    return record;
}

static inline struct gs_record *gs_emit(enum gs_event_kind kind, uint64_t payload) {
    return gs_emit_at(kind, payload, gs_clock_now(gs_process.clock));
}

/* `low` stands where most events have the number of waiters. */
static inline struct gs_record *gs_emit_gil_with(struct gs_gil *gil, enum gs_event_kind kind,
                                                 uint64_t flags, uint64_t low, uint64_t ticks) {
    return gs_emit_at(kind,
                      gil->sequence++ << GS_SEQUENCE_SHIFT | (uint64_t)gil->index << GS_GIL_SHIFT |
                          flags << GS_FLAGS_SHIFT | low,
                      ticks);
}

static inline struct gs_record *gs_emit_gil(struct gs_gil *gil, enum gs_event_kind kind,
                                            uint64_t flags, uint64_t ticks) {
    uint64_t waiters = __atomic_load_n(&gil->waiters, __ATOMIC_RELAXED);
    if (__builtin_expect(waiters > GS_WAITERS_MAX, 0))
        waiters = GS_WAITERS_MAX;
    return gs_emit_gil_with(gil, kind, flags, waiters, ticks);
}

/* The end of a hold or of a wait, of which gs_writer.held_since has the begin. Where it was long,
 * what is told of it goes before it: its stack, and of a hold its collections. Returns the moment
 * of the end. */
static inline uint64_t gs_end_now(struct gs_gil *gil, uint64_t stack_flags) {
    uint64_t now = gs_clock_now(gs_process.clock);
    uint64_t length = (now - gs_writer.held_since) & UINT64_MAX >> GS_KIND_BITS;
    if (__builtin_expect(length >= gs_process.long_ticks, 0)) {
        const bool of_hold = !(stack_flags & GS_STACK_OF_WAIT);
        if (of_hold && gil->collections.collector && length >= gs_process.gc_ticks)
            gs_collections_tell(gil, now);
        if (length >= gs_process.stack_ticks)
            gs_stacks_take(gil, stack_flags);
        now = gs_clock_now(gs_process.clock);
    }
    return now;
}

/* A thread is about to wait for the GIL. Called again every switch interval of the same wait. That
 * it waits is known whether or not it is recorded: who ends an atomic section asks. */
static inline void gs_on_wait(struct gs_gil *gil) {
    uint32_t stop = gs_stop(); /* first, see there */
    if (gs_writer.waiting)
        return;
    gs_writer.waiting = gil;
    __atomic_fetch_add(&gil->waiters, 1, __ATOMIC_RELAXED);
    if (stop >= GS_STOP_ALL)
        return;
    uint64_t now = gs_clock_now(gs_process.clock);
    gs_writer.held_since = now & UINT64_MAX >> GS_KIND_BITS;
    if (stop == GS_GO_ON && gil->collections.collector && gil->holder)
        gs_collections_look(&gil->collections, now);
    if (stop == GS_GO_ON)
        gs_emit_gil(gil, GS_GIL_WAIT, gs_writer.last_forced ? GS_FLAG_CPU : 0,
                    gs_writer.held_since);
    if (gil->holder && !gil->contended_since)
        gil->contended_since = now;
    struct gs_counters *counters = gs_counters();
    if (counters)
        gs_stretch_begin(&counters->waited[gs_writer.last_forced], now);
}

/* The calling thread's wait, which began at `since` (the low 58 bits), is over. */
static inline void gs_count_wait_over(struct gs_counters *counters, uint64_t since, uint64_t now) {
    uint64_t *waited = &counters->waited[gs_writer.last_forced];
    if (!(gs_counter(waited) & 1)) /* counting began meanwhile */
        return;
    gs_stretch_end(waited, now);
    gs_count_wait(counters, (now - since) & UINT64_MAX >> GS_KIND_BITS,
                  __atomic_load_n(&gs_process.ring.header->reading, __ATOMIC_RELAXED));
}

/* The calling thread has the GIL. */
static inline void gs_on_acquire(struct gs_gil *gil) {
    uint32_t stop = gs_stop(); /* first, see there */
    gil->holder = &gs_writer;
    gil->switches++;
    uint64_t waited = 0;
    if (__builtin_expect(gs_writer.waiting != NULL, 0)) {
        __atomic_fetch_sub(&gs_writer.waiting->waiters, 1, __ATOMIC_RELAXED);
        gs_writer.waiting = NULL;
        waited = GS_FLAG_WAITED;
    }
    gil->looked = false;
    gil->processor.asked_at = 0;
    gil->contended_since = 0;
    if (stop >= GS_STOP_ALL)
        return;
    uint64_t now, waited_since = gs_writer.held_since;
    if (__builtin_expect(stop == GS_GO_ON, 1)) {
        if (__builtin_expect(gs_writer.slept_long, 0)) {
            gs_writer.slept_long = false;
            gs_stacks_take(gil, GS_STACK_OF_WAIT | GS_STACK_OF_SYNC);
        }
        now = waited ? gs_end_now(gil, GS_STACK_OF_WAIT) : gs_clock_now(gs_process.clock);
        if (__builtin_expect(gil->switches >= gil->collections.try_at, 0))
            gs_collections_find(gil);
        if (gil->collections.collector)
            gs_collections_begin(&gil->collections, *gil->state, now);
        const struct gs_record *record = gs_emit_gil(gil, GS_GIL_ACQUIRE, waited, now);
        gs_writer.held_since = record ? record->stamp_kind >> GS_KIND_BITS : 0;
    } else {
        now = gs_clock_now(gs_process.clock);
        gs_writer.held_since = now & UINT64_MAX >> GS_KIND_BITS;
    }
    if (__atomic_load_n(&gil->waiters, __ATOMIC_RELAXED))
        gil->contended_since = now;
    struct gs_counters *counters = gs_counters();
    if (__builtin_expect(!counters, 0))
        return;
    if (waited) {
        gs_count_wait_over(counters, waited_since, now);
        gs_count(&counters->contended, 1);
    }
    gs_stretch_begin(&counters->held, now);
    gs_count(&counters->acquires, 1);
    if (gil->had_it != &gs_writer) {
        gil->had_it = &gs_writer;
        gs_count(&counters->hand_overs, 1);
        __atomic_store_n(&counters->gil, gil->index, __ATOMIC_RELAXED);
    }
}

/* The calling thread lets the GIL go, by GS_GIL_RELEASE or by GS_GIL_YIELD. */
static inline void gs_on_release_by(struct gs_gil *gil, enum gs_event_kind kind) {
    uint32_t stop = gs_stop(); /* first, see there */
    if (__builtin_expect(gil->processor.asked_at != 0, 0) && stop == GS_GO_ON)
        gs_processor_tell(gil);
    gil->holder = NULL;
    gs_writer.last_forced = kind == GS_GIL_YIELD;
    /* NULL where nothing is recorded: a yield must never correct an older record. */
    gs_writer.last_release = NULL;
    if (stop < GS_STOP_ALL) {
        uint64_t now;
        if (__builtin_expect(stop == GS_GO_ON, 1)) {
            now = gs_end_now(gil, 0);
            gs_writer.last_release = gs_emit_gil(gil, kind, 0, now);
        } else {
            now = gs_clock_now(gs_process.clock);
        }
        if (__builtin_expect(gs_writer.page != NULL, 1)) {
            gs_stretch_end(&gs_writer.page->counters.held, now);
            if (gil->contended_since)
                gs_count(&gs_writer.page->counters.made_wait, now - gil->contended_since);
        }
    }
    gil->contended_since = 0;
    gs_writer.held_since = 0;
}

/* The calling thread lets the GIL go; whether by itself gs_on_yield will tell. */
static inline void gs_on_release(struct gs_gil *gil) {
    gs_on_release_by(gil, GS_GIL_RELEASE);
}

/* The calling thread stops waiting without the GIL, to end. */
static inline void gs_on_leave(struct gs_gil *gil) {
    if (gs_writer.waiting != gil)
        return;
    __atomic_fetch_sub(&gil->waiters, 1, __ATOMIC_RELAXED);
    gs_writer.waiting = NULL;
    if (gs_counting() && gs_writer.page)
        gs_count_wait_over(&gs_writer.page->counters, gs_writer.held_since,
                           gs_clock_now(gs_process.clock));
    gs_writer.held_since = 0;
}

/* The release just made was forced: corrects the kind of its record in place. */
static inline void gs_on_yield(void) {
    struct gs_record *record = gs_writer.last_release;
    gs_writer.last_forced = true;
    gs_writer.last_release = NULL;
    if (!record)
        return;
    uint64_t stamp = record->stamp_kind & ~GS_KIND_MASK;
    __atomic_store_n(&record->stamp_kind, stamp | GS_GIL_YIELD, __ATOMIC_RELAXED);
}

/* A program may set its switch interval at any time; who is recorded has a page. */
static inline void gs_note_switch_interval(void) {
    if (gs_process.switch_interval_us)
        __atomic_store_n(&gs_process.page->switch_interval_us,
                         __atomic_load_n(gs_process.switch_interval_us, __ATOMIC_RELAXED),
                         __ATOMIC_RELAXED);
}

/* The calling thread, which waits, has asked the holder to yield. */
static inline void gs_on_request(struct gs_gil *gil) {
    if (!gs_recording())
        return;
    if (gs_process.stack_ticks != GS_STACKS_OFF)
        gs_stacks_look(gil);
    gs_processor_look(gil);
    gs_note_switch_interval(); /* a killed program tells it at no other time */
    const uint64_t now = gs_clock_now(gs_process.clock);
    if (gil->collections.collector && gil->holder)
        gs_collections_look(&gil->collections, now);
    gs_emit_gil(gil, GS_GIL_REQUEST, 0, now);
}

/* What gil.wakeup calls the calling thread; 0 where it has no page, or is past those with numbers.
 */
static inline uint16_t gs_thread_number(void) {
    return gs_writer.page ? gs_writer.page->number : 0;
}

/* The calling thread has signalled a thread that waits for the GIL: `number` is that one's, 0 where
 * it is not known who will wake. Under the GIL's mutex as well, and before it is let go: the woken
 * thread's own next record comes after. */
static inline void gs_on_wakeup(struct gs_gil *gil, uint16_t number) {
    if (gs_recording())
        gs_emit_gil_with(gil, GS_GIL_WAKEUP, 0, number, gs_clock_now(gs_process.clock));
}

#endif

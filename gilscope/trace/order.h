/* What the two halves of the ring reader share: ring_index.c opens a ring file and finds its
 * processes, threads and chunks; order.c merges their records into one ordered story. */
#ifndef GILSCOPE_TRACE_ORDER_H
#define GILSCOPE_TRACE_ORDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "event.h"

struct chunk {
    uint32_t thread; /* id */
    uint32_t ordinal;
    uint32_t unit, units;
};

/* Which thread's or process's page is at a unit. */
struct page_at {
    uint32_t unit, id;
};

struct stack_page {
    uint32_t process, ordinal, unit;
    uint32_t first_row, n_rows; /* in gs_order.stacks */
};

struct thread {
    uint32_t unit, process;
    uint32_t first_chunk, n_chunks, next_chunk; /* in gs_order.chunks */
    const struct gs_record *head, *end;
    const struct gs_record *past; /* behind the last one that was there when the file was opened;
                                     NULL: there was none, or all were read */
    uint64_t told_lost;           /* by its last thread.lost */
    bool losing;                  /* it lost records since its last event of a GIL */
    bool ended;                   /* thread.end was read */
    bool cut;                     /* what comes last is that no more is known of it */
    bool before_cut;              /* it began before what is kept */
    uint16_t number;              /* in its process; 0: none */
    uint64_t last_ticks;          /* of its last record, low 58 bits; 0: none */
    int64_t last_ns;
};

struct process {
    uint32_t unit;
    uint32_t first_thread; /* id of its main thread, or of the first one seen; UINT32_MAX: none */
    uint32_t first_gil, n_gils;
    uint32_t open_threads; /* that have records left */
    uint32_t first_number; /* in gs_order.numbers */
    uint16_t max_number;
    int64_t start_ns, end_ns, last_ns;
    uint32_t cut_gils; /* whose gap at the stop was given */
    bool before_cut;   /* it began before what is kept */
    uint32_t opened;   /* threads looked at, and behind them GILs, whose opening was given */
    uint8_t unclean;
};

/* Numbers of a GIL's sequence that no record has. */
struct hole {
    uint64_t at;      /* the first of them */
    uint64_t missing; /* how many; 0: not known, nothing came after */
};

struct gil {
    uint64_t expected; /* sequence number */
    uint64_t floor;    /* records before it are older than what is kept */
    int64_t last_ns;
    uint32_t last_thread; /* whose event was the last; meaningless while none was given */
    struct hole *holes;   /* as the survey found them */
    uint64_t n_holes, hole_capacity, next_hole;
    uint32_t *heap; /* threads whose head belongs to this GIL, by sequence number */
    uint32_t n, capacity;
    bool queued; /* in the queue of what can be given next */
};

/* What can be given next: a GIL, a thread whose head belongs to none, that nothing more is known of
 * a thread or of a process's GILs, what was open in a process where what is kept begins, or a
 * process's start or end; in a heap by time. */
struct candidate {
    int64_t time_ns;
    uint32_t index;
    uint8_t type;
};
enum { PROCESS_START, PROCESS_OPENS, PROCESS_END, THREAD, GIL, THREAD_CUT, GILS_CUT };

struct segment { /* of the clock: ns = base_ns + (ticks - base_ticks) * slope */
    int64_t base_ticks, base_ns;
    double slope;
};

/* A node of a stack. Texts are bytes of the file: where and how many; 0: not known. */
struct gs_stack_row {
    uint64_t file, function;
    uint32_t file_bytes, function_bytes;
    uint32_t parent; /* 1 + its index, 0: none */
    int32_t line;
    uint32_t process; /* id */
    uint32_t reference;
};
static_assert(sizeof(struct gs_stack_row) == 40, "40 bytes");

struct gs_order {
    const unsigned char *map;
    uint64_t bytes;
    const struct gs_file_header *header;
    struct chunk *chunks;
    struct thread *threads;
    struct process *processes;
    struct gil *gils;
    struct candidate *queue;
    uint32_t *numbers; /* a process's stretch: 1 + the id of the thread with each number; 0: none */
    struct page_at *thread_pages, *process_pages; /* by unit */
    struct stack_page *stack_pages;               /* by unit, once they are all known */
    uint64_t n_stack_pages, stack_page_capacity;
    struct gs_stack_row *stacks;
    uint32_t *stack_ids; /* what events call them; NULL: by their index */
    uint64_t n_chunks, n_threads, n_processes, n_gils, n_queue, queue_capacity;
    uint64_t n_stacks, stack_capacity;
    struct segment segments[GS_MAX_CLOCKS];
    uint32_t n_segments, segment;
    uint64_t clamped;
    uint64_t lost;   /* records missing in the sequences of GILs */
    int64_t stop_ns; /* from here on nothing was recorded; INT64_MAX: to the end */
    uint32_t gap;    /* the GIL whose next event is a gap, GS_NO_GIL: none */
    bool survey;     /* this reading only looks for holes */
    uint64_t cut;    /* ticks, low 58 bits: what is older is left out; 0: nothing is */
    uint64_t until;  /* what is not older is left out; 0: nothing is */
    char error[160];
};

/* Notes what went wrong, printf-like; returns -1. */
int gs_order_fail(struct gs_order *order, const char *format, ...);

/* Grows an array by doubling. Returns 0, or -1 out of memory. */
int gs_reserve(void **array, uint64_t n, uint64_t *capacity, size_t item);

/* Place of a byte of the mapping in the file. */
static inline uint64_t gs_offset_of(const struct gs_order *order, const void *at) {
    return (uint64_t)((const unsigned char *)at - order->map);
}

static inline const struct gs_thread_page *gs_thread_page(const struct gs_order *order,
                                                          const struct thread *thread) {
    return (const void *)(order->map + (uint64_t)thread->unit * GS_UNIT_BYTES);
}

/* Appends a hole. Returns 0, or -1 out of memory. */
int gs_add_hole(struct gil *gil, struct hole hole);

/* Frees the GILs with all that they own. */
void gs_free_gils(struct gs_order *order);

/* CLOCK_MONOTONIC of ticks, of which the low 58 bits count. */
int64_t gs_order_to_ns(struct gs_order *order, uint64_t ticks);

/* Reads the nodes in all pages of stacks. 0, or -1: one is broken, or out of memory. */
int gs_index_stacks(struct gs_order *order);

/* Where recorders that take back cut, clocks of two processors may disagree: so many ticks of what
 * is kept are left out as well. */
#define GS_CUT_MARGIN (UINT64_C(1) << 16)

/* Whether a time stamp (58 bits) is older than what is kept. */
static inline bool gs_before_cut(const struct gs_order *order, uint64_t ticks) {
    return (ticks & UINT64_MAX >> GS_KIND_BITS) < order->cut;
}

/* What a stack event's payload means; false where there is no such stack of that process. */
bool gs_order_stack(const struct gs_order *order, uint64_t payload, uint32_t process, uint64_t *arg,
                    uint8_t *flags);

/* Sets the head to the thread's records in its page (which == 0) or its which-th chunk. */
void gs_open_records(const struct gs_order *order, struct thread *thread, uint32_t which);

#endif

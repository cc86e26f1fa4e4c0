/* The live reader: events in order from a ring file that is being written.
 *
 * It may run in any process that has the file mapped. `gs_follow_poll` looks at what the writers
 * have stored since; `gs_follow_next` then gives the events that are certain; when the end of the
 * recording is known, `gs_follow_finish` makes the rest certain.
 *
 *  - The clock. Events are given up to the *horizon*, the newest snapshot of the clocks at the poll
 *    before: times lie between two snapshots, so no later one changes what was given, and whose
 * page was found by that poll has been looked at since.
 *  - Order. A GIL's events are given by their numbers. Each poll looks at the records first and
 *    then for new pages and chunks, so whatever a visible record refers to is known.
 *  - A missing number is a loss when a whole poll that began after its successor was seen has not
 *    found it: a record is stored under the GIL's mutex, before that of its successor.
 *  - A release may still be corrected to a yield (gs_on_yield), for a moment behind its store. It
 * is certain when its thread has stored another record, or after SETTLED_NS of silence; what is
 *    corrected even later is counted (`late`).
 *  - Processes and threads may come at any time; a process's end is given when it is told
 *    (gs_follow_over), for one that is killed says nothing.
 *
 * Owner: one thread. Memory: a few words for each unit of the file, thread, GIL and node. */
#ifndef GILSCOPE_TRACE_FOLLOW_H
#define GILSCOPE_TRACE_FOLLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "event.h"

struct follow_chunk {
    uint32_t ordinal, unit;
    uint32_t units; /* as they were checked: its header may be taken back meanwhile */
};

/* A place in a thread's records: its page (chunk UINT32_MAX) or one of its chunks. */
struct place {
    const struct gs_record *at, *end;
    const struct gs_chunk_header *chunk; /* NULL: the page, or a chunk that is gone */
    uint32_t ordinal;                    /* of the chunk; 0: the page */
};

struct follow_thread {
    uint32_t unit, process;
    uint32_t next_of_process;    /* id, UINT32_MAX: none */
    struct follow_chunk *chunks; /* that are not read to their end, by ordinal */
    uint64_t n_chunks, chunk_capacity;
    struct place head, past; /* the next record, and behind the last one that is visible */
    uint64_t start_ticks;    /* tells its page from another at the same unit */
    uint64_t told_lost, last_ticks;
    int64_t last_ns;
    const struct gs_record *given; /* its last record that was given though it might change; NULL */
    uint32_t left_over; /* resumed: records of the chunk at `head` that are not read; 0: none */
    uint16_t number;
    bool announced; /* its head is in the merge */
    bool losing, ended, cut, left;
    bool gone; /* its page is another's now */
};

struct follow_process {
    uint32_t unit, serial, parent;  /* parent: as in its page */
    uint32_t first_thread, threads; /* id, UINT32_MAX: none; head of the list */
    uint32_t open_threads;
    uint32_t *gils; /* ids, by index in the process */
    uint64_t n_gils, gil_capacity;
    uint32_t *numbers; /* 1 + the id of the thread with each number; 0: none */
    uint64_t n_numbers, number_capacity;
    uint64_t start_ticks;
    int64_t start_ns, end_ns, last_ns;
    uint64_t missing; /* records, in the numbers of its GILs */
    uint32_t cut_gils;
    bool starts, begun, over, unclean, open_end, ends, ended, told_yields, gone;
};

struct follow_gil {
    uint32_t process;
    uint32_t last_thread;
    uint64_t expected; /* sequence number */
    uint64_t stuck_at; /* the poll in which it was first seen that `expected` is missing; 0: none */
    int64_t last_ns;
    uint32_t *heap; /* threads whose head belongs to it, by sequence number */
    uint32_t n, capacity;
    bool queued;
};

/* What may come next. */
enum follow_candidate_type {
    FOLLOW_PROCESS_START,
    FOLLOW_PROCESS_END,
    FOLLOW_THREAD,
    FOLLOW_GIL,
    FOLLOW_THREAD_CUT,
    FOLLOW_GILS_CUT,
};

struct follow_candidate {
    int64_t time_ns;
    uint32_t index;
    uint8_t type; /* enum follow_candidate_type */
};

struct follow_segment { /* of the clock: ns = base_ns + (ticks - base_ticks) * slope */
    int64_t base_ticks, base_ns;
    double slope;
};

struct follow_found {
    uint64_t key; /* serial, or when it began */
    uint32_t unit;
};

/* What is known of the page or chunk that begins at a unit. */
struct follow_room {
    uint32_t magic;
    uint32_t id; /* thread, process; of a chunk its thread; of a page of stacks its process */
    uint32_t ordinal;
    uint32_t at; /* page of stacks: what is read of it */
};

/* A node of a stack. Texts are bytes of the file: where and how many; 0: not known. The same as
 * struct gs_stack_row. */
struct follow_node {
    uint64_t file, function;
    uint32_t file_bytes, function_bytes;
    uint32_t parent; /* 1 + its index, 0: none */
    int32_t line;
    uint32_t process; /* id */
    uint32_t reference;
};

struct gs_follow {
    const unsigned char *map;
    uint64_t bytes;
    const struct gs_file_header *header;
    struct follow_room *rooms;
    uint64_t n_rooms;
    struct follow_thread *threads;
    struct follow_process *processes;
    struct follow_gil *gils;
    struct follow_node *nodes;
    uint32_t *node_slots; /* 1 + index, by reference; open addressing */
    uint32_t *node_ids;   /* what events call them */
    uint64_t n_threads, n_processes, n_gils, n_nodes, n_named;
    uint64_t thread_capacity, process_capacity, gil_capacity, node_capacity, id_capacity;
    uint64_t node_mask;
    struct follow_candidate *queue;
    uint64_t n_queue, queue_capacity;
    struct follow_segment *segments;
    uint64_t n_segments, segment_capacity, segment;
    struct gs_clock_snapshot newest;
    uint64_t horizon_ticks;
    int64_t horizon_ns; /* INT64_MAX: to the end */
    int64_t stop_ns;    /* from here on nothing was recorded; INT64_MAX: to the end */
    uint64_t polls, clamped, lost, late;
    bool final;
    struct follow_found *found; /* pages of the scan under way */
    uint64_t n_found, found_capacity;
    char error[160];
};

/* What a reader that goes on where another was killed must know: rows for gs_follow_resume. */
struct gs_follow_thread_state {
    uint64_t start_ticks, told_lost, last_ticks;
    int64_t last_ns;
    uint32_t unit, process, ordinal, left; /* `left`: records from the head to its chunk's end */
    uint32_t number;
    uint32_t ended_losing; /* bit 0: ended, bit 1: losing */
};
static_assert(sizeof(struct gs_follow_thread_state) == 56, "56 bytes");

struct gs_follow_process_state {
    uint64_t start_ticks, missing;
    int64_t start_ns, last_ns, end_ns;
    uint32_t unit, serial, parent, first_thread;
    uint32_t flags; /* begun, over, unclean, ended */
    uint32_t pad;
};
static_assert(sizeof(struct gs_follow_process_state) == 64, "64 bytes");

struct gs_follow_gil_state {
    uint64_t expected;
    int64_t last_ns;
    uint32_t process, last_thread;
};
static_assert(sizeof(struct gs_follow_gil_state) == 24, "24 bytes");

/* ---- follow.c: 0, or -1 with `error` -----------------------------------------------------------
 */

int gs_follow_push(struct gs_follow *follow, struct follow_candidate item);

/* Queues a GIL whose next event stands at the head of a thread and is certain. */
int gs_follow_queue_gil(struct gs_follow *follow, uint32_t id);

/* Puts what stands at a thread's head into the merge, when it is certain. */
int gs_follow_announce(struct gs_follow *follow, uint32_t id);

/* Queues the end of a process that is over, when all of its threads have ended. */
int gs_follow_end_process(struct gs_follow *follow, uint32_t id);

/* ---- follow_index.c ----------------------------------------------------------------------------
 */

int gs_follow_fail(struct gs_follow *follow, const char *format, ...);
int gs_follow_reserve(void **array, uint64_t n, uint64_t *capacity, size_t item);

/* CLOCK_MONOTONIC of ticks, of which the low 58 bits count. */
int64_t gs_follow_ns(struct gs_follow *follow, uint64_t ticks);

/* Takes in the newest snapshot of the clocks. 0, or -1: out of memory. */
int gs_follow_clock(struct gs_follow *follow);

/* Moves a thread's `past` to behind the last record that is stored. */
void gs_follow_look(const struct gs_follow *follow, struct follow_thread *thread);

/* Finds new pages and chunks, nodes and GILs. 0, or -1 with `error`. */
int gs_follow_scan(struct gs_follow *follow);

/* Moves a place behind the end of a chunk to the next chunk, if there is one. */
bool gs_follow_turn(const struct gs_follow *follow, const struct follow_thread *thread,
                    struct place *place);

/* Whether what a thread's `past` is in still is that thread's. */
bool gs_follow_is_there(const struct gs_follow *follow, const struct follow_thread *thread);

/* The node that a stack event means; -1: none. */
int64_t gs_follow_node(const struct gs_follow *follow, uint32_t reference);

/* The place in front of the last `left` records; of a damaged number its first. */
static inline struct place gs_follow_with_left(struct place all, uint64_t left) {
    if (left < (uint64_t)(all.end - all.at))
        all.at = all.end - left;
    return all;
}

static inline uint64_t gs_follow_offset(const struct gs_follow *follow, const void *at) {
    return (uint64_t)((const unsigned char *)at - follow->map);
}

static inline const void *gs_follow_unit(const struct gs_follow *follow, uint64_t unit) {
    return follow->map + unit * GS_UNIT_BYTES;
}

static inline uint64_t gs_stamp(const struct gs_record *record) {
    return __atomic_load_n(&record->stamp_kind, __ATOMIC_ACQUIRE);
}

#endif

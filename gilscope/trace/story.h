/* What a story becomes: intervals and counts. story.c fills these arrays, the files in analysis/
 * fold them, story.py holds the numpy twins (checked by gs_story_sizes). Times are CLOCK_MONOTONIC
 * nanoseconds; threads, processes and GILs are ids of the trace's tables. */
#ifndef GILSCOPE_TRACE_STORY_H
#define GILSCOPE_TRACE_STORY_H

#include "event.h"

/* How an interval came to its end. */
enum gs_ending {
    GS_OPEN = 0,
    GS_RELEASED = 1,   /* holds: gil.release */
    GS_YIELDED = 2,    /* holds: gil.yield */
    GS_ACQUIRED = 3,   /* waits: the thread got the GIL */
    GS_END = 4,        /* the thread or its process was over */
    GS_ENDED_LOST = 5, /* records were lost: it lasted at least this long */
};

enum { GS_HOLD_WAITED = 1, GS_HOLD_REQUESTED = 2 }; /* gs_hold.flags */

#define GS_NO_GAP UINT32_MAX

/* Holds stand in the order of their begins; those of one GIL do not overlap. */
struct gs_hold {
    int64_t start_ns, end_ns;
    uint32_t thread;
    uint16_t gil;
    uint8_t ending; /* enum gs_ending */
    uint8_t flags;
};
static_assert(sizeof(struct gs_hold) == 24, "24 bytes");

/* Waits stand in the order of their begins. `hold` is the number, among the holds of this GIL, of
 * the hold under which the wait began, or of the next one if the GIL was free. `gap` is the gap in
 * which it began, or GS_NO_GAP. */
struct gs_wait {
    int64_t start_ns, end_ns;
    uint32_t hold;
    uint32_t gap;
    uint32_t thread;
    uint16_t gil;
    uint8_t ending; /* enum gs_ending */
    uint8_t cpu;    /* 1: a `cpu` wait, 0: an `io` wait */
};
static_assert(sizeof(struct gs_wait) == 32, "32 bytes");

#define GS_NOBODY UINT32_MAX

struct gs_request {
    int64_t time_ns;
    uint32_t thread;
    uint32_t holder; /* who was asked; GS_NOBODY where that is not known */
    uint16_t gil;
    uint16_t pad[3];
};
static_assert(sizeof(struct gs_request) == 24, "24 bytes");

/* A time in which the state of a GIL is not known: from its process's start, or from a loss, to
 * the first event that tells it. */
struct gs_gap {
    int64_t start_ns, end_ns;
    uint32_t missing; /* lost records, saturated; 0 at a start */
    uint16_t gil;
    uint16_t pad;
};
static_assert(sizeof(struct gs_gap) == 24, "24 bytes");

/* first_ns and last_ns are of its events; first_ns > last_ns: it has none. */
struct gs_thread_stats {
    int64_t first_ns, last_ns;
    int64_t held_ns, waiting_ns;
    uint64_t acquires, contended_acquires, releases, yields, requests;
    uint64_t holds, waits, io_waits; /* intervals */
    uint32_t gil;                    /* the first GIL that it used, or GS_NO_GIL */
    uint32_t pad;
};
static_assert(sizeof(struct gs_thread_stats) == 104, "104 bytes");

/* held_ns is counted on the GIL's own side, not summed over its threads. */
struct gs_gil_stats {
    int64_t held_ns, contended_ns;
    uint64_t acquires, switches, yields, holds;
    uint64_t missing; /* sum of gil.lost */
    uint64_t max_waiters;
};
static_assert(sizeof(struct gs_gil_stats) == 64, "64 bytes");

struct gs_process_stats {
    int64_t first_ns, last_ns;
    uint32_t started, ended; /* process.start and process.end were seen */
    uint32_t unclean;
    uint32_t pad;
};
static_assert(sizeof(struct gs_process_stats) == 32, "32 bytes");

#endif

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
    GS_ACQUIRED = 3,   /* waits: the thread got the GIL, the lock, or was notified */
    GS_END = 4,        /* the thread or its process was over */
    GS_ENDED_LOST = 5, /* records were lost: it lasted at least this long */
    GS_TIMED_OUT = 6,  /* waits for locks and conditions: given up */
    GS_EXITED = 7,     /* atomic sections */
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
    int64_t woken_ns; /* the last gil.wakeup that named it, or GS_NEVER */
    uint32_t hold;
    uint32_t gap;
    uint32_t thread;
    uint16_t gil;
    uint8_t ending; /* enum gs_ending */
    uint8_t cpu;    /* 1: a `cpu` wait, 0: an `io` wait */
};
static_assert(sizeof(struct gs_wait) == 40, "40 bytes");

#define GS_NOBODY UINT32_MAX
#define GS_NEVER  INT64_MIN

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
    uint32_t missing; /* lost records, saturated; 0 at a start, and where it is not known */
    uint16_t gil;
    uint16_t lost; /* 0: at a start */
};
static_assert(sizeof(struct gs_gap) == 24, "24 bytes");

/* A wait for a lock or a condition, in the order of their begins. */
struct gs_sync_wait {
    int64_t start_ns, end_ns;
    int64_t woken_ns;   /* the release or notify that ended it, or GS_NEVER: not known */
    int64_t running_ns; /* when its thread next had a GIL, or GS_NEVER: nothing else came before */
    uint64_t object;    /* gs_sync_object: address, kind, and bit 63: a condition */
    uint32_t thread;
    uint32_t waker;  /* GS_NOBODY: not known */
    uint32_t ending; /* enum gs_ending */
    uint32_t notify; /* index of the release or notify that ended it; GS_NOBODY: not known */
};
static_assert(sizeof(struct gs_sync_wait) == 56, "56 bytes");

/* A release or a notify. */
struct gs_notify {
    int64_t time_ns;
    uint64_t object;
    uint32_t thread;
    uint32_t woken;
};
static_assert(sizeof(struct gs_notify) == 24, "24 bytes");

/* An outermost atomic section, as far as it was seen. */
struct gs_section {
    int64_t start_ns, end_ns;
    int64_t held_ns; /* of the GIL meanwhile: it may block inside */
    uint32_t thread;
    uint32_t deferred; /* yields that it held back */
    uint32_t ending;   /* enum gs_ending */
    uint32_t pad;
};
static_assert(sizeof(struct gs_section) == 40, "40 bytes");

/* A hold that went on for a millisecond after somebody had asked for the GIL; in the order of the
 * ends. */
struct gs_kept {
    int64_t late_ns; /* from the first request to the end */
    int64_t cpu_ns;  /* of these its thread was on a processor */
    uint32_t hold;   /* index into holds */
    uint32_t asleep; /* percent of the looks that found it asleep; GS_NO_LOOKS: there was none */
};
static_assert(sizeof(struct gs_kept) == 24, "24 bytes");
#define GS_NO_LOOKS UINT32_MAX

/* A hold in which there were garbage collections; in the order of the ends. */
struct gs_collected {
    int64_t least_ns, most_ns; /* that they took; equal where it is known exactly */
    int64_t late_ns; /* from the first request to the end; without one the hold's length */
    uint32_t hold;   /* index into holds */
    uint32_t count;  /* of collections that ended in it */
};
static_assert(sizeof(struct gs_collected) == 32, "32 bytes");

/* What the kernel told of a thread: from here on, up to its next row. Rows of one thread ascend. */
struct gs_processor_row {
    int64_t time_ns;
    uint32_t thread;
    uint16_t processor;
    uint16_t state; /* enum gs_processor_state */
};
static_assert(sizeof(struct gs_processor_row) == 16, "16 bytes");
enum gs_processor_state { GS_IS_OFF, GS_IS_PREEMPTED, GS_IS_UNSEEN, GS_IS_RUNNING };

/* Where a hold ended or a wait did; in the order of those ends. Of locks and conditions: where a
 * wait was (of_wait; index into sync_waits) or a release or notify (into notifies). */
struct gs_stack_of {
    uint32_t interval; /* index into holds or waits */
    uint32_t leaf;     /* id of a stack */
    uint8_t of_wait;
    uint8_t seen; /* of a hold: where the thread that asked for the GIL saw the holder */
    uint16_t pad;
};
static_assert(sizeof(struct gs_stack_of) == 12, "12 bytes");

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
    int64_t unknown_ns; /* sum of the gaps that are none of a start */
};
static_assert(sizeof(struct gs_gil_stats) == 72, "72 bytes");

/* What a thread does at one moment of a story that is being told. */
struct gs_thread_now {
    uint64_t
        sync[4]; /* the locks and conditions that it waits for (gs_sync_object), innermost last */
    uint32_t n_sync;
    uint32_t depth, sections; /* of atomic sections, and how many were seen to begin */
    uint16_t gil;
    uint8_t state; /* 0 outside, 1 waits, 2 holds */
    uint8_t cpu;   /* its wait is a cpu wait */
    uint8_t started, ended;
    uint16_t pad[3];
};
static_assert(sizeof(struct gs_thread_now) == 56, "56 bytes");

/* The same of a GIL. */
struct gs_gil_now {
    uint8_t seen, unknown, lost, pad; /* `lost`: what is not known was lost, it is no beginning */
};

struct gs_process_stats {
    int64_t first_ns, last_ns;
    uint32_t started, ended; /* process.start and process.end were seen */
    uint32_t unclean;
    uint32_t pad;
};
static_assert(sizeof(struct gs_process_stats) == 32, "32 bytes");

#endif

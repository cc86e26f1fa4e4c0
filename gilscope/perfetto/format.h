/* The hot part of a gilscope trace file: what encode.c writes and decode.c reads.
 *
 * docs/trace-format.md is the specification with its reasons. In short: a trace is a Perfetto
 * `Trace` message. Its rare packets (clocks, tracks, interned names, the recording's metadata) are
 * built and read by layout.py with the perfetto package's protobuf classes; its hot packets all
 * have one canonical form, fields in ascending order, lengths below 128:
 *
 *   0a LEN                        Trace.packet
 *     40 DELTA                    timestamp: ns since this sequence's packet before
 *     50 SEQUENCE                 trusted_packet_sequence_id
 *     5a LEN                      track_event
 *       18 CATEGORY               category_iids         wait: io or cpu; hold: waited; the sort of
 *                                                       a lock or condition
 *       22 LEN 08 02 38 ADDRESS   debug_annotations     the lock or condition
 *       22 LEN 08 NAME 18 VALUE   debug_annotations     a number: GS_ANNOTATION_TABLE
 *       48 TYPE                   type                  begin, end, instant
 *       50 NAME                   name_iid              begin and instant
 *       58 TRACK                  track_uuid            only on packets for the owner's track
 *       60 WAITERS                extra_counter_values  the GIL's waiters
 *       f9 02 FLOW                flow_ids              end of a hold that had waiters; wakeup,
 *                                                       release, notify (up to GS_FLOWS_MAX)
 *       81 03 FLOW                terminating_flow_ids  begin of the hold that follows (of the
 *                                                       hold before, of a wakeup); "woken"
 *     68 02                       sequence_flags: needs incremental state
 *
 * A detail of a hold or wait (put_detail.h) is a slice on the same sequence, right before the end
 * of its own; what it says is for people. It begins with
 *
 *   0a LEN                        Trace.packet
 *     40 DELTA                    timestamp: 0, or on the clock below
 *     50 SEQUENCE                 trusted_packet_sequence_id
 *     5a LEN                      track_event
 *       22 LEN …                  debug_annotations     any
 *       48 01                     type                  begin
 *       50 NAME                   name_iid              from behind GS_NAME_OWNER; or else
 *       ba 01 LEN TEXT            name
 *     62 LEN                      interned_data         what this sequence had not interned yet
 *     d0 03 03                    timestamp_clock_id    MONOTONIC, where DELTA is none: something
 *                                                       happened since the slice's begin
 *
 * and ends like a wait, both without sequence_flags: its slice has them. The end of its slice has
 * the same annotations first, and so lengths of more than a byte; where they are over 16 KiB, none.
 * Its frames are slices of the same form on a sequence of role FLAME.
 *
 * An event of a processor is on a sequence of role PROCESSOR, in the form that Perfetto's tables of
 * scheduling are made from:
 *
 *   0a LEN                        Trace.packet
 *     40 DELTA                    timestamp: as above
 *     50 SEQUENCE                 trusted_packet_sequence_id
 *     0a LEN                      ftrace_events
 *       08 PROCESSOR              cpu
 *       12 LEN                    event
 *         08 TIME                 timestamp: the same on CLOCK_BOOTTIME
 *         10 THREAD               pid: 0 or the thread's, of whom leaves
 *         22 LEN                  sched_switch
 *           10 THREAD             prev_pid; 0: nobody, or none that is recorded
 *           18 78                 prev_prio
 *           20 STATE              prev_state: 1 sleeps, 0 wants a processor, 16 not known any more
 *           30 THREAD             next_pid
 *           38 78                 next_prio
 */
#ifndef GILSCOPE_PERFETTO_FORMAT_H
#define GILSCOPE_PERFETTO_FORMAT_H

#include <stdint.h>

#include "../probe/event_abi.h"

/* Interned names, the same on every sequence: X(iid, SYMBOL, "text"). New ones stand behind, up to
 * GS_NAME_OWNER: that is the thread's own name, since a hold is told twice, on the thread's track
 * and on that of its GIL's owner. */
#define GS_NAME_TABLE(X)                                                                           \
    X(1, HOLDS, "holds GIL")                                                                       \
    X(2, WAITS, "waiting for GIL")                                                                 \
    X(3, YIELD, "forced yield")                                                                    \
    X(4, REQUEST, "GIL drop request")                                                              \
    X(5, RELEASE, "GIL release") /* of a hold whose beginning is not known */                      \
    X(6, LOST, "GIL events lost")                                                                  \
    X(7, THREAD_START, "thread start")                                                             \
    X(8, THREAD_END, "thread end")                                                                 \
    X(9, PROCESS_START, "process start")                                                           \
    X(10, PROCESS_END, "process end")                                                              \
    X(11, PROCESS_KILLED, "process end, unclean")                                                  \
    X(12, WAKEUP, "GIL wakeup")                                                                    \
    X(13, LOCK_WAITS, "waiting for lock")                                                          \
    X(14, COND_WAITS, "waiting for condition")                                                     \
    X(15, WOKEN, "woken")               /* the end of such a wait whose waker is known */          \
    X(16, LOCK_ACQUIRE, "lock acquire") /* of a wait whose beginning is not known */               \
    X(17, COND_WAKE, "condition wake")  /* the same */                                             \
    X(18, LOCK_RELEASE, "lock release")                                                            \
    X(19, COND_NOTIFY, "condition notify")                                                         \
    X(20, ATOMIC, "atomic section")                                                                \
    X(21, ATOMIC_EXIT, "atomic exit") /* of a section whose beginning is not known */              \
    X(22, DEFERRED, "deferred yield")                                                              \
    X(23, THREAD_LOST, "events lost")                                                              \
    X(24, STACK_HOLD, "stack, end of hold")                                                        \
    X(25, STACK_SEEN, "stack of hold, seen by who asked")                                          \
    X(26, STACK_WAIT, "stack, end of wait")                                                        \
    X(27, STACK_SYNC_WAIT, "stack, wait for a lock or condition")                                  \
    X(28, STACK_WAKER, "stack, of who ends the wait")                                              \
    X(29, HOLD_CPU, "on a processor since it was asked for the GIL")                               \
    X(30, HOLD_ASLEEP, "asleep since it was asked for the GIL")                                    \
    X(31, HOLD_GC, "garbage collections")                                                          \
    X(32, HOLD_GC_LEAST, "garbage collections took at least")                                      \
    X(33, HOLD_GC_MOST, "garbage collections took at most")

#define GS_CATEGORY_TABLE(X)                                                                       \
    X(1, IO, "io")                                                                                 \
    X(2, CPU, "cpu")                                                                               \
    X(3, WAITED, "waited")                                                                         \
    X(4, PYTHON, "python") /* from here on enum gs_sync_kind, but for its 0: no category */        \
    X(5, NATIVE, "native")                                                                         \
    X(6, ATOMIC_BASED, "atomic")                                                                   \
    X(7, OF_GIL, "gil")                                                                            \
    X(8, PYMUTEX, "pymutex")                                                                       \
    X(9, THREAD_LOCK, "thread-lock")                                                               \
    X(10, INTERPRETER, "interpreter")                                                              \
    X(11, SEM_LOCK, "sem-lock")                                                                    \
    X(12, PARKED, "parked")

/* Names of annotations, below GS_ANNOTATION_OF_DETAILS; `object` is a pointer, the rest are
 * numbers. */
#define GS_ANNOTATION_TABLE(X)                                                                     \
    X(1, COUNT, "count")         /* lost records */                                                \
    X(2, OBJECT, "object")       /* the lock's or the condition's address */                       \
    X(3, WOKEN, "woken")         /* how many a notify woke */                                      \
    X(4, TIMED_OUT, "timed_out") /* 1: the wait ended without what it waited for */                \
    X(5, THREAD, "thread")       /* id of the thread that a wakeup is for */                       \
    X(6, DEPTH, "depth")         /* of an atomic section */                                        \
    X(7, LEAF, "leaf")           /* id of a stack */                                               \
    X(8, CPU_NS, "cpu_ns")       /* of a thread */                                                 \
    X(9, PERCENT, "percent")     /* of the looks at a holder */                                    \
    X(10, NS, "ns")

/* Those of details, interned by a sequence's first one. */
#define GS_DETAIL_ANNOTATION_TABLE(X)                                                              \
    X(32, LINE, "line")                                                                            \
    X(33, STACK, "stack")                                                                          \
    X(34, ENDED_BY_YIELD, "ended_by_yield")                                                        \
    X(35, KEPT_WAITING, "kept_waiting")       /* how many threads */                               \
    X(36, KEPT_WAITING_NS, "kept_waiting_ns") /* in sum */                                         \
    X(37, WAITED_FOR, "waited_for")           /* name of the thread that kept it longest */        \
    X(38, WAITED_FOR_LINE, "waited_for_line")                                                      \
    X(39, WAITED_FOR_STACK, "waited_for_stack")                                                    \
    X(40, WAITED_FOR_NS, "waited_for_ns")                                                          \
    X(41, WAITED_FOR_HOLDS, "waited_for_holds") /* how many there were while it waited */

enum gs_name {
    GS_NAME_NONE = 0,
#define GS_X(iid, symbol, text) GS_NAME_##symbol = iid,
    GS_NAME_TABLE(GS_X)
#undef GS_X
        GS_NAMES,
    GS_NAME_OWNER = 64,     /* from behind it on a sequence's own names of details */
    GS_NAME_OWNER_OLD = 27, /* up to format 4, which knew the names up to 26 */
};
static_assert(GS_NAMES <= GS_NAME_OWNER, "the owner's name is behind all others");

enum gs_category {
    GS_CATEGORY_NONE = 0,
#define GS_X(iid, symbol, text) GS_CATEGORY_##symbol = iid,
    GS_CATEGORY_TABLE(GS_X)
#undef GS_X
        GS_CATEGORIES,
};
static_assert(GS_CATEGORY_WAITED + GS_SYNC_KINDS == GS_CATEGORIES, "each kind has a category");

enum gs_annotation {
    GS_ANNOTATION_NONE = 0,
#define GS_X(iid, symbol, text) GS_ANNOTATION_##symbol = iid,
    GS_ANNOTATION_TABLE(GS_X)
#undef GS_X
        GS_ANNOTATIONS,
    GS_ANNOTATION_OF_DETAILS = 32,
#define GS_X(iid, symbol, text) GS_ANNOTATION_##symbol = iid,
    GS_DETAIL_ANNOTATION_TABLE(GS_X)
#undef GS_X
};
static_assert(GS_ANNOTATIONS <= GS_ANNOTATION_OF_DETAILS, "those of details are behind");

/* What tells the argument of an event without GIL, but for those of locks and sections. */
static inline enum gs_annotation gs_annotation_of(enum gs_event_kind kind, uint64_t arg) {
    switch (kind) {
    case GS_THREAD_LOST:
        return arg ? GS_ANNOTATION_COUNT : GS_ANNOTATION_NONE;
    case GS_STACK:
        return GS_ANNOTATION_LEAF;
    case GS_HOLD_CPU:
        return GS_ANNOTATION_CPU_NS;
    case GS_HOLD_ASLEEP:
        return GS_ANNOTATION_PERCENT;
    case GS_HOLD_GC:
        return GS_ANNOTATION_COUNT;
    case GS_HOLD_GC_LEAST:
    case GS_HOLD_GC_MOST:
        return GS_ANNOTATION_NS;
    default:
        return GS_ANNOTATION_NONE;
    }
}

#define GS_CATEGORY_OF_SORT(kind) ((kind) ? GS_CATEGORY_PYTHON - GS_SYNC_PYTHON + (kind) : 0)

/* What a packet sequence is for. layout.py has the same numbers. */
enum gs_role {
    GS_ROLE_GIL = 1,       /* one thread on one GIL: its holds and waits, on the thread's track */
    GS_ROLE_THREAD = 2,    /* a thread's events without GIL, on the thread's track */
    GS_ROLE_ATOMIC = 3,    /* a thread's atomic sections, on a track below the thread's */
    GS_ROLE_FLAME = 4,     /* the stacks of a GIL's long holds: details, on the flame's track */
    GS_ROLE_PROCESSOR = 5, /* a thread's processors, as the kernel's scheduler tells them */
    /* Reserved: 6 spans. */
};

/* Sequence 1 carries the recording's own packets; hot sequences are numbered from 2 in the order
 * in which the file introduces them. */
#define GS_FIRST_SEQUENCE 2u
#define GS_MONOTONIC      3u /* the clock of the recording's own packets */

/* The uuid of a GIL owner's track: small, because a third of all hot packets carry it. */
#define GS_OWNER_TRACK(gil) (UINT64_C(2) + (gil))

enum gs_type { GS_BEGIN = 1, GS_END = 2, GS_INSTANT = 3 };

enum {
    GS_TAG_PACKET = 0x0a,
    GS_TAG_TIMESTAMP = 0x40,
    GS_TAG_SEQUENCE = 0x50,
    GS_TAG_TRACK_EVENT = 0x5a,
    GS_TAG_INTERNED = 0x62,
    GS_TAG_FLAGS = 0x68,
    GS_FLAGS_NEEDS_STATE = 2,
    GS_TAG_CATEGORY = 0x18,
    GS_TAG_ANNOTATION = 0x22,
    GS_TAG_ANNOTATION_NAME = 0x08,
    GS_TAG_ANNOTATION_UINT = 0x18,
    GS_TAG_ANNOTATION_POINTER = 0x38,
    GS_TAG_ANNOTATION_INT = 0x20,
    GS_TAG_CLOCK_0 = 0xd0,
    GS_TAG_CLOCK_1 = 0x03,
    GS_TAG_TYPE = 0x48,
    GS_TAG_NAME = 0x50,
    GS_TAG_TEXT_0 = 0xba, /* the name, not interned */
    GS_TAG_TEXT_1 = 0x01,
    GS_TAG_TRACK = 0x58,
    GS_TAG_COUNTER = 0x60,
    GS_TAG_FLOW_0 = 0xf9,
    GS_TAG_FLOW_1 = 0x02,
    GS_TAG_TERMINATING_0 = 0x81,
    GS_TAG_TERMINATING_1 = 0x03,
};

/* Most flows on one packet: a notify that wakes more shows arrows to the first of them. */
#define GS_FLOWS_MAX 4

/* No hot packet is longer; a notify of four is the longest:
 * 2 + 11 + 6 + 2 + (2 + 15 + 15 + 2 + 2 + 4 * 10) + 2 bytes. */
#define GS_PACKET_ROOM 104

/* Longer packets are refused: the largest that gilscope writes is a part of its metadata. It bounds
 * what a hostile file can make a reader allocate. */
#define GS_PACKET_MAX (UINT64_C(64) << 20)

#endif

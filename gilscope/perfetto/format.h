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
 *       18 CATEGORY               category_iids         wait: io or cpu; hold: waited
 *       22 LEN 08 01 18 COUNT     debug_annotations     gil.lost: how many records are missing
 *       48 TYPE                   type                  begin, end, instant
 *       50 NAME                   name_iid              begin and instant
 *       58 TRACK                  track_uuid            only on packets for the owner's track
 *       60 WAITERS                extra_counter_values  the GIL's waiters
 *       f9 02 FLOW                flow_ids              end of a hold that had waiters
 *       81 03 FLOW                terminating_flow_ids  begin of the hold that follows
 *     68 02                       sequence_flags: needs incremental state
 */
#ifndef GILSCOPE_PERFETTO_FORMAT_H
#define GILSCOPE_PERFETTO_FORMAT_H

#include <stdint.h>

/* Interned names, the same on every sequence: X(iid, SYMBOL, "text"). GS_NAME_OWNER is the thread's
 * own name: a hold is told twice, on the thread's track and on that of its GIL's owner. */
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
    X(11, PROCESS_KILLED, "process end, unclean")

#define GS_CATEGORY_TABLE(X)                                                                       \
    X(1, IO, "io")                                                                                 \
    X(2, CPU, "cpu")                                                                               \
    X(3, WAITED, "waited")

enum gs_name {
    GS_NAME_NONE = 0,
#define GS_X(iid, symbol, text) GS_NAME_##symbol = iid,
    GS_NAME_TABLE(GS_X)
#undef GS_X
        GS_NAME_OWNER,
};

enum gs_category {
    GS_CATEGORY_NONE = 0,
#define GS_X(iid, symbol, text) GS_CATEGORY_##symbol = iid,
    GS_CATEGORY_TABLE(GS_X)
#undef GS_X
};

/* What a packet sequence is for. layout.py has the same numbers. */
enum gs_role {
    GS_ROLE_GIL = 1,    /* one thread on one GIL: its holds and waits, on the thread's track */
    GS_ROLE_THREAD = 2, /* a thread's events without GIL, on the thread's track */
};

/* Sequence 1 carries the recording's own packets; hot sequences are numbered from 2 in the order
 * in which the file introduces them. */
#define GS_FIRST_SEQUENCE 2u

/* The uuid of a GIL owner's track: small, because a third of all hot packets carry it. */
#define GS_OWNER_TRACK(gil) (UINT64_C(2) + (gil))

enum gs_type { GS_BEGIN = 1, GS_END = 2, GS_INSTANT = 3 };

enum {
    GS_TAG_PACKET = 0x0a,
    GS_TAG_TIMESTAMP = 0x40,
    GS_TAG_SEQUENCE = 0x50,
    GS_TAG_TRACK_EVENT = 0x5a,
    GS_TAG_FLAGS = 0x68,
    GS_FLAGS_NEEDS_STATE = 2,
    GS_TAG_CATEGORY = 0x18,
    GS_TAG_ANNOTATION = 0x22,
    GS_TAG_ANNOTATION_NAME = 0x08,
    GS_TAG_ANNOTATION_UINT = 0x18,
    GS_ANNOTATION_COUNT = 1, /* iid of the annotation's name, "count" */
    GS_TAG_TYPE = 0x48,
    GS_TAG_NAME = 0x50,
    GS_TAG_TRACK = 0x58,
    GS_TAG_COUNTER = 0x60,
    GS_TAG_FLOW_0 = 0xf9,
    GS_TAG_FLOW_1 = 0x02,
    GS_TAG_TERMINATING_0 = 0x81,
    GS_TAG_TERMINATING_1 = 0x03,
};

/* No hot packet is longer: 2 + 11 + 6 + 2 + (2 + 15 + 2 + 2 + 4 + 11 + 10 + 10) + 2 bytes. */
#define GS_PACKET_ROOM 80

/* Longer packets are refused: the largest that gilscope writes is its metadata, some 200 bytes a
 * thread. It bounds what a hostile file can make a reader allocate. */
#define GS_PACKET_MAX (UINT64_C(64) << 20)

#endif

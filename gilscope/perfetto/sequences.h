/* The state that encoder and decoder share: packet sequences, and who holds which GIL.
 *
 * A sequence of role GIL is one thread on one GIL ("pair" below). It has at most one open slice.
 * thread.end, process.end and gil.lost close slices of other sequences too; the lists by thread
 * and by GIL find them. Everything is an index: the array of sequences moves when it grows.
 * Owner: one encoder or decoder, one thread.
 */
#ifndef GILSCOPE_PERFETTO_SEQUENCES_H
#define GILSCOPE_PERFETTO_SEQUENCES_H

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "../trace/event.h"
#include "format.h"

#define GS_NONE       UINT32_MAX
#define GS_OWNER_ROOM 24 /* 2 + 2 + 6 + 2 + 2 + 2 + 4 + 2 bytes at most */

enum gs_slice {
    GS_SLICE_NONE = 0,
    GS_SLICE_WAIT,
    GS_SLICE_HOLD,
    GS_SLICE_WAITED,  /* decoder: the wait's END was read, the hold's BEGIN must follow */
    GS_SLICE_YIELDED, /* decoder: "forced yield" was read, the hold's END must follow */
    GS_SLICE_CLOSING, /* its end is implied; the END packet is still to come */
};

struct gs_sequence {
    int64_t time_ns;                      /* of its last packet */
    uint32_t thread;                      /* role OWNER: unused */
    uint32_t next_of_thread, next_of_gil; /* role GIL: lists below */
    uint32_t next_closing;                /* encoder: list of slices whose END is to be written */
    uint16_t gil;
    uint8_t role;
    uint8_t slice; /* enum gs_slice */
    uint8_t tag_bytes, owner_bytes[2];
    uint8_t tag[6];                  /* the field trusted_packet_sequence_id */
    uint8_t owner[2][GS_OWNER_ROOM]; /* role GIL: the whole packets that tell begin and end of
                                        a hold to the track of the GIL's owner */
};

struct gs_thread_state {
    uint32_t own;   /* its sequence of role THREAD */
    uint32_t pairs; /* first of its sequences of role GIL */
    uint32_t process;
};

struct gs_gil_state {
    uint64_t flow; /* opened by the last release, for the next hold that waited; 0: none */
    uint32_t process;
    uint32_t pairs;  /* first of its sequences of role GIL */
    uint32_t holder; /* thread, GS_NONE: free or unknown */
};

struct gs_sequences {
    struct gs_sequence *sequences;
    struct gs_thread_state *threads;
    struct gs_gil_state *gils;
    uint32_t n_sequences, capacity, n_threads, n_gils;
};

static inline void gs_sequences_free(struct gs_sequences *s) {
    free(s->sequences);
    free(s->threads);
    free(s->gils);
}

/* `thread_process` and `gil_process` give each one's process id. False: out of memory. */
static inline bool gs_sequences_init(struct gs_sequences *s, uint32_t n_threads,
                                     const uint32_t *thread_process, uint32_t n_gils,
                                     const uint32_t *gil_process) {
    *s = (struct gs_sequences){.n_threads = n_threads, .n_gils = n_gils};
    s->threads = calloc((size_t)n_threads + 1, sizeof *s->threads);
    s->gils = calloc((size_t)n_gils + 1, sizeof *s->gils);
    if (!s->threads || !s->gils) {
        gs_sequences_free(s);
        return false;
    }
    for (uint32_t i = 0; i < n_threads; i++)
        s->threads[i] = (struct gs_thread_state){GS_NONE, GS_NONE, thread_process[i]};
    for (uint32_t i = 0; i < n_gils; i++)
        s->gils[i] =
            (struct gs_gil_state){.process = gil_process[i], .pairs = GS_NONE, .holder = GS_NONE};
    return true;
}

static inline uint8_t *gs_put_varint(uint8_t *p, uint64_t value) {
    while (value > 127) {
        *p++ = (uint8_t)(value | 128);
        value >>= 7;
    }
    *p++ = (uint8_t)value;
    return p;
}

/* A hold is told a second time, on the track of its GIL's owner: at once (a delta of 0), on the
 * same sequence. So these packets never vary. Returns the packet's length. */
static inline uint8_t gs_put_owner(uint8_t *packet, const struct gs_sequence *pair,
                                   enum gs_type type) {
    uint8_t *p = packet;
    *p++ = GS_TAG_PACKET;
    uint8_t *length = p++;
    *p++ = GS_TAG_TIMESTAMP;
    *p++ = 0;
    memcpy(p, pair->tag, pair->tag_bytes);
    p += pair->tag_bytes;
    *p++ = GS_TAG_TRACK_EVENT;
    uint8_t *body_length = p++;
    *p++ = GS_TAG_TYPE;
    *p++ = (uint8_t)type;
    if (type == GS_BEGIN) {
        *p++ = GS_TAG_NAME;
        *p++ = GS_NAME_OWNER;
    }
    *p++ = GS_TAG_TRACK;
    p = gs_put_varint(p, GS_OWNER_TRACK(pair->gil));
    *body_length = (uint8_t)(p - body_length - 1);
    *p++ = GS_TAG_FLAGS;
    *p++ = GS_FLAGS_NEEDS_STATE;
    *length = (uint8_t)(p - length - 1);
    return (uint8_t)(p - packet);
}

/* Appends a sequence whose clock begins at `time_ns`; its index, or GS_NONE: out of memory. */
static inline uint32_t gs_sequences_add(struct gs_sequences *s, enum gs_role role, uint32_t thread,
                                        uint16_t gil, int64_t time_ns) {
    if (s->n_sequences == s->capacity) {
        uint32_t capacity = s->capacity ? 2 * s->capacity : 64;
        struct gs_sequence *moved =
            capacity > s->capacity ? realloc(s->sequences, capacity * sizeof *moved) : NULL;
        if (!moved)
            return GS_NONE;
        s->sequences = moved;
        s->capacity = capacity;
    }
    uint32_t index = s->n_sequences++;
    struct gs_sequence *added = &s->sequences[index];
    *added = (struct gs_sequence){
        .time_ns = time_ns, .thread = thread, .gil = gil, .role = (uint8_t)role};
    added->tag[0] = GS_TAG_SEQUENCE;
    added->tag_bytes =
        (uint8_t)(gs_put_varint(added->tag + 1, index + GS_FIRST_SEQUENCE) - added->tag);
    if (role == GS_ROLE_THREAD) {
        s->threads[thread].own = index;
    } else {
        added->owner_bytes[0] = gs_put_owner(added->owner[0], added, GS_BEGIN);
        added->owner_bytes[1] = gs_put_owner(added->owner[1], added, GS_END);
        added->next_of_thread = s->threads[thread].pairs;
        s->threads[thread].pairs = index;
        added->next_of_gil = s->gils[gil].pairs;
        s->gils[gil].pairs = index;
    }
    return index;
}

static inline uint32_t gs_sequences_find(const struct gs_sequences *s, uint32_t thread,
                                         uint16_t gil) {
    uint32_t index = s->threads[thread].pairs;
    while (index != GS_NONE && s->sequences[index].gil != gil)
        index = s->sequences[index].next_of_thread;
    return index;
}

/* Calls close(context, pair) for each pair that `event`, one that closes slices, can concern. */
static inline void gs_sequences_close(struct gs_sequences *s, const struct gs_event *event,
                                      void (*close)(void *context, uint32_t pair), void *context) {
    if (event->kind == GS_THREAD_END) {
        for (uint32_t i = s->threads[event->thread].pairs; i != GS_NONE;
             i = s->sequences[i].next_of_thread)
            close(context, i);
        return;
    }
    uint32_t process = s->threads[event->thread].process;
    for (uint32_t gil = 0; gil < s->n_gils; gil++) {
        if (event->kind == GS_GIL_LOST ? gil != event->gil : s->gils[gil].process != process)
            continue;
        s->gils[gil].flow = 0;
        for (uint32_t i = s->gils[gil].pairs; i != GS_NONE; i = s->sequences[i].next_of_gil)
            close(context, i);
    }
}

#endif

/* The state that encoder and decoder share: packet sequences, who holds which GIL, what each thread
 * waits for besides.
 *
 * A sequence of role GIL is one thread on one GIL ("pair" below). It has at most one open slice.
 * Waits for locks and conditions lie on the same track, outside of every slice of a GIL or inside
 * a wait for one. Atomic sections have a track of their own: a section that blocks outlives the
 * hold that it began in.
 * thread.end, process.end and the gaps close slices of other sequences too; the lists by thread, by
 * GIL and by process find them. Everything is an index: the array of sequences moves when it grows.
 * Owner: one encoder or decoder, one thread.
 */
#ifndef GILSCOPE_PERFETTO_SEQUENCES_H
#define GILSCOPE_PERFETTO_SEQUENCES_H

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "../trace/event.h"
#include "../trace/wakers.h"
#include "codec.h"

#define GS_NONE       UINT32_MAX
#define GS_OWNER_ROOM 24 /* 2 + 2 + 6 + 2 + 2 + 2 + 4 + 2 bytes at most */

enum gs_slice {
    GS_SLICE_NONE = 0,
    GS_SLICE_WAIT,
    GS_SLICE_HOLD,
    GS_SLICE_WAITED,  /* decoder: the wait's END was read, the hold's BEGIN must follow */
    GS_SLICE_YIELDED, /* decoder: "forced yield" was read, the hold's END must follow */
};

struct gs_sequence {
    int64_t time_ns;                      /* of its last packet */
    uint64_t wakeup;                      /* role GIL: the flow of a wakeup for its wait; 0: none */
    uint32_t thread;                      /* role FLAME: says nothing */
    uint32_t next_of_thread, next_of_gil; /* role GIL: lists below */
    uint32_t next_closing;                /* encoder: list of sequences with END to be written */
    uint32_t closing;                     /* slices whose end is implied; their END is to come */
    uint32_t worst, worst_leaf;           /* encoder: whose hold kept this wait longest */
    int64_t worst_ns;
    int64_t since_ns;      /* encoder: begin of its slice */
    uint32_t holds_before; /* encoder: that were over when it began to wait */
    bool worst_seen, worst_gc, waiting;
    uint16_t gil;
    uint8_t role;
    uint8_t slice; /* enum gs_slice */
    uint32_t tid;  /* encoder, role PROCESSOR: as tracks show it */
    uint8_t tag_bytes, owner_bytes[2];
    uint8_t tag[6];                  /* the field trusted_packet_sequence_id */
    uint8_t owner[2][GS_OWNER_ROOM]; /* role GIL: the whole packets that tell begin and end of
                                        a hold to the track of the GIL's owner */
};

/* Waits for locks and conditions of one thread nest so deep; depth 2 is a lock made of a mutex and
 * a condition. */
#define GS_NESTING_MAX 4

struct gs_open_wait {
    uint64_t object; /* gs_sync_object */
    int64_t since_ns;
};

struct gs_thread_state {
    uint32_t own;       /* its sequence of role THREAD */
    uint32_t pairs;     /* first of its sequences of role GIL */
    uint32_t atomic;    /* its sequence of role ATOMIC */
    uint32_t processor; /* its sequence of role PROCESSOR */
    uint32_t process;
    uint32_t next_of_process;
    uint32_t n_holds; /* GILs that it holds, as far as the trace has told */
    uint32_t n_waits;
    uint32_t n_sections; /* open slices of atomic sections */
    uint32_t depth;      /* of the innermost */
    uint32_t leaf;       /* encoder: of the stack told last, for the slice that ends next … */
    uint8_t leaf_flags;
    bool has_leaf; /* … if there is one */
    int64_t gc_ns; /* encoder: that collections took of its hold, at the least */
    struct gs_open_wait waits[GS_NESTING_MAX];
};

struct gs_gil_state {
    uint64_t flow; /* opened by the last release, for the next hold that waited; 0: none */
    uint32_t process;
    uint32_t pairs;  /* first of its sequences of role GIL */
    uint32_t flame;  /* its sequence of role FLAME */
    uint32_t holder; /* thread, GS_NONE: free or unknown */
    /* encoder: how many wait, how many waits began, the time they took so far; and at the hold's
     * begin. */
    uint32_t n_waiting, n_begun, held_begun;
    uint32_t n_holds; /* encoder: that began */
    int64_t waited_ns, counted_ns, held_waited_ns;
    int64_t asked_ns; /* encoder: when its holder was asked for it first; 0: was not */
};

struct gs_sequences {
    struct gs_sequence *sequences;
    struct gs_thread_state *threads;
    struct gs_gil_state *gils;
    uint32_t *first_of_process; /* thread */
    uint32_t n_sequences, capacity, n_threads, n_gils, n_processes, n_stacks;
    uint32_t own_name;       /* iid of a thread's own name */
    uint64_t steps;          /* along the lists of sequences, which a file can make long */
    struct gs_wakers wakers; /* value: the last of their flows */
};

static inline void gs_sequences_free(struct gs_sequences *s) {
    free(s->sequences);
    free(s->threads);
    free(s->gils);
    free(s->first_of_process);
}

static inline bool gs_grow_array(void **array, size_t n, size_t size) {
    void *moved = realloc(*array, (n + 1) * size);
    if (moved)
        *array = moved;
    return moved != NULL;
}

/* Takes in what the tables have got behind what they had. False: out of memory. */
static inline bool gs_sequences_grow(struct gs_sequences *s, const struct gs_tables *tables) {
    uint32_t n_processes = s->n_processes;
    for (uint32_t i = s->n_threads; i < tables->n_threads; i++)
        if (tables->thread_process[i] >= n_processes)
            n_processes = tables->thread_process[i] + 1;
    if (!gs_grow_array((void **)&s->threads, tables->n_threads, sizeof *s->threads) ||
        !gs_grow_array((void **)&s->gils, tables->n_gils, sizeof *s->gils) ||
        !gs_grow_array((void **)&s->first_of_process, n_processes, sizeof *s->first_of_process))
        return false;
    while (s->n_processes < n_processes)
        s->first_of_process[s->n_processes++] = GS_NONE;
    for (; s->n_threads < tables->n_threads; s->n_threads++) {
        uint32_t process = tables->thread_process[s->n_threads];
        s->threads[s->n_threads] =
            (struct gs_thread_state){.own = GS_NONE,
                                     .pairs = GS_NONE,
                                     .atomic = GS_NONE,
                                     .processor = GS_NONE,
                                     .process = process,
                                     .next_of_process = s->first_of_process[process]};
        s->first_of_process[process] = s->n_threads;
    }
    for (; s->n_gils < tables->n_gils; s->n_gils++)
        s->gils[s->n_gils] = (struct gs_gil_state){.process = tables->gil_process[s->n_gils],
                                                   .pairs = GS_NONE,
                                                   .flame = GS_NONE,
                                                   .holder = GS_NONE};
    s->n_stacks = tables->n_stacks;
    return true;
}

/* False: out of memory. */
static inline bool gs_sequences_init(struct gs_sequences *s, const struct gs_tables *tables,
                                     uint32_t own_name) {
    *s = (struct gs_sequences){.own_name = own_name};
    if (gs_sequences_grow(s, tables))
        return true;
    gs_sequences_free(s);
    return false;
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
                                   uint32_t own_name, enum gs_type type) {
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
        *p++ = (uint8_t)own_name;
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
    } else if (role == GS_ROLE_ATOMIC) {
        s->threads[thread].atomic = index;
    } else if (role == GS_ROLE_PROCESSOR) {
        s->threads[thread].processor = index;
    } else if (role == GS_ROLE_FLAME) {
        s->gils[gil].flame = index;
    } else {
        added->owner_bytes[0] = gs_put_owner(added->owner[0], added, s->own_name, GS_BEGIN);
        added->owner_bytes[1] = gs_put_owner(added->owner[1], added, s->own_name, GS_END);
        added->next_of_thread = s->threads[thread].pairs;
        s->threads[thread].pairs = index;
        added->next_of_gil = s->gils[gil].pairs;
        s->gils[gil].pairs = index;
    }
    return index;
}

static inline uint32_t gs_sequences_find(struct gs_sequences *s, uint32_t thread, uint16_t gil) {
    uint32_t index = s->threads[thread].pairs;
    for (; index != GS_NONE && s->sequences[index].gil != gil; s->steps++)
        index = s->sequences[index].next_of_thread;
    return index;
}

static inline void gs_sequence_set(struct gs_sequences *s, struct gs_sequence *sequence,
                                   enum gs_slice slice) {
    s->threads[sequence->thread].n_holds +=
        (slice == GS_SLICE_HOLD) - (sequence->slice == GS_SLICE_HOLD);
    sequence->slice = (uint8_t)slice;
}

/* How many arrows leave a notify or a release. */
static inline uint32_t gs_flows_of(const struct gs_event *event) {
    uint64_t woken = event->arg >> GS_SYNC_DETAIL_SHIFT;
    if (event->kind == GS_LOCK_RELEASE)
        return 1;
    return woken < GS_FLOWS_MAX ? (uint32_t)woken : GS_FLOWS_MAX;
}

/* The pair of a thread that a wakeup by another pair of the same GIL is for, if the trace shows it
 * waiting; else GS_NONE. */
static inline uint32_t gs_sequences_woken(struct gs_sequences *s, uint32_t thread, uint16_t gil) {
    uint32_t index = gs_sequences_find(s, thread, gil);
    return index != GS_NONE && s->sequences[index].slice == GS_SLICE_WAIT ? index : GS_NONE;
}

/* How many slices a sequence has open. */
static inline uint32_t gs_sequence_open(const struct gs_sequences *s, uint32_t index) {
    const struct gs_sequence *sequence = &s->sequences[index];
    const struct gs_thread_state *thread = &s->threads[sequence->thread];
    switch (sequence->role) {
    case GS_ROLE_GIL:
        return sequence->slice != GS_SLICE_NONE;
    case GS_ROLE_THREAD:
        return thread->n_waits;
    case GS_ROLE_ATOMIC:
        return thread->n_sections;
    default:
        return 0;
    }
}

/* Begins to close them: so many END packets must follow. */
static inline uint32_t gs_sequence_close(struct gs_sequences *s, uint32_t index) {
    struct gs_sequence *sequence = &s->sequences[index];
    struct gs_thread_state *thread = &s->threads[sequence->thread];
    sequence->closing = gs_sequence_open(s, index);
    sequence->wakeup = 0;
    if (sequence->role == GS_ROLE_THREAD)
        thread->n_waits = 0;
    else if (sequence->role == GS_ROLE_ATOMIC)
        thread->n_sections = 0;
    return sequence->closing;
}

typedef void gs_close_call(void *context, uint32_t index);

static inline void gs_sequences_close_own(struct gs_sequences *s, uint32_t thread,
                                          gs_close_call *close, void *context) {
    const struct gs_thread_state *its = &s->threads[thread];
    if (its->n_waits)
        close(context, its->own);
    if (its->n_sections)
        close(context, its->atomic);
}

/* Calls close(context, index) for each sequence that `event`, one that closes slices, can concern.
 * What lies inside is called later. */
static inline void gs_sequences_close(struct gs_sequences *s, const struct gs_event *event,
                                      gs_close_call *close, void *context) {
    uint32_t process = s->threads[event->thread].process;
    switch (event->kind) {
    case GS_THREAD_END:
        for (uint32_t i = s->threads[event->thread].pairs; i != GS_NONE;
             i = s->sequences[i].next_of_thread, s->steps++)
            close(context, i);
        gs_sequences_close_own(s, event->thread, close, context);
        return;
    case GS_THREAD_LOST:
        gs_sequences_close_own(s, event->thread, close, context);
        return;
    }
    const bool of_one = event->kind == GS_GIL_LOST;
    const uint32_t end = of_one ? event->gil + UINT32_C(1) : s->n_gils;
    for (uint32_t gil = of_one ? event->gil : 0; gil < end; gil++, s->steps++) {
        if (s->gils[gil].process != process)
            continue;
        s->gils[gil].flow = 0;
        for (uint32_t i = s->gils[gil].pairs; i != GS_NONE;
             i = s->sequences[i].next_of_gil, s->steps++) {
            const struct gs_sequence *pair = &s->sequences[i];
            bool waits = pair->slice == GS_SLICE_WAIT;
            close(context, i);
            if (waits && event->kind == GS_GIL_LOST && s->threads[pair->thread].n_waits)
                close(context, s->threads[pair->thread].own);
        }
    }
    if (event->kind == GS_PROCESS_END)
        for (uint32_t i = s->first_of_process[process]; i != GS_NONE;
             i = s->threads[i].next_of_process, s->steps++)
            gs_sequences_close_own(s, i, close, context);
}

#endif

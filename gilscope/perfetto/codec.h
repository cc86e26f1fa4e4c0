/* The calls of encode.c and decode.c. codec.py has the same structures for ctypes. */
#ifndef GILSCOPE_PERFETTO_CODEC_H
#define GILSCOPE_PERFETTO_CODEC_H

#include "../trace/event.h"
#include "format.h"

struct gs_encoder;
struct gs_decoder;

/* Tables of a recording: the process of each thread and of each GIL. */
struct gs_tables {
    uint32_t n_threads;
    const uint32_t *thread_process;
    uint32_t n_gils;
    const uint32_t *gil_process;
    uint32_t n_stacks;
};

enum gs_encode_status {
    GS_ENCODE_DONE = 0,         /* the batch is encoded */
    GS_ENCODE_FULL = 1,         /* no room left in the output */
    GS_ENCODE_NEW_SEQUENCE = 2, /* write the packet that introduces `sequence`, then go on */
    GS_ENCODE_IMPOSSIBLE = 3,   /* the event at `consumed` cannot be encoded: `message` */
    GS_ENCODE_NO_MEMORY = 4,
    GS_ENCODE_DETAIL = 5, /* gs_encoder_detail of `detail`, which was not told before, then go on */
};

#define GS_DETAIL_NS INT64_C(1000000) /* slices from this length on have one */

/* What people want to know of a long hold or wait. It is derived: no reader needs it. */
struct gs_detail {
    int64_t start_ns, end_ns;
    int64_t other_ns;    /* hold: sum of the waits for it; wait: its part under one hold */
    uint32_t thread;     /* whose slice it is */
    uint32_t leaf;       /* of its stack; UINT32_MAX: none */
    uint32_t others;     /* hold: how many threads waited meanwhile; wait: how many holds were */
    uint32_t holder;     /* wait: whose hold kept it longest; UINT32_MAX: nobody's */
    uint32_t other_leaf; /* of that hold's stack */
    uint16_t gil;
    uint8_t of_wait, yielded;
    uint8_t seen, other_seen; /* the line is where a requester saw the holder */
    uint16_t some;        /* wait, none of whose holds took half of it: about how many there were */
    uint8_t gc, other_gc; /* its time went to garbage collections */
    uint16_t pad[1];
};

struct gs_encode_result {
    uint64_t consumed; /* events */
    uint64_t written;  /* bytes */
    uint64_t packets;  /* among those bytes */
    const char *message;
    uint32_t sequence; /* its trusted_packet_sequence_id */
    uint32_t role;     /* enum gs_role */
    uint32_t thread;
    uint32_t gil;
    struct gs_detail detail;
};

/* A handle for gs_encode, or NULL: out of memory. Events before `start_ns` are refused. */
GS_EXPORT struct gs_encoder *gs_encoder_new(int64_t start_ns, const struct gs_tables *tables);

/* The tables have grown: what they had stands where it was. 0, or -1: out of memory. */
GS_EXPORT int gs_encoder_grow(struct gs_encoder *encoder, const struct gs_tables *tables);
GS_EXPORT void gs_encoder_free(struct gs_encoder *encoder);

/* Encodes from `events` until the batch ends, `room` bytes are used or the caller must act; an
 * enum gs_encode_status. With NEW_SEQUENCE and FULL call again with the events not consumed. */
GS_EXPORT int gs_encode(struct gs_encoder *encoder, const struct gs_event *events,
                        uint64_t n_events, uint8_t *out, uint64_t room,
                        struct gs_encode_result *result);

/* What is the same in each detail that differs in times and counts alone; and InternedData that
 * its packets have to bring along, this time only. */
struct gs_detail_parts {
    const uint8_t *annotations; /* of the TrackEvent that begins it, but for those of counts */
    uint64_t n_annotations;
    const uint8_t *slice; /* its type and name */
    uint64_t n_slice;
    const uint8_t *interned; /* for its own sequence */
    uint64_t n_interned;
    const uint32_t *frames; /* names on the flame's sequence, outermost first */
    uint64_t n_frames;
    const uint8_t *frames_interned; /* for that */
    uint64_t n_frames_interned;
};

/* Writes the detail that gs_encode has asked for to `out`, and keeps its parts for those like it,
 * which gs_encode writes by itself. Returns the bytes written, or 0: `room` is too small (0 bytes
 * is never an answer); `*needed` is what it takes. */
GS_EXPORT uint64_t gs_encoder_detail(struct gs_encoder *encoder, const struct gs_detail *detail,
                                     const struct gs_detail_parts *parts, uint8_t *out,
                                     uint64_t room, uint64_t *needed);

/* What a sequence of role PROCESSOR, which gs_encode has asked for, is to show: the thread's
 * number, and how far CLOCK_BOOTTIME is ahead. */
GS_EXPORT void gs_encoder_show(struct gs_encoder *encoder, uint32_t sequence, uint32_t tid,
                               int64_t boottime_offset_ns);

/* The thread of a slice that is still open, or -1: none is, as it must be at the end. */
GS_EXPORT int64_t gs_encoder_open_thread(const struct gs_encoder *encoder);

/* Text of an interned name (`table` 0), category (1), annotation's name (2) or, counted from 1
 * behind those, name of a detail's annotation (3); NULL past the end. */
GS_EXPORT const char *gs_format_name(int table, uint32_t iid);

enum gs_decode_status {
    GS_DECODE_NEED_INPUT = 0, /* all whole packets are decoded */
    GS_DECODE_FULL = 1,       /* no room left in the output */
    GS_DECODE_RARE = 2,    /* a packet for the caller: `packet_offset`, `packet_bytes`; consumed */
    GS_DECODE_CORRUPT = 3, /* `message`, about the packet at `consumed` */
};

struct gs_decode_result {
    uint64_t consumed;                    /* bytes of input */
    uint64_t events;                      /* written to the output */
    uint64_t packets;                     /* hot ones among the consumed bytes */
    uint64_t packet_offset, packet_bytes; /* a rare packet's body in the input */
    uint64_t needed;     /* input that the packet at `consumed` takes; 0: not known yet */
    uint64_t last_event; /* offset of the packet of the last event written */
    const char *message;
};

/* A handle for gs_decode, or NULL: out of memory. `own_name` is the iid of a thread's own name in
 * the file's format. */
GS_EXPORT struct gs_decoder *gs_decoder_new(const struct gs_tables *tables, uint32_t own_name);
GS_EXPORT void gs_decoder_free(struct gs_decoder *decoder);

/* Registers packet sequence `sequence`, introduced by a rare packet; its clock begins at `time_ns`.
 * NULL, or what is wrong with it. */
GS_EXPORT const char *gs_decoder_introduce(struct gs_decoder *decoder, uint32_t sequence,
                                           uint32_t role, uint32_t thread, uint32_t gil,
                                           int64_t time_ns);

/* Decodes until the input ends, `room` events are written or the caller must act; an enum
 * gs_decode_status. Call again with the input from `consumed` on. After CORRUPT the decoder is of
 * no further use. */
GS_EXPORT int gs_decode(struct gs_decoder *decoder, const uint8_t *input, uint64_t n_input,
                        struct gs_event *events, uint64_t room, struct gs_decode_result *result);

/* What is wrong with a trace that ends here; NULL: nothing, all slices are closed. */
GS_EXPORT const char *gs_decoder_finish(const struct gs_decoder *decoder);

#endif

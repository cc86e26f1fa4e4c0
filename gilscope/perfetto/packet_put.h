/* Writes one hot packet (format.h). Part of encode.c, which alone includes it. */
#ifndef GILSCOPE_PERFETTO_PACKET_PUT_H
#define GILSCOPE_PERFETTO_PACKET_PUT_H

#include "sequences.h"

struct packet {
    enum gs_type type;
    uint8_t category;
    uint8_t annotation; /* enum gs_annotation of `value`; 0: none */
    bool of_object;     /* has `object` */
    uint32_t name;
    int64_t waiters; /* -1: none */
    uint64_t object; /* address */
    uint64_t value;
    uint64_t flow; /* the first of n_flows in a row; 0: none */
    uint32_t n_flows;
    uint64_t terminating[2]; /* 0: none */
};

static inline uint8_t *put_fixed64(uint8_t *p, uint64_t value) {
    for (int i = 0; i < 8; i++)
        p[i] = (uint8_t)(value >> 8 * i);
    return p + 8;
}

static inline uint8_t *put_annotation(uint8_t *p, uint8_t name, uint8_t tag, uint64_t value) {
    uint8_t *annotation = p;
    annotation[0] = GS_TAG_ANNOTATION;
    annotation[2] = GS_TAG_ANNOTATION_NAME;
    annotation[3] = name;
    annotation[4] = tag;
    p = gs_put_varint(annotation + 5, value);
    annotation[1] = (uint8_t)(p - annotation - 2);
    return p;
}

static inline uint8_t *put_terminating(uint8_t *p, uint64_t flow) {
    if (!flow)
        return p;
    *p++ = GS_TAG_TERMINATING_0;
    *p++ = GS_TAG_TERMINATING_1;
    return put_fixed64(p, flow);
}

/* Always inlined: `packet` is a constant but for a field or two at each call. */
static inline __attribute__((always_inline)) uint8_t *
put_packet(uint8_t *p, struct gs_sequence *sequence, int64_t time_ns, const struct packet packet) {
    uint8_t *head = p;
    p[0] = GS_TAG_PACKET;
    p[2] = GS_TAG_TIMESTAMP;
    p = gs_put_varint(p + 3, (uint64_t)time_ns - (uint64_t)sequence->time_ns);
    sequence->time_ns = time_ns;
    memcpy(p, sequence->tag, sizeof sequence->tag);
    p += sequence->tag_bytes;
    *p++ = GS_TAG_TRACK_EVENT;
    uint8_t *body = ++p;
    if (packet.category) {
        *p++ = GS_TAG_CATEGORY;
        *p++ = packet.category;
    }
    if (packet.of_object)
        p = put_annotation(p, GS_ANNOTATION_OBJECT, GS_TAG_ANNOTATION_POINTER, packet.object);
    if (packet.annotation)
        p = put_annotation(p, packet.annotation, GS_TAG_ANNOTATION_UINT, packet.value);
    *p++ = GS_TAG_TYPE;
    *p++ = (uint8_t)packet.type;
    if (packet.name) {
        *p++ = GS_TAG_NAME;
        p = gs_put_varint(p, packet.name);
    }
    if (packet.waiters >= 0) {
        *p++ = GS_TAG_COUNTER;
        p = gs_put_varint(p, (uint64_t)packet.waiters);
    }
    for (uint32_t i = 0; i < packet.n_flows; i++) {
        *p++ = GS_TAG_FLOW_0;
        *p++ = GS_TAG_FLOW_1;
        p = put_fixed64(p, packet.flow + i);
    }
    p = put_terminating(p, packet.terminating[0]);
    p = put_terminating(p, packet.terminating[1]);
    body[-1] = (uint8_t)(p - body);
    *p++ = GS_TAG_FLAGS;
    *p++ = GS_FLAGS_NEEDS_STATE;
    head[1] = (uint8_t)(p - head - 2);
    return p;
}

/* The same begin or end of a hold, for the track of the GIL's owner. */
static inline uint8_t *put_owner(uint8_t *p, const struct gs_sequence *pair, enum gs_type type) {
    memcpy(p, pair->owner[type - GS_BEGIN], GS_OWNER_ROOM);
    return p + pair->owner_bytes[type - GS_BEGIN];
}

#endif

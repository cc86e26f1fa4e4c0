/* Reads one hot packet (format.h). Part of decode.c, which alone includes it. */
#ifndef GILSCOPE_PERFETTO_PACKET_GET_H
#define GILSCOPE_PERFETTO_PACKET_GET_H

#include "sequences.h"

/* A hot packet's fields. */
struct packet {
    uint64_t delta, waiters, object, value, flow;
    uint64_t terminating[2];
    uint32_t n_flows; /* they count up from `flow` */
    uint8_t type, category, name;
    uint8_t annotation; /* enum gs_annotation of `value`; 0: none */
    bool has_waiters, has_object;
};

/* The parsers below read a field without looking where the packet ends, which is checked once, when
 * all fields are read. They never get further than this from the beginning of a packet's body: the
 * caller makes sure that so much can be read. */
#define READABLE 160
static_assert(2 * 11 + 4 + 2 * 15 + 2 + 11 + (GS_FLOWS_MAX + 2) * 10 + 8 <= READABLE,
              "every field once, of its greatest length, and a word more");

/* No hot packet's body is as long: its length takes one byte. */
#define HOT_BYTES 128

static inline const uint8_t *get_varint(const uint8_t *p, uint64_t *value) {
    if (*p < 128) {
        *value = *p;
        return p + 1;
    }
    /* Eight bytes at once: their lengths are as good as random, so a loop mispredicts. */
    uint64_t word = 0;
    for (int i = 0; i < 8; i++)
        word |= (uint64_t)p[i] << 8 * i;
    uint64_t stops = ~word & UINT64_C(0x8080808080808080);
    uint64_t kept = (stops ? word & (stops ^ (stops - 1)) : word) & UINT64_C(0x7f7f7f7f7f7f7f7f);
    kept = (kept & UINT64_C(0x007f007f007f007f)) | (kept & UINT64_C(0x7f007f007f007f00)) >> 1;
    kept = (kept & UINT64_C(0x00003fff00003fff)) | (kept & UINT64_C(0x3fff00003fff0000)) >> 2;
    kept = (kept & UINT64_C(0x000000000fffffff)) | (kept & UINT64_C(0x0fffffff00000000)) >> 4;
    if (stops) {
        *value = kept;
        return p + (__builtin_ctzll(stops) >> 3) + 1;
    }
    *value = kept | (uint64_t)(p[8] & 127) << 56 | (p[8] > 127 ? (uint64_t)p[9] << 63 : 0);
    return p + (p[8] > 127 ? 10 : 9);
}

static inline uint64_t get_fixed64(const uint8_t *p) {
    uint64_t value = 0;
    for (int i = 0; i < 8; i++)
        value |= (uint64_t)p[i] << 8 * i;
    return value;
}

/* One annotation; NULL: not in its canonical form. */
static inline const uint8_t *get_annotation(const uint8_t *p, uint8_t tag, uint64_t *value) {
    const uint8_t *annotation = p + 2;
    uint8_t length = p[1];
    if (p[2] != GS_TAG_ANNOTATION_NAME || p[4] != tag)
        return NULL;
    p = get_varint(p + 5, value);
    return p - annotation == length ? p : NULL;
}

static inline const uint8_t *get_annotations(const uint8_t *p, struct packet *packet) {
    if (p[3] == GS_ANNOTATION_OBJECT) {
        packet->has_object = true;
        p = get_annotation(p, GS_TAG_ANNOTATION_POINTER, &packet->object);
        if (!p || *p != GS_TAG_ANNOTATION)
            return p;
    }
    packet->annotation = p[3];
    return packet->annotation ? get_annotation(p, GS_TAG_ANNOTATION_UINT, &packet->value) : NULL;
}

static inline const uint8_t *get_terminating(const uint8_t *p, uint64_t *flow) {
    if (p[0] != GS_TAG_TERMINATING_0 || p[1] != GS_TAG_TERMINATING_1)
        return p;
    *flow = get_fixed64(p + 2);
    return p + 10;
}

/* The body of a hot packet from its track_event on, in the canonical form of format.h. */
static inline bool get_body(const uint8_t *p, const uint8_t *end, struct packet *packet) {
    if (end - p < 4 || p[0] != GS_TAG_TRACK_EVENT || p[1] != end - p - 4 ||
        end[-2] != GS_TAG_FLAGS || end[-1] != GS_FLAGS_NEEDS_STATE)
        return false;
    end -= 2;
    p += 2;
    packet->category = GS_CATEGORY_NONE;
    if (*p == GS_TAG_CATEGORY) {
        packet->category = p[1];
        p += 2;
    }
    packet->annotation = GS_ANNOTATION_NONE;
    packet->has_object = false;
    packet->object = packet->value = 0;
    if (*p == GS_TAG_ANNOTATION && !(p = get_annotations(p, packet)))
        return false;
    if (p[0] != GS_TAG_TYPE)
        return false;
    packet->type = p[1];
    p += 2;
    packet->name = GS_NAME_NONE;
    if (*p == GS_TAG_NAME) {
        packet->name = p[1];
        p += 2;
    }
    packet->waiters = 0;
    packet->has_waiters = *p == GS_TAG_COUNTER;
    if (packet->has_waiters)
        p = get_varint(p + 1, &packet->waiters);
    packet->flow = packet->n_flows = 0;
    while (p[0] == GS_TAG_FLOW_0 && p[1] == GS_TAG_FLOW_1 && packet->n_flows < GS_FLOWS_MAX) {
        uint64_t flow = get_fixed64(p + 2);
        if (packet->n_flows == 0)
            packet->flow = flow;
        else if (flow != packet->flow + packet->n_flows)
            return false;
        packet->n_flows++;
        p += 10;
    }
    packet->terminating[0] = packet->terminating[1] = 0;
    p = get_terminating(p, &packet->terminating[0]);
    p = get_terminating(p, &packet->terminating[1]);
    return p == end && packet->waiters <= GS_WAITERS_MAX;
}

#endif

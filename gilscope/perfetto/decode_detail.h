/* Passes the details of long slices by (format.h). Part of decode.c, which alone includes it.
 *
 * What a detail says is free: names, annotations and interned texts are not looked at. It must
 * stand where it cannot be taken for anything else, and leave the sequence's clock right. */
#ifndef GILSCOPE_PERFETTO_DECODE_DETAIL_H
#define GILSCOPE_PERFETTO_DECODE_DETAIL_H

/* A varint of at most 4 bytes at `p`, of what ends at `end`; NULL: there is none. */
static inline const uint8_t *get_small(const uint8_t *p, const uint8_t *end, uint32_t *value) {
    *value = 0;
    for (int shift = 0; shift < 28 && p < end; shift += 7) {
        *value |= (uint32_t)(*p & 127) << shift;
        if (*p++ < 128)
            return p;
    }
    return NULL;
}

/* What is behind the tag and the length at `p`, of what ends at `end`; `*length` is that. */
static inline const uint8_t *get_inside(const uint8_t *p, const uint8_t *end, uint8_t tag,
                                        uint32_t *length) {
    if (p == end || *p != tag)
        return NULL;
    p = get_small(p + 1, end, length);
    return p && *length <= (uint64_t)(end - p) ? p : NULL;
}

/* The type of the slice that a packet of a detail begins or ends, and what follows it; its body
 * goes from its track_event at `p` to *end, which is moved to that's end. 0: it is no such packet.
 */
static inline enum gs_type type_of_slice(const uint8_t **p, const uint8_t **end) {
    uint32_t length;
    *p = get_inside(*p, *end, GS_TAG_TRACK_EVENT, &length);
    if (!*p)
        return 0;
    *end = *p + length;
    for (const uint8_t *inside; (inside = get_inside(*p, *end, GS_TAG_ANNOTATION, &length));)
        *p = inside + length;
    if (*end - *p < 2 || (*p)[0] != GS_TAG_TYPE || ((*p)[1] != GS_BEGIN && (*p)[1] != GS_END))
        return 0;
    *p += 2;
    return (enum gs_type)(*p)[-1];
}

/* Whether it begins a detail's slice. */
static bool begins_detail(const uint8_t *p, const uint8_t *end, uint32_t own_name) {
    uint32_t name;
    if (type_of_slice(&p, &end) != GS_BEGIN || end - p < 2)
        return false;
    if (p[0] == GS_TAG_NAME)
        return get_small(p + 1, end, &name) == end && name > own_name;
    return p[0] == GS_TAG_TEXT_0 && p[1] == GS_TAG_TEXT_1;
}

/* A packet in no hot form; its body is `length` bytes and has its track_event at `event`. */
static const char *on_detail(struct gs_decoder *decoder, uint32_t index, uint64_t delta,
                             const uint8_t *body, uint64_t event, uint64_t length) {
    static const uint8_t monotonic[] = {GS_TAG_CLOCK_0, GS_TAG_CLOCK_1, GS_MONOTONIC};
    const struct gs_sequence *pair = &decoder->all.sequences[index];
    if (event > length || !begins_detail(body + event, body + length, decoder->all.own_name) ||
        pair->role != GS_ROLE_GIL)
        return "a packet in a form that gilscope does not write";
    if (decoder->next != GS_NONE || decoder->closing)
        return apart;
    if (pair->slice != GS_SLICE_WAIT && pair->slice != GS_SLICE_HOLD)
        return "a detail of nothing";
    if (delta && (length < sizeof monotonic ||
                  memcmp(body + length - sizeof monotonic, monotonic, sizeof monotonic) != 0))
        return "a detail at a time of its own";
    decoder->due = DUE_DETAIL_END;
    decoder->next = index;
    return NULL;
}

/* The packet that ends a detail; the end of its slice follows on the same sequence. */
static bool on_detail_end(struct gs_decoder *decoder, const uint8_t *body, uint64_t length) {
    static const uint8_t rest[] = {GS_TAG_TRACK_EVENT, 2, GS_TAG_TYPE, GS_END};
    struct gs_sequence *pair = &decoder->all.sequences[decoder->next];
    uint64_t tail = pair->tag_bytes + sizeof rest, delta = 0;
    if (length < 2 + tail || length > 11 + tail || *body != GS_TAG_TIMESTAMP)
        return false;
    const uint8_t *end = body + length - tail, *p = body + 1;
    for (unsigned shift = 0; p < end; p++, shift += 7) {
        delta |= (uint64_t)(*p & 127) << shift;
        if ((*p > 127) != (p + 1 < end))
            return false;
    }
    if (memcmp(end, pair->tag, pair->tag_bytes) != 0 ||
        memcmp(end + pair->tag_bytes, rest, sizeof rest) != 0 ||
        delta > (uint64_t)(INT64_MAX - pair->time_ns))
        return false;
    pair->time_ns += (int64_t)delta;
    return true;
}

/* The end of a slice in the form of a hot packet, but for the annotations of its detail, from its
 * track_event at `p`. False: it is none. */
static bool get_told_end(const uint8_t *p, const uint8_t *end, struct packet *packet) {
    uint32_t length;
    const uint8_t *own = get_inside(p, end, GS_TAG_TRACK_EVENT, &length);
    if (!own || length != end - own - 2)
        return false;
    for (const uint8_t *inside; (inside = get_inside(own, end - 2, GS_TAG_ANNOTATION, &length));)
        own = inside + length;
    uint8_t hot[READABLE] = {GS_TAG_TRACK_EVENT};
    const uint64_t n = (uint64_t)(end - own);
    if (n + 2 > HOT_BYTES)
        return false;
    hot[1] = (uint8_t)(n - 2);
    memcpy(hot + 2, own, n);
    return get_body(hot, hot + 2 + n, packet) && packet->type == GS_END;
}

/* A packet of a flame's sequence: a slice begins or ends. */
static const char *on_flame(const struct gs_decoder *decoder, const uint8_t *body, uint64_t event,
                            uint64_t length) {
    if (decoder->next != GS_NONE || decoder->closing)
        return apart;
    const uint8_t *p = body + event, *end = body + length;
    return event <= length && type_of_slice(&p, &end) ? NULL
                                                      : "a packet of a flame that is no slice";
}

#endif

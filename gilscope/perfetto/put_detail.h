/* Writes the packets of a detail. Part of encode.c, which alone includes it.
 *
 * What they say but for times and counts is the same for each slice of a thread that ends at one
 * place (because of one hold). So the caller makes those parts once (details.py), with protobuf's
 * classes, and they are kept here, by what they are made of; two that fall on one place in the
 * table displace each other. */
#ifndef GILSCOPE_PERFETTO_PUT_DETAIL_H
#define GILSCOPE_PERFETTO_PUT_DETAIL_H

#include <stdlib.h>
#include <string.h>

struct gs_kept_parts {
    struct gs_detail key; /* without times and counts */
    uint32_t n_event, n_flame, n_frames;
    uint8_t bytes[]; /* of the event, then of the flame */
};

enum {
    KEPT_BYTES = 1 << 14, /* longer ones are made each time: the table stays below 16 MiB */
    PACKET_BYTES = 48,    /* of a packet besides its event, with the most of counts in that */
};

static struct gs_detail key_of(const struct gs_detail *detail) {
    struct gs_detail key = *detail;
    key.start_ns = key.end_ns = key.other_ns = 0;
    key.others = 0;
    return key;
}

static struct gs_kept_parts **place_of(struct gs_encoder *encoder, const struct gs_detail *key) {
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < sizeof *key; i++)
        hash = (hash ^ ((const uint8_t *)key)[i]) * 16777619u;
    return &encoder->parts[hash % GS_KEPT_PARTS];
}

static const struct gs_kept_parts *kept_parts(struct gs_encoder *encoder,
                                              const struct gs_detail *detail) {
    struct gs_detail key = key_of(detail);
    const struct gs_kept_parts *kept = *place_of(encoder, &key);
    return kept && memcmp(&kept->key, &key, sizeof key) == 0 ? kept : NULL;
}

/* All of it: without memory they are made again. */
static void keep_parts(struct gs_encoder *encoder, const struct gs_detail *detail,
                       const struct gs_detail_parts *parts) {
    uint64_t n = parts->n_event + parts->n_flame;
    struct gs_kept_parts *kept = n <= KEPT_BYTES ? malloc(sizeof *kept + n) : NULL;
    if (!kept)
        return;
    *kept = (struct gs_kept_parts){.key = key_of(detail),
                                   .n_event = (uint32_t)parts->n_event,
                                   .n_flame = (uint32_t)parts->n_flame,
                                   .n_frames = parts->n_frames};
    memcpy(kept->bytes, parts->event, parts->n_event);
    memcpy(kept->bytes + parts->n_event, parts->flame, parts->n_flame);
    struct gs_kept_parts **place = place_of(encoder, &kept->key);
    free(*place);
    *place = kept;
}

/* The most bytes that put_detail writes. */
static uint64_t detail_room(uint64_t n_event, uint64_t n_flame, uint64_t n_frames) {
    return n_event + n_flame + (2 + 2 * n_frames) * PACKET_BYTES + 2 * GS_COUNT_ROOM;
}

static unsigned varint_bytes(uint64_t value) {
    unsigned n = 1;
    while (value >>= 7)
        n++;
    return n;
}

static uint8_t *put_text(uint8_t *p, const void *text, uint64_t n) {
    memcpy(p, text, n);
    return p + n;
}

/* One packet of the main sequence, of an event in two pieces. */
static uint8_t *put_event(uint8_t *p, int64_t time_ns, const void *event, uint64_t n_event,
                          const void *more, uint64_t n_more) {
    static const uint8_t main_sequence[] = {GS_TAG_SEQUENCE, GS_MAIN_SEQUENCE, GS_TAG_TRACK_EVENT};
    static const uint8_t monotonic[] = {GS_TAG_CLOCK_0, GS_TAG_CLOCK_1, GS_MONOTONIC};
    uint64_t n = n_event + n_more;
    *p++ = GS_TAG_PACKET;
    p = gs_put_varint(p, 1 + varint_bytes((uint64_t)time_ns) + sizeof main_sequence +
                             varint_bytes(n) + n + sizeof monotonic);
    *p++ = GS_TAG_TIMESTAMP;
    p = gs_put_varint(p, (uint64_t)time_ns);
    p = put_text(p, main_sequence, sizeof main_sequence);
    p = gs_put_varint(p, n);
    p = put_text(p, event, n_event);
    p = put_text(p, more, n_more);
    return put_text(p, monotonic, sizeof monotonic);
}

static uint8_t *put_end(uint8_t *p, int64_t time_ns, uint64_t track) {
    uint8_t event[16], *end = event;
    *end++ = GS_TAG_TYPE;
    *end++ = GS_END;
    *end++ = GS_TAG_TRACK;
    end = gs_put_varint(end, track);
    return put_event(p, time_ns, event, (uint64_t)(end - event), NULL, 0);
}

/* An annotation of a count, as annotations.py has it. */
static uint8_t *put_count(uint8_t *p, const char *name, uint64_t value) {
    size_t n = strlen(name);
    *p++ = GS_TAG_ANNOTATION;
    *p++ = (uint8_t)(2 + n + 1 + varint_bytes(value));
    *p++ = GS_TAG_ANNOTATION_TEXT;
    *p++ = (uint8_t)n;
    p = put_text(p, name, n);
    *p++ = GS_TAG_ANNOTATION_INT;
    return gs_put_varint(p, value);
}

static uint8_t *put_detail(uint8_t *p, const struct gs_detail *detail,
                           const struct gs_detail_parts *parts) {
    uint8_t counts[2 * GS_COUNT_ROOM], *end = counts;
    if (!detail->of_wait)
        end = put_count(end, "kept_waiting", detail->others);
    if (!detail->of_wait || detail->holder != GS_NONE)
        end = put_count(end, detail->of_wait ? "waited_for_ns" : "kept_waiting_ns",
                        (uint64_t)detail->other_ns);
    p = put_event(p, detail->start_ns, counts, (uint64_t)(end - counts), parts->event,
                  parts->n_event);
    p = put_end(p, detail->end_ns, GS_THREAD_TRACK(detail->thread));
    const uint8_t *frame = parts->flame;
    for (uint32_t i = 0; i < parts->n_frames; i++) {
        uint32_t n;
        memcpy(&n, frame, sizeof n);
        p = put_event(p, detail->start_ns, frame + sizeof n, n, NULL, 0);
        frame += sizeof n + n;
    }
    for (uint32_t i = 0; i < parts->n_frames; i++)
        p = put_end(p, detail->end_ns, GS_FLAME_TRACK(detail->gil));
    return p;
}

#endif

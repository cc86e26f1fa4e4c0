/* Writes the packets of a detail (format.h). Part of encode.c, which alone includes it.
 *
 * What they say but for times and counts is the same for each slice of a thread that ends at one
 * place (because of one hold). So the caller makes those parts once (details.py), with protobuf's
 * classes, and they are kept here, by what they are made of; of those that fall on the same places
 * in the table the newest stay. */
#ifndef GILSCOPE_PERFETTO_PUT_DETAIL_H
#define GILSCOPE_PERFETTO_PUT_DETAIL_H

#include <stdlib.h>
#include <string.h>

struct gs_kept_parts {
    struct gs_detail key; /* without times and counts */
    uint32_t n_frames, n_annotations, n_slice;
    uint32_t frames[]; /* and behind them those */
};

enum {
    WAYS = 8,
    KEPT_BYTES = 1 << 14, /* longer ones are made each time: the table stays below 16 MiB */
    /* The most that packets take besides what the caller made. */
    BEGIN_BYTES = 80,
    END_BYTES = 32,
    FRAME_BYTES = 40 + END_BYTES,
};

static struct gs_detail key_of(const struct gs_detail *detail) {
    struct gs_detail key = *detail;
    key.start_ns = key.end_ns = key.other_ns = 0;
    key.others = 0;
    return key;
}

/* The first of the WAYS places where it may be kept. */
static struct gs_kept_parts **places_of(struct gs_encoder *encoder, const struct gs_detail *key) {
    uint64_t hash = 0;
    for (size_t i = 0; i < sizeof *key / sizeof hash; i++) {
        uint64_t word;
        memcpy(&word, (const uint8_t *)key + i * sizeof word, sizeof word);
        hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
        hash ^= hash >> 32;
    }
    return &encoder->parts[hash % (GS_KEPT_PARTS / WAYS) * WAYS];
}
static_assert(sizeof(struct gs_detail) % sizeof(uint64_t) == 0, "whole words");

static const struct gs_kept_parts *kept_parts(struct gs_encoder *encoder,
                                              const struct gs_detail *detail) {
    struct gs_detail key = key_of(detail);
    struct gs_kept_parts **places = places_of(encoder, &key);
    for (int i = 0; i < WAYS && places[i]; i++)
        if (memcmp(&places[i]->key, &key, sizeof key) == 0)
            return places[i];
    return NULL;
}

static struct gs_detail_parts parts_of(const struct gs_kept_parts *kept) {
    const uint8_t *annotations = (const uint8_t *)(kept->frames + kept->n_frames);
    return (struct gs_detail_parts){.annotations = annotations,
                                    .n_annotations = kept->n_annotations,
                                    .slice = annotations + kept->n_annotations,
                                    .n_slice = kept->n_slice,
                                    .frames = kept->frames,
                                    .n_frames = kept->n_frames};
}

static uint8_t *put_bytes(uint8_t *p, const void *bytes, uint64_t n) {
    if (n)
        memcpy(p, bytes, n);
    return p + n;
}

/* All of them: without memory they are made again. */
static void keep_parts(struct gs_encoder *encoder, const struct gs_detail *detail,
                       const struct gs_detail_parts *parts) {
    uint64_t n_frames = parts->n_frames * sizeof *parts->frames;
    uint64_t n = n_frames + parts->n_annotations + parts->n_slice;
    if (kept_parts(encoder, detail)) /* gs_encode had no room left to write it */
        return;
    struct gs_kept_parts *kept = n <= KEPT_BYTES ? malloc(sizeof *kept + n) : NULL;
    if (!kept)
        return;
    *kept = (struct gs_kept_parts){.key = key_of(detail),
                                   .n_frames = (uint32_t)parts->n_frames,
                                   .n_annotations = (uint32_t)parts->n_annotations,
                                   .n_slice = (uint32_t)parts->n_slice};
    uint8_t *p = put_bytes((uint8_t *)kept->frames, parts->frames, n_frames);
    p = put_bytes(p, parts->annotations, parts->n_annotations);
    put_bytes(p, parts->slice, parts->n_slice);
    struct gs_kept_parts **places = places_of(encoder, &kept->key);
    free(places[WAYS - 1]);
    memmove(places + 1, places, (WAYS - 1) * sizeof *places);
    *places = kept;
}

/* The most bytes that put_detail writes. */
static uint64_t detail_room(const struct gs_detail_parts *parts) {
    return BEGIN_BYTES + parts->n_annotations + parts->n_slice + parts->n_interned + END_BYTES +
           FRAME_BYTES * parts->n_frames + parts->n_frames_interned;
}

static unsigned varint_bytes(uint64_t value) {
    unsigned n = 1;
    while (value >>= 7)
        n++;
    return n;
}

static uint8_t *put_count(uint8_t *p, enum gs_annotation name, uint64_t value) {
    *p++ = GS_TAG_ANNOTATION;
    *p++ = (uint8_t)(3 + varint_bytes(value));
    *p++ = GS_TAG_ANNOTATION_NAME;
    *p++ = (uint8_t)name;
    *p++ = GS_TAG_ANNOTATION_INT;
    return gs_put_varint(p, value);
}

/* The field InternedData, if there is any. */
static uint64_t interned_bytes(uint64_t n) {
    return n ? 1 + varint_bytes(n) + n : 0;
}

static uint8_t *put_interned(uint8_t *p, const uint8_t *interned, uint64_t n) {
    if (!n)
        return p;
    *p++ = GS_TAG_INTERNED;
    p = gs_put_varint(p, n);
    return put_bytes(p, interned, n);
}

/* The annotations of times and counts. */
static uint8_t *put_counts(uint8_t *p, const struct gs_detail *detail) {
    p = put_count(p, detail->of_wait ? GS_ANNOTATION_WAITED_FOR_HOLDS : GS_ANNOTATION_KEPT_WAITING,
                  detail->others);
    if (!detail->of_wait || detail->holder != GS_NONE)
        p = put_count(p,
                      detail->of_wait ? GS_ANNOTATION_WAITED_FOR_NS : GS_ANNOTATION_KEPT_WAITING_NS,
                      (uint64_t)detail->other_ns);
    return p;
}

/* For the end of the slice itself; where they take too many bytes they stand below it alone. */
static void keep_told(struct gs_encoder *encoder, const uint8_t *counts, uint64_t n_counts,
                      const struct gs_detail_parts *parts) {
    encoder->n_told = 0;
    if (n_counts + parts->n_annotations > sizeof encoder->told)
        return;
    uint8_t *end = put_bytes(encoder->told, counts, n_counts);
    end = put_bytes(end, parts->annotations, parts->n_annotations);
    encoder->n_told = (uint32_t)(end - encoder->told);
}

/* The packet that begins it. */
static uint8_t *put_detail_begin(struct gs_encoder *encoder, uint8_t *p,
                                 const struct gs_sequence *pair, const struct gs_detail *detail,
                                 const struct gs_detail_parts *parts) {
    static const uint8_t monotonic[] = {GS_TAG_CLOCK_0, GS_TAG_CLOCK_1, GS_MONOTONIC};
    bool later = pair->time_ns != detail->start_ns;
    uint64_t time = later ? (uint64_t)detail->start_ns : 0;
    uint8_t counts[32];
    uint64_t n_counts = (uint64_t)(put_counts(counts, detail) - counts);
    uint64_t n_event = n_counts + parts->n_annotations + parts->n_slice;
    keep_told(encoder, counts, n_counts, parts);
    *p++ = GS_TAG_PACKET;
    p = gs_put_varint(p, 1 + varint_bytes(time) + pair->tag_bytes + 1 + varint_bytes(n_event) +
                             n_event + interned_bytes(parts->n_interned) +
                             (later ? sizeof monotonic : 0));
    *p++ = GS_TAG_TIMESTAMP;
    p = gs_put_varint(p, time);
    p = put_bytes(p, pair->tag, pair->tag_bytes);
    *p++ = GS_TAG_TRACK_EVENT;
    p = gs_put_varint(p, n_event);
    p = put_bytes(p, counts, n_counts);
    p = put_bytes(p, parts->annotations, parts->n_annotations);
    p = put_bytes(p, parts->slice, parts->n_slice);
    p = put_interned(p, parts->interned, parts->n_interned);
    return later ? put_bytes(p, monotonic, sizeof monotonic) : p;
}

/* A packet without arguments: a frame's begin, or an end. */
static uint8_t *put_slice(uint8_t *p, struct gs_sequence *sequence, int64_t time_ns,
                          const uint8_t *event, uint8_t n_event, const uint8_t *interned,
                          uint64_t n_interned) {
    uint64_t delta = (uint64_t)time_ns - (uint64_t)sequence->time_ns;
    sequence->time_ns = time_ns;
    *p++ = GS_TAG_PACKET;
    p = gs_put_varint(p, 1 + varint_bytes(delta) + sequence->tag_bytes + 2u + n_event +
                             interned_bytes(n_interned));
    *p++ = GS_TAG_TIMESTAMP;
    p = gs_put_varint(p, delta);
    p = put_bytes(p, sequence->tag, sequence->tag_bytes);
    *p++ = GS_TAG_TRACK_EVENT;
    *p++ = n_event;
    p = put_bytes(p, event, n_event);
    return put_interned(p, interned, n_interned);
}

static uint8_t *put_end(uint8_t *p, struct gs_sequence *sequence, int64_t time_ns) {
    static const uint8_t event[] = {GS_TAG_TYPE, GS_END};
    return put_slice(p, sequence, time_ns, event, sizeof event, NULL, 0);
}

static uint8_t *put_frame(uint8_t *p, struct gs_sequence *flame, int64_t time_ns, uint32_t name,
                          const uint8_t *interned, uint64_t n_interned) {
    uint8_t event[8] = {GS_TAG_TYPE, GS_BEGIN, GS_TAG_NAME};
    uint8_t n_event = (uint8_t)(gs_put_varint(event + 3, name) - event);
    return put_slice(p, flame, time_ns, event, n_event, interned, n_interned);
}

/* A hold's frames; holds of one GIL follow each other, but nothing was checked to make sure. */
static uint8_t *put_flame(uint8_t *p, struct gs_sequence *flame, const struct gs_detail *detail,
                          const struct gs_detail_parts *parts) {
    int64_t start_ns = detail->start_ns > flame->time_ns ? detail->start_ns : flame->time_ns;
    int64_t end_ns = detail->end_ns > start_ns ? detail->end_ns : start_ns;
    for (uint64_t i = 0; i < parts->n_frames; i++)
        p = put_frame(p, flame, start_ns, parts->frames[i], parts->frames_interned,
                      i == 0 ? parts->n_frames_interned : 0);
    for (uint64_t i = 0; i < parts->n_frames; i++)
        p = put_end(p, flame, end_ns);
    return p;
}

/* The end of a hold or a wait, with what its detail tells, if it has one. */
static uint8_t *put_slice_end(struct gs_encoder *encoder, uint8_t *p, struct gs_sequence *pair,
                              int64_t time_ns, int64_t waiters, uint64_t flow) {
    const struct packet packet = {
        .type = GS_END, .waiters = waiters, .flow = flow, .n_flows = flow != 0};
    if (!encoder->n_told)
        return put_packet(p, pair, time_ns, packet);
    const uint64_t delta = (uint64_t)time_ns - (uint64_t)pair->time_ns;
    const uint64_t n_head = 1 + varint_bytes(delta) + pair->tag_bytes, n_told = encoder->n_told;
    uint8_t hot[GS_PACKET_ROOM];
    const uint8_t *end = put_packet(hot, pair, time_ns, packet);
    const uint8_t *event = hot + 2 + n_head, *flags = end - 2;
    const uint64_t n_own = (uint64_t)(flags - event) - 2, n_event = n_told + n_own;
    *p++ = GS_TAG_PACKET;
    p = gs_put_varint(p, n_head + 1 + varint_bytes(n_event) + n_event + 2);
    p = put_bytes(p, hot + 2, n_head);
    *p++ = *event;
    p = gs_put_varint(p, n_event);
    p = put_bytes(p, encoder->told, n_told);
    p = put_bytes(p, event + 2, n_own);
    encoder->n_told = 0;
    return put_bytes(p, flags, 2);
}

/* The last packet of the slice's sequence is at its end then. */
static uint8_t *put_detail(struct gs_encoder *encoder, uint8_t *p, const struct gs_detail *detail,
                           const struct gs_detail_parts *parts) {
    struct gs_sequence *sequences = encoder->all.sequences;
    struct gs_sequence *pair =
        &sequences[gs_sequences_find(&encoder->all, detail->thread, detail->gil)];
    if (parts->n_frames)
        p = put_flame(p, &sequences[encoder->all.gils[detail->gil].flame], detail, parts);
    p = put_detail_begin(encoder, p, pair, detail, parts);
    return put_end(p, pair, detail->end_ns);
}

#endif

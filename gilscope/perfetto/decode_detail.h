/* Passes the details of long slices by (details.py writes them). Part of decode.c, which alone
 * includes it. A packet that is not surely a detail goes to the caller like any other that is not
 * hot, and reader.py decides. What a detail says is free: texts and annotations are not looked at.
 */
#ifndef GILSCOPE_PERFETTO_DECODE_DETAIL_H
#define GILSCOPE_PERFETTO_DECODE_DETAIL_H

/* A message's fields, each of which may come once. */
struct field {
    uint32_t number;
    uint64_t value;      /* of a varint; else the length */
    const uint8_t *data; /* behind a length; NULL for a varint */
};

/* One varint at *p; false: it does not end before `end`. */
static inline bool scan_varint(const uint8_t **p, const uint8_t *end, uint64_t *value) {
    if (end - *p >= 10) { /* the longest that get_varint reads */
        *p = get_varint(*p, value);
        return true;
    }
    *value = 0;
    for (unsigned shift = 0; shift < 64 && *p < end; shift += 7) {
        uint8_t byte = *(*p)++;
        *value |= (uint64_t)(byte & 127) << shift;
        if (byte < 128)
            return shift < 63 || byte < 2;
    }
    return false;
}

/* The next field of a message that ends at `end`; false: it is broken, or of a fixed size. */
static inline bool scan_field(const uint8_t **p, const uint8_t *end, struct field *field) {
    uint64_t key;
    if (!scan_varint(p, end, &key) || !scan_varint(p, end, &field->value) || key >> 3 > 4096)
        return false;
    field->number = (uint32_t)(key >> 3);
    field->data = NULL;
    if ((key & 7) == 0)
        return true;
    if ((key & 7) != 2 || field->value > (uint64_t)(end - *p))
        return false;
    field->data = *p;
    *p += field->value;
    return true;
}

/* Whether a track event begins or ends a slice on a track that may have details. */
static bool is_on_track_of_details(const struct gs_sequences *all, const uint8_t *p,
                                   const uint8_t *end) {
    enum { TYPE = 9, TRACK = 11 };
    uint64_t type = 0, track = 0;
    struct field field;
    while (p < end) {
        if (!scan_field(&p, end, &field))
            return false;
        if (field.number == TYPE && !field.data)
            type = field.value;
        else if (field.number == TRACK && !field.data)
            track = field.value;
    }
    uint64_t number = track & UINT32_MAX, kind = track - number;
    return (type == GS_BEGIN || type == GS_END) &&
           ((kind == GS_THREAD_TRACK(0) && number < all->n_threads) ||
            (kind == GS_FLAME_TRACK(0) && number < all->n_gils));
}

/* Whether the packet with this body is a detail, as `is_detail` of details.py has it. */
static bool is_detail(const struct gs_sequences *all, const uint8_t *p, uint64_t length) {
    enum { TIMESTAMP = 8, SEQUENCE = 10, EVENT = 11, CLOCK = 58 };
    enum { HAS_TIMESTAMP = 1, HAS_SEQUENCE = 2, HAS_EVENT = 4, HAS_CLOCK = 8, HAS_ALL = 15 };
    const uint8_t *end = p + length;
    unsigned seen = 0;
    struct field field;
    while (p < end) {
        if (!scan_field(&p, end, &field))
            return false;
        unsigned is = 0;
        if (field.number == EVENT && field.data)
            is = is_on_track_of_details(all, field.data, p) ? HAS_EVENT : 0;
        else if (field.number == TIMESTAMP && !field.data)
            is = HAS_TIMESTAMP;
        else if (field.number == SEQUENCE && !field.data)
            is = field.value == GS_MAIN_SEQUENCE ? HAS_SEQUENCE : 0;
        else if (field.number == CLOCK && !field.data)
            is = field.value == GS_MONOTONIC ? HAS_CLOCK : 0;
        if (!is || seen & is)
            return false;
        seen |= is;
    }
    return seen == HAS_ALL;
}

#endif

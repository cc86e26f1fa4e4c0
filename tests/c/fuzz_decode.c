/* Feeds the decoder damaged traces; to be compiled with -fsanitize=address,undefined.
 *
 *   fuzz_decode SEED ROUNDS
 *
 * Each round encodes random events (the encoder refuses those that cannot be, which is a test of it
 * too), checks that they decode to themselves whatever the pieces in which the file arrives, then
 * damages the bytes and decodes again: any answer will do, as long as it comes, takes no byte from
 * outside the input and breaks off before its end only for a reason. Prints what it did; exits with
 * 1 when a whole trace does not come back.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../gilscope/perfetto/codec.h"

enum { THREADS = 5, GILS = 3, EVENTS = 120, BYTES = 1 << 16, SEQUENCES = 64, STACKS = 7 };

static const uint32_t thread_process[THREADS] = {0, 0, 0, 1, 1};
static const uint32_t gil_process[GILS] = {0, 0, 1};
static const struct gs_tables tables = {THREADS, thread_process, GILS, gil_process, STACKS};

/* How rare packets look here: a field that no hot packet begins with, and the sequence's index. */
enum { RARE_BYTES = 4 };

static struct {
    uint32_t role, thread, gil;
} introduced[SEQUENCES];
static uint32_t n_introduced;

static uint64_t state;

static uint32_t dice(uint32_t sides) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 32) % sides;
}

/* What the encoder asks of details.py. */
static size_t put_detail(struct gs_encoder *encoder, const struct gs_detail *detail, uint8_t *bytes,
                         size_t n_bytes) {
    const uint8_t annotation[] = {
        GS_TAG_ANNOTATION, 4, GS_TAG_ANNOTATION_NAME, GS_ANNOTATION_LINE, GS_TAG_ANNOTATION_INT, 7};
    const uint8_t slice[] = {GS_TAG_TYPE, GS_BEGIN, GS_TAG_NAME,
                             (uint8_t)(GS_NAME_OWNER + 1 + dice(9))};
    const uint8_t interned[] = {0x12, 4, 0x08, 1, 0x12, 0};
    const uint32_t frames[] = {1, 300, 1u << 20};
    bool flame = !detail->of_wait && detail->leaf != UINT32_MAX;
    uint64_t needed;
    return gs_encoder_detail(encoder, detail,
                             &(struct gs_detail_parts){.annotations = annotation,
                                                       .n_annotations = sizeof annotation,
                                                       .slice = slice,
                                                       .n_slice = sizeof slice,
                                                       .interned = interned,
                                                       .n_interned = dice(2) * sizeof interned,
                                                       .frames = frames,
                                                       .n_frames = flame ? 1 + dice(3) : 0,
                                                       .frames_interned = interned,
                                                       .n_frames_interned = sizeof interned},
                             bytes, n_bytes, &needed);
}

static struct gs_event random_event(int64_t time_ns) {
    static const uint8_t kinds[] = {
        GS_GIL_WAIT,     GS_GIL_WAIT,     GS_GIL_ACQUIRE,  GS_GIL_ACQUIRE,     GS_GIL_ACQUIRE,
        GS_GIL_RELEASE,  GS_GIL_RELEASE,  GS_GIL_YIELD,    GS_GIL_YIELD,       GS_GIL_REQUEST,
        GS_GIL_LOST,     GS_THREAD_END,   GS_THREAD_START, GS_PROCESS_START,   GS_PROCESS_END,
        GS_GIL_WAKEUP,   GS_GIL_WAKEUP,   GS_LOCK_WAIT,    GS_LOCK_WAIT,       GS_LOCK_ACQUIRE,
        GS_LOCK_ACQUIRE, GS_LOCK_RELEASE, GS_COND_WAIT,    GS_COND_WAIT,       GS_COND_WAKE,
        GS_COND_WAKE,    GS_COND_NOTIFY,  GS_COND_NOTIFY,  GS_THREAD_LOST,     GS_ATOMIC_ENTER,
        GS_ATOMIC_ENTER, GS_ATOMIC_EXIT,  GS_ATOMIC_EXIT,  GS_ATOMIC_DEFERRED, GS_STACK,
        GS_STACK,
    };
    struct gs_event event = {.time_ns = time_ns,
                             .arg = dice(4) ? dice(4) : dice(4096),
                             .thread = dice(THREADS),
                             .gil = (uint16_t)dice(GILS),
                             .kind = kinds[dice(sizeof kinds)]};
    if (event.kind > GS_GIL_WAKEUP) {
        event.gil = GS_NO_GIL;
        if (event.kind <= GS_COND_NOTIFY) /* few objects, so that ends find their begins */
            event.arg = (dice(8) ? 0 : dice(7)) | (uint64_t)(1 + dice(2)) << (dice(8) ? 40 : 4) |
                        (dice(3) ? 0 : (uint64_t)dice(dice(2) ? 2 : 7)) << GS_SYNC_DETAIL_SHIFT;
        else if (event.kind >= GS_THREAD_START && event.kind <= GS_PROCESS_END)
            event.arg = event.kind == GS_PROCESS_END ? dice(2) : 0;
        else if (event.kind == GS_STACK) {
            event.arg = dice(STACKS + 1);
            event.flags = (uint8_t)dice(4);
        }
    } else if (event.kind == GS_GIL_WAIT || event.kind == GS_GIL_ACQUIRE) {
        event.flags = (uint8_t)dice(2);
    }
    return event;
}

/* Encodes random events to `bytes`; gives back those that were accepted. */
static size_t make_trace(struct gs_event *events, size_t *n_events, uint8_t *bytes) {
    struct gs_encoder *encoder = gs_encoder_new(0, &tables);
    size_t n_bytes = 0;
    int64_t now = 0;
    *n_events = 0;
    n_introduced = 0;
    for (int i = 0; encoder && i < EVENTS + THREADS; i++) {
        now += dice(3) ? dice(1000) : dice(3) ? 0 : dice(1u << 31);
        struct gs_event event = random_event(now);
        if (i >= EVENTS) /* leave nothing open */
            event = (struct gs_event){.time_ns = now,
                                      .thread = (uint32_t)(i - EVENTS),
                                      .gil = GS_NO_GIL,
                                      .kind = GS_THREAD_END};
        struct gs_encode_result result;
        int status;
        do {
            status = gs_encode(encoder, &event, 1, bytes + n_bytes, BYTES - n_bytes, &result);
            n_bytes += result.written;
            *n_events += result.consumed;
            if (result.consumed)
                events[*n_events - 1] = event;
            if (status == GS_ENCODE_NEW_SEQUENCE && n_introduced < SEQUENCES) {
                const uint8_t rare[RARE_BYTES] = {GS_TAG_PACKET, 2, 0x32, (uint8_t)n_introduced};
                memcpy(bytes + n_bytes, rare, sizeof rare);
                n_bytes += sizeof rare;
                introduced[n_introduced].role = result.role;
                introduced[n_introduced].thread = result.thread;
                introduced[n_introduced++].gil = result.gil;
            }
            if (status == GS_ENCODE_DETAIL)
                n_bytes += put_detail(encoder, &result.detail, bytes + n_bytes, BYTES - n_bytes);
        } while (status == GS_ENCODE_NEW_SEQUENCE || status == GS_ENCODE_DETAIL);
    }
    gs_encoder_free(encoder);
    return n_bytes;
}

/* Decodes in random pieces, each in memory of its own so that the sanitizer sees its bounds. */
static const char *decode(const uint8_t *bytes, size_t n_bytes, struct gs_event *events,
                          size_t *n_events) {
    struct gs_decoder *decoder = gs_decoder_new(&tables, GS_NAME_OWNER);
    const char *wrong = decoder ? NULL : "out of memory";
    size_t first = 0, last = 0; /* the piece */
    *n_events = 0;
    while (!wrong) {
        struct gs_decode_result result;
        uint8_t *piece = malloc(last - first + 1);
        if (!piece) {
            wrong = "out of memory";
            break;
        }
        memcpy(piece, bytes + first, last - first);
        int status =
            gs_decode(decoder, piece + 0, last - first, events + *n_events, 1 + dice(7), &result);
        if (result.consumed > last - first || result.events > 7)
            abort();
        *n_events += result.events;
        if (*n_events > BYTES - 16)
            abort(); /* an event takes more than one byte */
        if (status == GS_DECODE_RARE) {
            if (result.packet_offset + result.packet_bytes > last - first)
                abort();
            const uint8_t *rare = piece + result.packet_offset;
            uint32_t index = result.packet_bytes == 2 && rare[0] == 0x32 ? rare[1] : SEQUENCES;
            wrong = index < n_introduced
                        ? gs_decoder_introduce(decoder, index + GS_FIRST_SEQUENCE,
                                               introduced[index].role, introduced[index].thread,
                                               introduced[index].gil, 0)
                        : "a rare packet that is not known";
        } else if (status == GS_DECODE_CORRUPT) {
            wrong = result.message;
        }
        first += result.consumed;
        free(piece);
        if (status == GS_DECODE_NEED_INPUT) {
            if (last == n_bytes)
                break;
            last += 1 + dice(dice(2) ? 3 : 300);
            last = last < n_bytes ? last : n_bytes;
        }
    }
    if (!wrong && first < n_bytes)
        wrong = "cut short";
    if (!wrong)
        wrong = gs_decoder_finish(decoder);
    gs_decoder_free(decoder);
    return wrong;
}

static size_t damage(uint8_t *bytes, size_t n_bytes) {
    for (uint32_t times = 1 + dice(3); times && n_bytes > 1; times--) {
        size_t at = dice((uint32_t)n_bytes), length = 1 + dice(24);
        switch (dice(5)) {
        case 0:
            bytes[at] ^= (uint8_t)(1u << dice(8));
            break;
        case 1:
            bytes[at] = (uint8_t)dice(256);
            break;
        case 2:
            n_bytes = at;
            break;
        case 3: /* take a piece out */
            length = length < n_bytes - at ? length : n_bytes - at;
            memmove(bytes + at, bytes + at + length, n_bytes - at - length);
            n_bytes -= length;
            break;
        default: /* tell a piece twice */
            length = length < n_bytes - at ? length : n_bytes - at;
            memmove(bytes + at + length, bytes + at, n_bytes - at);
            n_bytes += length;
        }
    }
    return n_bytes;
}

int main(int argc, char **argv) {
    static struct gs_event events[EVENTS + THREADS], decoded[BYTES];
    static uint8_t bytes[BYTES + 256], damaged[BYTES + 256];
    if (argc != 3)
        return 2;
    state = strtoull(argv[1], NULL, 10) | 1;
    unsigned long rounds = strtoul(argv[2], NULL, 10), refused = 0, told = 0;
    for (unsigned long round = 0; round < rounds; round++) {
        size_t n_events, n_decoded;
        size_t n_bytes = make_trace(events, &n_events, bytes);
        const char *wrong = decode(bytes, n_bytes, decoded, &n_decoded);
        if (wrong || n_decoded != n_events ||
            memcmp(events, decoded, n_events * sizeof *events) != 0) {
            printf("round %lu: %zu events became %zu: %s\n", round, n_events, n_decoded,
                   wrong ? wrong : "others");
            return 1;
        }
        told += n_events;
        for (int i = 0; i < 8; i++) {
            memcpy(damaged, bytes, n_bytes);
            refused += decode(damaged, damage(damaged, n_bytes), decoded, &n_decoded) != NULL;
        }
    }
    printf("%lu events in %lu traces; %lu of %lu damaged ones refused\n", told, rounds, refused,
           8 * rounds);
    return 0;
}

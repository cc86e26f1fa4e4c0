/* Decodes the hot packets of a trace (format.h) back to the events that they were made from.
 *
 * The caller (reader.py) feeds pieces of the file, cut anywhere, and gets events. A packet that is
 * not hot stops the decoder; the caller reads it with protobuf classes, registers the sequence
 * that it may introduce, and goes on behind it.
 *
 * Nothing is skipped unchecked. What an event adds to the file besides its own packet (the end of
 * the wait before a hold, the owner's track, flows, the ends that thread.end implies) is foreseen
 * from the packets before, and any other packet there is an error. So a trace that decodes is one
 * that encode.c wrote, or one that reads exactly like it. The input is hostile: every length is
 * checked against its frame, every index against its table; memory is the tables' alone, and time
 * is in proportion to the input (STEPS_A_BYTE).
 */
#include "codec.h"
#include "packet_get.h"
#include "sequences.h"

/* What the next packet must be. */
enum due {
    DUE_NOTHING = 0,
    DUE_OWNER_BEGIN = GS_BEGIN, /* the hold's begin, for the owner's track */
    DUE_OWNER_END = GS_END,
    DUE_DETAIL_END,
};

struct gs_decoder {
    struct gs_sequences all;
    uint64_t flows;
    uint32_t next;  /* the sequence that the next packet must be on, or GS_NONE */
    enum due due;   /* what it must be, on that sequence */
    uint64_t woken; /* 0, or the next packet must be that sequence's "woken", of this flow */
    uint32_t told;  /* the sequence whose last detail the end of its slice may repeat, or GS_NONE */
    uint32_t closing; /* how many slices have an implied END to come */
    uint64_t bytes;   /* that were decoded */
};

/* Steps along lists that a file may cost. Who writes for people takes one in hundreds of bytes: a
 * gap of a GIL is one step for each thread that used it. */
#define STEPS_FREE   (UINT64_C(1) << 28)
#define STEPS_A_BYTE 8

struct gs_decoder *gs_decoder_new(const struct gs_tables *tables, uint32_t own_name) {
    struct gs_decoder *decoder = calloc(1, sizeof *decoder);
    if (!decoder)
        return NULL;
    decoder->next = decoder->told = GS_NONE;
    if (!gs_sequences_init(&decoder->all, tables, own_name)) {
        free(decoder);
        return NULL;
    }
    return decoder;
}

void gs_decoder_free(struct gs_decoder *decoder) {
    if (decoder)
        gs_sequences_free(&decoder->all);
    free(decoder);
}

static const char apart[] = "a packet between two that belong together";

const char *gs_decoder_introduce(struct gs_decoder *decoder, uint32_t sequence, uint32_t role,
                                 uint32_t thread, uint32_t gil, int64_t time_ns) {
    struct gs_sequences *all = &decoder->all;
    if (sequence != all->n_sequences + GS_FIRST_SEQUENCE)
        return "a packet sequence out of turn";
    bool of_gil = role == GS_ROLE_GIL || role == GS_ROLE_FLAME;
    if (role < GS_ROLE_GIL || role > GS_ROLE_PROCESSOR || thread >= all->n_threads ||
        (of_gil && gil >= all->n_gils) || time_ns < 0)
        return "a packet sequence of no known thread or GIL";
    if (role == GS_ROLE_GIL && all->threads[thread].process != all->gils[gil].process)
        return "a packet sequence of a thread on another process's GIL";
    uint32_t known = role == GS_ROLE_GIL      ? gs_sequences_find(all, thread, (uint16_t)gil)
                     : role == GS_ROLE_THREAD ? all->threads[thread].own
                     : role == GS_ROLE_ATOMIC ? all->threads[thread].atomic
                     : role == GS_ROLE_FLAME  ? all->gils[gil].flame
                                              : all->threads[thread].processor;
    if (known != GS_NONE)
        return "a second packet sequence for the same thread and GIL";
    uint16_t its_gil = of_gil ? (uint16_t)gil : GS_NO_GIL;
    if (gs_sequences_add(all, (enum gs_role)role, thread, its_gil, time_ns) == GS_NONE)
        return "out of memory";
    return NULL;
}

static void close_slices(void *context, uint32_t index) {
    struct gs_decoder *decoder = context;
    decoder->closing += gs_sequence_close(&decoder->all, index);
}

/* The end that thread.end, process.end or a gap implied. */
static const char *on_closing(struct gs_decoder *decoder, uint32_t index,
                              const struct packet *packet) {
    struct gs_sequence *sequence = &decoder->all.sequences[index];
    if (packet->category || packet->name || packet->has_object || packet->annotation ||
        packet->has_waiters || packet->n_flows || packet->terminating[0])
        return "an end of a slice that was cut off with a field that is not its own";
    decoder->closing--;
    sequence->closing--;
    if (sequence->role != GS_ROLE_GIL)
        return NULL;
    gs_sequence_set(&decoder->all, sequence, GS_SLICE_NONE);
    struct gs_gil_state *gil = &decoder->all.gils[sequence->gil];
    if (gil->holder == sequence->thread) {
        gil->holder = GS_NONE;
        decoder->due = DUE_OWNER_END;
        decoder->next = index;
    }
    return NULL;
}

#include "decode_detail.h"
#include "decode_processor.h"
#include "decode_thread.h"

/* Whether the flows that end at a packet are these, of which either may be 0: none. */
static inline bool arrives(const struct packet *packet, uint64_t first, uint64_t second) {
    return packet->terminating[0] == (first ? first : second) &&
           packet->terminating[1] == (first ? second : 0);
}

static inline const char *on_begin(struct gs_decoder *decoder, uint32_t index,
                                   struct gs_sequence *pair, const struct packet *packet,
                                   struct gs_event *event) {
    struct gs_gil_state *gil = &decoder->all.gils[pair->gil];
    if (!packet->has_waiters || packet->n_flows || packet->has_object || packet->annotation)
        return "a slice without the number of waiters, or with a field that is not its own";
    if (decoder->all.threads[pair->thread].n_waits)
        return "a slice of a GIL inside a wait for a lock or a condition";
    if (packet->name == GS_NAME_WAITS) {
        if (pair->slice != GS_SLICE_NONE || packet->terminating[0] ||
            (packet->category != GS_CATEGORY_IO && packet->category != GS_CATEGORY_CPU))
            return "a wait that cannot begin here";
        gs_sequence_set(&decoder->all, pair, GS_SLICE_WAIT);
        event->kind = GS_GIL_WAIT;
        event->flags = packet->category == GS_CATEGORY_CPU ? GS_FLAG_CPU : 0;
        return NULL;
    }
    bool waited = packet->category == GS_CATEGORY_WAITED;
    if (packet->name != GS_NAME_HOLDS || gil->holder != GS_NONE || (packet->category && !waited) ||
        !arrives(packet, waited ? gil->flow : 0, pair->wakeup) ||
        !(pair->slice == GS_SLICE_NONE ||
          (pair->slice == GS_SLICE_WAITED && waited && packet->delta == 0)))
        return "a hold that cannot begin here";
    gil->flow = pair->wakeup = 0;
    gil->holder = pair->thread;
    gs_sequence_set(&decoder->all, pair, GS_SLICE_HOLD);
    event->kind = GS_GIL_ACQUIRE;
    event->flags = waited ? GS_FLAG_WAITED : 0;
    decoder->due = DUE_OWNER_BEGIN;
    decoder->next = index;
    return NULL;
}

static inline const char *on_end(struct gs_decoder *decoder, uint32_t index,
                                 struct gs_sequence *pair, const struct packet *packet,
                                 struct gs_event *event) {
    if (packet->category || packet->name || packet->has_object || packet->annotation ||
        packet->terminating[0])
        return "an end of a slice with a field that is not its own";
    if (decoder->all.threads[pair->thread].n_waits)
        return "an end of a GIL's slice inside a wait for a lock or a condition";
    decoder->next = index;
    if (pair->slice == GS_SLICE_WAIT) {
        gs_sequence_set(&decoder->all, pair, GS_SLICE_WAITED);
        return packet->n_flows || packet->has_waiters ? "a flow or a number of waiters from a wait"
                                                      : NULL;
    }
    bool yielded = pair->slice == GS_SLICE_YIELDED;
    if (pair->slice != GS_SLICE_HOLD && !yielded)
        return "an end of a slice that did not begin";
    if (!packet->has_waiters || (yielded && packet->delta))
        return "an end of a hold that its forced yield or its waiters do not explain";
    if (packet->n_flows != (packet->waiters != 0) ||
        packet->flow != (packet->waiters ? ++decoder->flows : 0))
        return "a flow out of turn";
    event->kind = yielded ? GS_GIL_YIELD : GS_GIL_RELEASE;
    gs_sequence_set(&decoder->all, pair, GS_SLICE_NONE);
    decoder->due = DUE_OWNER_END;
    decoder->all.gils[pair->gil].flow = packet->flow;
    decoder->all.gils[pair->gil].holder = GS_NONE;
    return NULL;
}

static bool on_wakeup(struct gs_decoder *decoder, const struct gs_sequence *pair,
                      const struct packet *packet, struct gs_event *event) {
    struct gs_sequences *all = &decoder->all;
    bool known = packet->annotation == GS_ANNOTATION_THREAD;
    if ((packet->annotation && !known) ||
        (known && (packet->value >= all->n_threads ||
                   all->threads[packet->value].process != all->threads[pair->thread].process)))
        return true;
    event->arg = known ? packet->value + 1 : 0;
    uint32_t woken = known ? gs_sequences_woken(all, (uint32_t)packet->value, pair->gil) : GS_NONE;
    uint64_t flow = woken != GS_NONE ? ++decoder->flows : 0;
    if (flow)
        all->sequences[woken].wakeup = flow;
    return packet->flow != flow || packet->n_flows != (flow != 0);
}

static const char *on_instant(struct gs_decoder *decoder, uint32_t index, struct gs_sequence *pair,
                              const struct packet *packet, struct gs_event *event) {
    if (packet->category || packet->has_object || packet->terminating[0] ||
        (packet->n_flows && packet->name != GS_NAME_WAKEUP) ||
        (packet->annotation && packet->name != GS_NAME_WAKEUP && packet->name != GS_NAME_LOST))
        return "an instant with a field that is not its own";
    if (pair->slice == GS_SLICE_WAITED || pair->slice == GS_SLICE_YIELDED)
        return "an instant between two packets that belong together";
    bool counts = packet->name != GS_NAME_LOST && packet->name != GS_NAME_WAKEUP;
    switch (packet->name) {
    case GS_NAME_WAKEUP:
        event->kind = GS_GIL_WAKEUP;
        if (on_wakeup(decoder, pair, packet, event))
            return "a wakeup of no such thread, or with a flow out of turn";
        break;
    case GS_NAME_REQUEST:
        event->kind = GS_GIL_REQUEST;
        break;
    case GS_NAME_LOST:
        event->kind = GS_GIL_LOST;
        event->arg = packet->value;
        if (packet->annotation != (packet->value ? GS_ANNOTATION_COUNT : GS_ANNOTATION_NONE))
            return "a gap of no events";
        break;
    case GS_NAME_YIELD:
    case GS_NAME_RELEASE:
        if (pair->slice == GS_SLICE_HOLD && packet->name == GS_NAME_YIELD) {
            gs_sequence_set(&decoder->all, pair, GS_SLICE_YIELDED);
            decoder->next = index;
            counts = false;
        } else if (pair->slice != GS_SLICE_NONE || decoder->all.threads[pair->thread].n_waits) {
            return "a release that cannot happen here";
        } else {
            event->kind = packet->name == GS_NAME_YIELD ? GS_GIL_YIELD : GS_GIL_RELEASE;
        }
        break;
    default:
        return "an instant of an unknown name";
    }
    if (packet->has_waiters != counts)
        return "an instant with or without the number of waiters";
    if (event->kind == GS_GIL_LOST)
        gs_sequences_close(&decoder->all, event, close_slices, decoder);
    return NULL;
}

/* One hot packet; `event->kind` stays 0 when it is not an event by itself. */
static inline const char *on_packet(struct gs_decoder *decoder, uint32_t index,
                                    const struct packet *packet, struct gs_event *event) {
    struct gs_sequence *sequence = &decoder->all.sequences[index];
    if (decoder->next != GS_NONE && decoder->next != index)
        return apart;
    decoder->next = GS_NONE;
    if (packet->delta > (uint64_t)(INT64_MAX - sequence->time_ns))
        return "a time past the end of time";
    sequence->time_ns += (int64_t)packet->delta;
    if (decoder->closing) {
        if (!sequence->closing || packet->type != GS_END)
            return "a packet before the end of a slice that was cut off";
        return on_closing(decoder, index, packet);
    }
    *event = (struct gs_event){.time_ns = sequence->time_ns,
                               .arg = packet->waiters,
                               .thread = sequence->thread,
                               .gil = sequence->gil};
    if (sequence->role == GS_ROLE_THREAD)
        return on_thread(decoder, index, packet, event);
    if (sequence->role == GS_ROLE_ATOMIC)
        return on_atomic(decoder, packet, event);
    switch (packet->type) {
    case GS_BEGIN:
        return on_begin(decoder, index, sequence, packet, event);
    case GS_END:
        return on_end(decoder, index, sequence, packet, event);
    case GS_INSTANT:
        return on_instant(decoder, index, sequence, packet, event);
    default:
        return "a track event of an unknown type";
    }
}

/* The end of a slice that repeats its detail. */
static const char *on_told_end(struct gs_decoder *decoder, uint32_t index,
                               const struct packet *packet, struct gs_event *event) {
    decoder->told = GS_NONE;
    return on_packet(decoder, index, packet, event);
}

/* Reads the frame of the packet at *p and moves *p to its body. False with *status NEED_INPUT: the
 * input ends before the packet does; or CORRUPT. */
static inline bool get_frame(const uint8_t **p, const uint8_t *end, uint64_t *length,
                             enum gs_decode_status *status, struct gs_decode_result *result) {
    *status = GS_DECODE_NEED_INPUT;
    const uint8_t *q = *p;
    if (q == end)
        return false;
    if (*q++ != GS_TAG_PACKET) {
        result->message = "not a packet";
        *status = GS_DECODE_CORRUPT;
        return false;
    }
    *length = 0;
    for (int shift = 0;; shift += 7) {
        if (shift > 28 || *length > GS_PACKET_MAX) {
            result->message = "a packet longer than any that gilscope writes";
            *status = GS_DECODE_CORRUPT;
            return false;
        }
        if (q == end)
            return false;
        *length |= (uint64_t)(*q & 127) << shift;
        if (*q++ < 128)
            break;
    }
    if (*length > GS_PACKET_MAX) {
        result->message = "a packet longer than any that gilscope writes";
        *status = GS_DECODE_CORRUPT;
        return false;
    }
    if (*length > (uint64_t)(end - q)) {
        result->needed = (uint64_t)(q - *p) + *length;
        return false;
    }
    *p = q;
    return true;
}

/* Of 8 to GS_OWNER_ROOM bytes; a call of memcmp takes longer. */
static inline bool same_bytes(const uint8_t *a, const uint8_t *b, unsigned n) {
    return get_fixed64(a) == get_fixed64(b) && get_fixed64(a + n - 8) == get_fixed64(b + n - 8) &&
           (n <= 16 || get_fixed64(a + n - 16) == get_fixed64(b + n - 16));
}
static_assert(GS_OWNER_ROOM <= 24, "three words");

int gs_decode(struct gs_decoder *decoder, const uint8_t *input, uint64_t n_input,
              struct gs_event *events, uint64_t room, struct gs_decode_result *result) {
    const uint8_t *const end = input + n_input;
    const uint8_t *start = input; /* of the packet under way */
    uint8_t padded[READABLE];
    uint64_t n_events = 0, packets = 0;
    enum gs_decode_status status;
    memset(result, 0, sizeof *result);
    for (;;) {
        const uint8_t *body = start;
        uint64_t length;
        if (!get_frame(&body, end, &length, &status, result))
            break;
        if (n_events == room) {
            status = GS_DECODE_FULL;
            break;
        }
        const uint8_t *next = body + length;
        if (decoder->due == DUE_DETAIL_END) {
            if (!on_detail_end(decoder, body, length)) {
                result->message = "a packet that does not end the detail before";
                status = GS_DECODE_CORRUPT;
                break;
            }
            decoder->due = DUE_NOTHING;
            decoder->told = decoder->next;
            packets++;
            start = next;
            continue;
        }
        if (decoder->due) {
            const struct gs_sequence *pair = &decoder->all.sequences[decoder->next];
            const int which = decoder->due - DUE_OWNER_BEGIN;
            if (next - start != pair->owner_bytes[which] ||
                !same_bytes(start, pair->owner[which], pair->owner_bytes[which])) {
                result->message = "a packet that does not tell the GIL's owner of the hold before";
                status = GS_DECODE_CORRUPT;
                break;
            }
            decoder->due = DUE_NOTHING;
            decoder->next = GS_NONE;
            packets++;
            start = next;
            continue;
        }
        const uint8_t *head = body;
        if (end - body < READABLE) {
            memset(padded, 0, sizeof padded);
            memcpy(padded, body, length < READABLE ? length : READABLE);
            head = padded;
        }
        const uint8_t *p = head, *packet_end = p + (length < READABLE ? length : READABLE);
        struct packet packet;
        uint64_t sequence = 0;
        bool hot = false;
        if (*p == GS_TAG_TIMESTAMP) {
            p = get_varint(p + 1, &packet.delta);
            hot = *p == GS_TAG_SEQUENCE;
            p = get_varint(p + 1, &sequence);
            hot = hot && sequence - GS_FIRST_SEQUENCE < decoder->all.n_sequences;
        }
        if (!hot) {
            if (decoder->next != GS_NONE || decoder->closing) {
                result->message = apart;
                status = GS_DECODE_CORRUPT;
                break;
            }
            result->packet_offset = (uint64_t)(body - input);
            result->packet_bytes = length;
            start = next;
            status = GS_DECODE_RARE;
            break;
        }
        if (decoder->all.steps > STEPS_FREE + STEPS_A_BYTE * decoder->bytes) {
            result->message = "more threads and GILs than their events are worth";
            status = GS_DECODE_CORRUPT;
            break;
        }
        struct gs_event *event = &events[n_events];
        event->kind = GS_NOT_WRITTEN;
        const uint32_t index = (uint32_t)(sequence - GS_FIRST_SEQUENCE);
        result->message =
            decoder->all.sequences[index].role == GS_ROLE_FLAME
                ? on_flame(decoder, body, (uint64_t)(p - head), length)
            : decoder->all.sequences[index].role == GS_ROLE_PROCESSOR
                ? on_processor(decoder, index, packet.delta, p, packet_end, event)
            : length < HOT_BYTES && get_body(p, packet_end, &packet)
                ? on_packet(decoder, index, &packet, event)
            : decoder->told == index && get_told_end(body + (p - head), body + length, &packet)
                ? on_told_end(decoder, index, &packet, event)
                : on_detail(decoder, index, packet.delta, body, (uint64_t)(p - head), length);
        if (result->message) {
            status = GS_DECODE_CORRUPT;
            break;
        }
        if (event->kind != GS_NOT_WRITTEN) {
            n_events++;
            result->last_event = (uint64_t)(start - input);
        }
        packets++;
        start = next;
    }
    result->consumed = (uint64_t)(start - input);
    decoder->bytes += result->consumed;
    result->events = n_events;
    result->packets = packets;
    return status;
}

const char *gs_decoder_finish(const struct gs_decoder *decoder) {
    if (decoder->next != GS_NONE || decoder->closing)
        return "the end between two packets that belong together";
    for (uint32_t i = 0; i < decoder->all.n_sequences; i++)
        if (gs_sequence_open(&decoder->all, i))
            return "a slice without end";
    return NULL;
}

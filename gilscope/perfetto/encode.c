/* Encodes ordered events to the hot packets of a trace (format.h).
 *
 * The caller (writer.py) feeds batches and gets bytes. When a packet sequence is first needed the
 * encoder stops before that event and says so; the caller writes the rare packet that introduces
 * it behind the bytes so far, and calls again with the rest of the batch.
 *
 * It refuses what the layout cannot express (two holders of a GIL, a release during a wait, time
 * that runs backwards); whether the story is possible beyond that is story.c's question.
 */
#include "codec.h"
#include "sequences.h"

struct gs_encoder {
    struct gs_sequences all;
    int64_t start_ns;
    uint64_t flows;
    uint32_t closing; /* list of slices whose END must be written before the next event */
    int64_t closing_ns;
};

struct packet {
    enum gs_type type;
    uint8_t category;
    uint32_t name;
    int64_t waiters; /* -1: none */
    uint64_t count;  /* of gil.lost; 0: none */
    uint64_t flow, terminating;
};

static inline uint8_t *put_fixed64(uint8_t *p, uint64_t value) {
    for (int i = 0; i < 8; i++)
        p[i] = (uint8_t)(value >> 8 * i);
    return p + 8;
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
    if (packet.count) {
        uint8_t *annotation = p;
        annotation[0] = GS_TAG_ANNOTATION;
        annotation[2] = GS_TAG_ANNOTATION_NAME;
        annotation[3] = GS_ANNOTATION_COUNT;
        annotation[4] = GS_TAG_ANNOTATION_UINT;
        p = gs_put_varint(annotation + 5, packet.count);
        annotation[1] = (uint8_t)(p - annotation - 2);
    }
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
    if (packet.flow) {
        *p++ = GS_TAG_FLOW_0;
        *p++ = GS_TAG_FLOW_1;
        p = put_fixed64(p, packet.flow);
    }
    if (packet.terminating) {
        *p++ = GS_TAG_TERMINATING_0;
        *p++ = GS_TAG_TERMINATING_1;
        p = put_fixed64(p, packet.terminating);
    }
    body[-1] = (uint8_t)(p - body);
    *p++ = GS_TAG_FLAGS;
    *p++ = GS_FLAGS_NEEDS_STATE;
    head[1] = (uint8_t)(p - head - 2);
    return p;
}

static inline uint8_t *put_owner(uint8_t *p, const struct gs_sequence *pair, enum gs_type type) {
    memcpy(p, pair->owner[type - GS_BEGIN], GS_OWNER_ROOM);
    return p + pair->owner_bytes[type - GS_BEGIN];
}

struct gs_encoder *gs_encoder_new(int64_t start_ns, uint32_t n_threads,
                                  const uint32_t *thread_process, uint32_t n_gils,
                                  const uint32_t *gil_process) {
    struct gs_encoder *encoder = calloc(1, sizeof *encoder);
    if (!encoder)
        return NULL;
    encoder->start_ns = start_ns;
    encoder->closing = GS_NONE;
    if (!gs_sequences_init(&encoder->all, n_threads, thread_process, n_gils, gil_process)) {
        free(encoder);
        return NULL;
    }
    return encoder;
}

void gs_encoder_free(struct gs_encoder *encoder) {
    if (encoder)
        gs_sequences_free(&encoder->all);
    free(encoder);
}

static enum gs_encode_status introduce(struct gs_encoder *encoder, enum gs_role role,
                                       uint32_t thread, uint16_t gil,
                                       struct gs_encode_result *result) {
    uint32_t index = gs_sequences_add(&encoder->all, role, thread, gil, encoder->start_ns);
    if (index == GS_NONE)
        return GS_ENCODE_NO_MEMORY;
    result->sequence = index + GS_FIRST_SEQUENCE;
    result->role = role;
    result->thread = thread;
    result->gil = gil;
    return GS_ENCODE_NEW_SEQUENCE;
}

static void close_slice(void *context, uint32_t pair) {
    struct gs_encoder *encoder = context;
    struct gs_sequence *sequence = &encoder->all.sequences[pair];
    if (sequence->slice == GS_SLICE_NONE)
        return;
    sequence->slice = GS_SLICE_CLOSING;
    sequence->next_closing = encoder->closing;
    encoder->closing = pair;
}

/* Writes the END of the next slice that an event before has closed. */
static uint8_t *put_closing(struct gs_encoder *encoder, uint8_t *p, uint64_t *packets) {
    struct gs_sequence *pair = &encoder->all.sequences[encoder->closing];
    struct gs_gil_state *gil = &encoder->all.gils[pair->gil];
    int64_t time_ns = encoder->closing_ns > pair->time_ns ? encoder->closing_ns : pair->time_ns;
    p = put_packet(p, pair, time_ns, (struct packet){.type = GS_END, .waiters = -1});
    ++*packets;
    if (gil->holder == pair->thread) {
        p = put_owner(p, pair, GS_END);
        ++*packets;
        gil->holder = GS_NONE;
    }
    pair->slice = GS_SLICE_NONE;
    encoder->closing = pair->next_closing;
    return p;
}

/* An event without GIL: an instant on its thread's own sequence. NULL with status: not encoded. */
static uint8_t *put_thread_event(struct gs_encoder *encoder, uint8_t *p,
                                 const struct gs_event *event, enum gs_encode_status *status,
                                 struct gs_encode_result *result) {
    *status = GS_ENCODE_IMPOSSIBLE;
    uint32_t name;
    switch (event->kind) {
    case GS_THREAD_START:
        name = GS_NAME_THREAD_START;
        break;
    case GS_THREAD_END:
        name = GS_NAME_THREAD_END;
        break;
    case GS_PROCESS_START:
        name = GS_NAME_PROCESS_START;
        break;
    case GS_PROCESS_END:
        name = event->arg ? GS_NAME_PROCESS_KILLED : GS_NAME_PROCESS_END;
        break;
    default:
        result->message = "an event of a kind that is not known";
        return NULL;
    }
    if (event->gil != GS_NO_GIL || event->flags || event->arg > (event->kind == GS_PROCESS_END)) {
        result->message = "an event without GIL has an argument, a flag or a GIL";
        return NULL;
    }
    uint32_t own = encoder->all.threads[event->thread].own;
    if (own == GS_NONE) {
        *status = introduce(encoder, GS_ROLE_THREAD, event->thread, GS_NO_GIL, result);
        return NULL;
    }
    struct gs_sequence *sequence = &encoder->all.sequences[own];
    if (event->time_ns < sequence->time_ns) {
        result->message = "time runs backwards";
        return NULL;
    }
    p = put_packet(p, sequence, event->time_ns,
                   (struct packet){.type = GS_INSTANT, .name = name, .waiters = -1});
    result->packets++;
    if (event->kind == GS_THREAD_END || event->kind == GS_PROCESS_END) {
        encoder->closing_ns = event->time_ns;
        gs_sequences_close(&encoder->all, event, close_slice, encoder);
    }
    return p;
}

static const char *check_gil_event(const struct gs_encoder *encoder, const struct gs_event *event,
                                   const struct gs_sequence *pair) {
    if (event->time_ns < pair->time_ns)
        return "time runs backwards";
    if (event->kind == GS_GIL_LOST)
        return event->arg == 0 || event->flags ? "a gap of no events, or with a flag" : NULL;
    if (event->arg > GS_WAITERS_MAX)
        return "too many waiters";
    if (event->flags > (event->kind == GS_GIL_WAIT || event->kind == GS_GIL_ACQUIRE))
        return "a flag that is not known";
    switch (event->kind) {
    case GS_GIL_WAIT:
        return pair->slice ? "a wait of a thread that holds or waits" : NULL;
    case GS_GIL_ACQUIRE:
        if (encoder->all.gils[event->gil].holder != GS_NONE)
            return "an acquire of a GIL that another thread holds";
        return pair->slice && !(event->flags & GS_FLAG_WAITED)
                   ? "an acquire without waiting by a thread that waits"
                   : NULL;
    case GS_GIL_RELEASE:
    case GS_GIL_YIELD:
        return pair->slice == GS_SLICE_WAIT ? "a release by a thread that waits" : NULL;
    default:
        return NULL;
    }
}

static uint8_t *put_gil_event(struct gs_encoder *encoder, uint8_t *p, const struct gs_event *event,
                              enum gs_encode_status *status, struct gs_encode_result *result) {
    struct gs_sequences *all = &encoder->all;
    *status = GS_ENCODE_IMPOSSIBLE;
    if (event->kind > GS_GIL_LOST || event->gil >= all->n_gils ||
        all->gils[event->gil].process != all->threads[event->thread].process) {
        result->message = "an event of a GIL that its process does not have";
        return NULL;
    }
    uint32_t index = gs_sequences_find(all, event->thread, event->gil);
    if (index == GS_NONE) {
        *status = introduce(encoder, GS_ROLE_GIL, event->thread, event->gil, result);
        return NULL;
    }
    struct gs_sequence *pair = &all->sequences[index];
    struct gs_gil_state *gil = &all->gils[event->gil];
    result->message = check_gil_event(encoder, event, pair);
    if (result->message)
        return NULL;
    const int64_t now = event->time_ns, waiters = (int64_t)event->arg;

    switch (event->kind) {
    case GS_GIL_WAIT:
        p = put_packet(p, pair, now,
                       (struct packet){.type = GS_BEGIN,
                                       .name = GS_NAME_WAITS,
                                       .waiters = waiters,
                                       .category = event->flags & GS_FLAG_CPU ? GS_CATEGORY_CPU
                                                                              : GS_CATEGORY_IO});
        pair->slice = GS_SLICE_WAIT;
        result->packets++;
        return p;
    case GS_GIL_ACQUIRE: {
        if (pair->slice == GS_SLICE_WAIT) {
            p = put_packet(p, pair, now, (struct packet){.type = GS_END, .waiters = -1});
            result->packets++;
        }
        bool waited = event->flags & GS_FLAG_WAITED;
        p = put_packet(p, pair, now,
                       (struct packet){.type = GS_BEGIN,
                                       .name = GS_NAME_HOLDS,
                                       .waiters = waiters,
                                       .category = waited ? GS_CATEGORY_WAITED : GS_CATEGORY_NONE,
                                       .terminating = waited ? gil->flow : 0});
        gil->flow = 0;
        gil->holder = event->thread;
        pair->slice = GS_SLICE_HOLD;
        result->packets += 2;
        return put_owner(p, pair, GS_BEGIN);
    }
    case GS_GIL_RELEASE:
    case GS_GIL_YIELD:
        if (pair->slice == GS_SLICE_NONE || event->kind == GS_GIL_YIELD) {
            bool known = pair->slice == GS_SLICE_HOLD;
            p = put_packet(p, pair, now,
                           (struct packet){.type = GS_INSTANT,
                                           .name = event->kind == GS_GIL_YIELD ? GS_NAME_YIELD
                                                                               : GS_NAME_RELEASE,
                                           .waiters = known ? -1 : waiters});
            result->packets++;
            if (!known)
                return p;
        }
        gil->flow = waiters ? ++encoder->flows : 0;
        p = put_packet(p, pair, now,
                       (struct packet){.type = GS_END, .waiters = waiters, .flow = gil->flow});
        gil->holder = GS_NONE;
        pair->slice = GS_SLICE_NONE;
        result->packets += 2;
        return put_owner(p, pair, GS_END);
    case GS_GIL_REQUEST:
        p = put_packet(
            p, pair, now,
            (struct packet){.type = GS_INSTANT, .name = GS_NAME_REQUEST, .waiters = waiters});
        result->packets++;
        return p;
    default: /* GS_GIL_LOST */
        p = put_packet(
            p, pair, now,
            (struct packet){
                .type = GS_INSTANT, .name = GS_NAME_LOST, .waiters = -1, .count = event->arg});
        result->packets++;
        encoder->closing_ns = now;
        gs_sequences_close(all, event, close_slice, encoder);
        return p;
    }
}

int gs_encode(struct gs_encoder *encoder, const struct gs_event *events, uint64_t n_events,
              uint8_t *out, uint64_t room, struct gs_encode_result *result) {
    enum { EVENT_ROOM = 4 * GS_PACKET_ROOM };
    uint8_t *p = out;
    uint8_t *last = room < EVENT_ROOM ? NULL : out + room - EVENT_ROOM;
    uint64_t i = 0;
    enum gs_encode_status status = GS_ENCODE_DONE;
    memset(result, 0, sizeof *result);
    for (;;) {
        if (!last || p > last) {
            status = i == n_events && encoder->closing == GS_NONE ? GS_ENCODE_DONE : GS_ENCODE_FULL;
            break;
        }
        if (encoder->closing != GS_NONE) {
            p = put_closing(encoder, p, &result->packets);
            continue;
        }
        if (i == n_events)
            break;
        const struct gs_event *event = &events[i];
        if (event->thread >= encoder->all.n_threads) {
            result->message = "an event of a thread that is not in the table";
            status = GS_ENCODE_IMPOSSIBLE;
            break;
        }
        uint8_t *next = event->kind >= GS_THREAD_START || event->gil == GS_NO_GIL
                            ? put_thread_event(encoder, p, event, &status, result)
                            : put_gil_event(encoder, p, event, &status, result);
        if (!next)
            break;
        status = GS_ENCODE_DONE;
        p = next;
        i++;
    }
    result->consumed = i;
    result->written = (uint64_t)(p - out);
    return status;
}

int64_t gs_encoder_open_thread(const struct gs_encoder *encoder) {
    for (uint32_t i = 0; i < encoder->all.n_sequences; i++)
        if (encoder->all.sequences[i].slice != GS_SLICE_NONE)
            return encoder->all.sequences[i].thread;
    return -1;
}

const char *gs_format_name(int category, uint32_t iid) {
    static const char *const names[] = {
#define GS_X(iid, symbol, text) [iid] = text,
        GS_NAME_TABLE(GS_X)};
    static const char *const categories[] = {GS_CATEGORY_TABLE(GS_X)
#undef GS_X
    };
    if (category)
        return iid < sizeof categories / sizeof *categories ? categories[iid] : NULL;
    return iid < sizeof names / sizeof *names ? names[iid] : NULL;
}

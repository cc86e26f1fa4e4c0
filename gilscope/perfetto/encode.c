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
#include "packet_put.h"
#include "sequences.h"

#define GS_KEPT_PARTS 1024
#define GS_TOLD_BYTES (1u << 14)

struct gs_kept_parts;

struct gs_encoder {
    struct gs_sequences all;
    int64_t start_ns;
    uint64_t flows;
    uint32_t closing; /* list of sequences with END to be written before the next event */
    int64_t closing_ns;
    int64_t boottime_offset_ns;
    bool detailed;   /* the caller was told the detail of the next event's slice */
    uint8_t *last;   /* the room ends there, of the call under way */
    uint32_t n_told; /* 0, or how long the annotations for the next end of a slice are */
    uint8_t told[GS_TOLD_BYTES];
    struct gs_kept_parts *parts[GS_KEPT_PARTS];
};

#include "put_detail.h"

struct gs_encoder *gs_encoder_new(int64_t start_ns, const struct gs_tables *tables) {
    struct gs_encoder *encoder = calloc(1, sizeof *encoder);
    if (!encoder)
        return NULL;
    encoder->start_ns = start_ns;
    encoder->closing = GS_NONE;
    if (!gs_sequences_init(&encoder->all, tables, GS_NAME_OWNER)) {
        free(encoder);
        return NULL;
    }
    return encoder;
}

int gs_encoder_grow(struct gs_encoder *encoder, const struct gs_tables *tables) {
    return gs_sequences_grow(&encoder->all, tables) ? 0 : -1;
}

void gs_encoder_free(struct gs_encoder *encoder) {
    if (!encoder)
        return;
    gs_sequences_free(&encoder->all);
    for (size_t i = 0; i < GS_KEPT_PARTS; i++)
        free(encoder->parts[i]);
    free(encoder);
}

uint64_t gs_encoder_detail(struct gs_encoder *encoder, const struct gs_detail *detail,
                           const struct gs_detail_parts *parts, uint8_t *out, uint64_t room,
                           uint64_t *needed) {
    *needed = detail_room(parts);
    if (room < *needed)
        return 0;
    keep_parts(encoder, detail, parts);
    return (uint64_t)(put_detail(encoder, out, detail, parts) - out);
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

static void close_slices(void *context, uint32_t index) {
    struct gs_encoder *encoder = context;
    if (!gs_sequence_close(&encoder->all, index))
        return;
    encoder->all.sequences[index].next_closing = encoder->closing;
    encoder->closing = index;
}

#include "encode_detail.h"

/* Writes the next END of what an event before has closed. */
static uint8_t *put_closing(struct gs_encoder *encoder, uint8_t *p, uint64_t *packets) {
    struct gs_sequence *sequence = &encoder->all.sequences[encoder->closing];
    int64_t time_ns =
        encoder->closing_ns > sequence->time_ns ? encoder->closing_ns : sequence->time_ns;
    p = put_packet(p, sequence, time_ns, (struct packet){.type = GS_END, .waiters = -1});
    ++*packets;
    if (sequence->role == GS_ROLE_GIL) {
        struct gs_gil_state *gil = &encoder->all.gils[sequence->gil];
        if (sequence->waiting)
            end_waiting(gil, sequence, time_ns);
        if (gil->holder == sequence->thread) {
            p = put_owner(p, sequence, GS_END);
            ++*packets;
            gil->holder = GS_NONE;
        }
        gs_sequence_set(&encoder->all, sequence, GS_SLICE_NONE);
    }
    if (--sequence->closing == 0)
        encoder->closing = sequence->next_closing;
    return p;
}

#include "encode_processor.h"
#include "encode_thread.h"

static const char *check_gil_event(const struct gs_encoder *encoder, const struct gs_event *event,
                                   const struct gs_sequence *pair) {
    if (event->time_ns < pair->time_ns)
        return "time runs backwards";
    if (event->kind == GS_GIL_LOST)
        return event->flags ? "a gap with a flag" : NULL;
    if (event->kind == GS_GIL_WAKEUP) {
        if (event->flags || event->arg > encoder->all.n_threads)
            return "a wakeup with a flag, or of a thread that is not in the table";
        return event->arg && encoder->all.threads[event->arg - 1].process !=
                                 encoder->all.threads[event->thread].process
                   ? "a wakeup of another process's thread"
                   : NULL;
    }
    if (event->arg > GS_WAITERS_MAX)
        return "too many waiters";
    if (event->kind != GS_GIL_REQUEST && encoder->all.threads[event->thread].n_waits)
        return "a GIL wait, acquire or release by a thread that waits for a lock or a condition";
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
    if (event->kind > GS_GIL_WAKEUP || event->gil >= all->n_gils ||
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
    if (!encoder->detailed && detail_of(encoder, event, pair, &result->detail)) {
        if (!result->detail.of_wait && result->detail.leaf != GS_NONE && gil->flame == GS_NONE) {
            *status = introduce(encoder, GS_ROLE_FLAME, event->thread, event->gil, result);
            return NULL;
        }
        const struct gs_kept_parts *kept = kept_parts(encoder, &result->detail);
        struct gs_detail_parts parts = kept ? parts_of(kept) : (struct gs_detail_parts){0};
        if (!kept || p + detail_room(&parts) + GS_TOLD_BYTES > encoder->last) {
            encoder->detailed = true;
            *status = GS_ENCODE_DETAIL;
            return NULL;
        }
        result->packets += 2 + 2 * parts.n_frames;
        p = put_detail(encoder, p, &result->detail, &parts);
    }
    if (p + encoder->n_told > encoder->last) {
        *status = GS_ENCODE_FULL;
        return NULL;
    }
    encoder->detailed = false;
    account(encoder, event, pair);
    const int64_t now = event->time_ns, waiters = (int64_t)event->arg;

    switch (event->kind) {
    case GS_GIL_WAIT:
        p = put_packet(p, pair, now,
                       (struct packet){.type = GS_BEGIN,
                                       .name = GS_NAME_WAITS,
                                       .waiters = waiters,
                                       .category = event->flags & GS_FLAG_CPU ? GS_CATEGORY_CPU
                                                                              : GS_CATEGORY_IO});
        gs_sequence_set(all, pair, GS_SLICE_WAIT);
        result->packets++;
        return p;
    case GS_GIL_ACQUIRE: {
        if (pair->slice == GS_SLICE_WAIT) {
            p = put_slice_end(encoder, p, pair, now, -1, 0);
            result->packets++;
        }
        bool waited = event->flags & GS_FLAG_WAITED;
        p = put_packet(p, pair, now,
                       (struct packet){.type = GS_BEGIN,
                                       .name = GS_NAME_HOLDS,
                                       .waiters = waiters,
                                       .category = waited ? GS_CATEGORY_WAITED : GS_CATEGORY_NONE,
                                       .terminating = {waited ? gil->flow : 0, pair->wakeup}});
        gil->flow = pair->wakeup = 0;
        gil->holder = event->thread;
        gs_sequence_set(all, pair, GS_SLICE_HOLD);
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
        p = put_slice_end(encoder, p, pair, now, waiters, gil->flow);
        gil->holder = GS_NONE;
        gs_sequence_set(all, pair, GS_SLICE_NONE);
        result->packets += 2;
        return put_owner(p, pair, GS_END);
    case GS_GIL_REQUEST:
        p = put_packet(
            p, pair, now,
            (struct packet){.type = GS_INSTANT, .name = GS_NAME_REQUEST, .waiters = waiters});
        result->packets++;
        return p;
    case GS_GIL_WAKEUP: {
        uint32_t woken =
            event->arg ? gs_sequences_woken(all, (uint32_t)event->arg - 1, event->gil) : GS_NONE;
        uint64_t flow = woken != GS_NONE ? ++encoder->flows : 0;
        p = put_packet(p, pair, now,
                       (struct packet){.type = GS_INSTANT,
                                       .name = GS_NAME_WAKEUP,
                                       .waiters = -1,
                                       .annotation = event->arg ? GS_ANNOTATION_THREAD : 0,
                                       .value = event->arg - 1,
                                       .flow = flow,
                                       .n_flows = flow != 0});
        if (flow)
            all->sequences[woken].wakeup = flow;
        result->packets++;
        return p;
    }
    default: /* GS_GIL_LOST */
        p = put_packet(p, pair, now,
                       (struct packet){.type = GS_INSTANT,
                                       .name = GS_NAME_LOST,
                                       .waiters = -1,
                                       .annotation = event->arg ? GS_ANNOTATION_COUNT : 0,
                                       .value = event->arg});
        result->packets++;
        encoder->closing_ns = now;
        gs_sequences_close(all, event, close_slices, encoder);
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
    encoder->last = last;
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
        uint8_t *next = gs_is_of_processor(event->kind)
                            ? put_processor_event(encoder, p, event, &status, result)
                        : event->kind > GS_GIL_WAKEUP || event->gil == GS_NO_GIL
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

void gs_encoder_show(struct gs_encoder *encoder, uint32_t sequence, uint32_t tid,
                     int64_t boottime_offset_ns) {
    encoder->all.sequences[sequence - GS_FIRST_SEQUENCE].tid = tid;
    encoder->boottime_offset_ns = boottime_offset_ns;
}

int64_t gs_encoder_open_thread(const struct gs_encoder *encoder) {
    for (uint32_t i = 0; i < encoder->all.n_sequences; i++)
        if (gs_sequence_open(&encoder->all, i))
            return encoder->all.sequences[i].thread;
    return -1;
}

const char *gs_format_name(int table, uint32_t iid) {
    static const char *const names[] = {
#define GS_X(iid, symbol, text) [iid] = text,
        GS_NAME_TABLE(GS_X)};
    static const char *const categories[] = {GS_CATEGORY_TABLE(GS_X)};
    static const char *const annotations[] = {GS_ANNOTATION_TABLE(GS_X)
#undef GS_X
    };
    static const char *const of_details[] = {
#define GS_X(iid, symbol, text) [(iid) - GS_ANNOTATION_OF_DETAILS + 1] = text,
        GS_DETAIL_ANNOTATION_TABLE(GS_X)
#undef GS_X
    };
    switch (table) {
    case 0:
        return iid < sizeof names / sizeof *names ? names[iid] : NULL;
    case 1:
        return iid < sizeof categories / sizeof *categories ? categories[iid] : NULL;
    case 2:
        return iid < sizeof annotations / sizeof *annotations ? annotations[iid] : NULL;
    default:
        return iid < sizeof of_details / sizeof *of_details ? of_details[iid] : NULL;
    }
}

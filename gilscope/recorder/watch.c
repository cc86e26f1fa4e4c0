/* Looks for long waits and holds in the records that came since the last look, for a flight
 * recorder that writes down each of them: one pass over new records, nothing is merged.
 *
 * Actors: the recorder's thread, between two ticks. */
#include <stdlib.h>

#include "new_records.h"

#define EXPORT __attribute__((visibility("default")))

enum gs_watch_metric { GS_WATCH_IO_WAIT = 1, GS_WATCH_CPU_WAIT = 2, GS_WATCH_HOLD = 4 };

/* Where the last look at a thread ended, and what was open there. */
struct watched {
    struct gs_cursor cursor;
    uint64_t waits_since, holds_since; /* ticks; 0: it does not */
    bool cpu;                          /* its wait came after a forced yield */
};

struct gs_watch {
    struct watched *threads; /* by the unit of their page */
    uint32_t metrics;
    uint64_t longer_than; /* ticks */
    uint64_t longest;     /* that this look found, ticks */
};

EXPORT void gs_watch_close(struct gs_watch *watch) {
    if (watch)
        free(watch->threads);
    free(watch);
}

/* Watches for any of these metrics that lasts longer. NULL: no memory. */
EXPORT struct gs_watch *gs_watch_open(const struct gs_rooms *rooms, uint32_t metrics, uint64_t ns) {
    struct gs_watch *watch = calloc(1, sizeof *watch);
    if (!watch)
        return NULL;
    watch->metrics = metrics;
    watch->longer_than = (uint64_t)((double)ns * (double)rooms->header->clock_hz / 1e9);
    watch->threads = calloc(rooms->limit_units, sizeof *watch->threads);
    if (!watch->threads) {
        gs_watch_close(watch);
        return NULL;
    }
    return watch;
}

static void lasted(struct gs_watch *watch, uint32_t metric, uint64_t since, uint64_t until) {
    if ((watch->metrics & metric) && since && until > since && until - since > watch->longest)
        watch->longest = until - since;
}

static void look_at(struct gs_watch *watch, struct watched *thread,
                    const struct gs_record *record) {
    uint64_t ticks = record->stamp_kind >> GS_KIND_BITS;
    switch (record->stamp_kind & GS_KIND_MASK) {
    case GS_GIL_WAIT:
        thread->waits_since = ticks;
        thread->cpu = record->payload >> GS_FLAGS_SHIFT & GS_FLAG_CPU;
        break;
    case GS_GIL_ACQUIRE:
        lasted(watch, thread->cpu ? GS_WATCH_CPU_WAIT : GS_WATCH_IO_WAIT, thread->waits_since,
               ticks);
        thread->waits_since = 0;
        thread->holds_since = ticks;
        break;
    case GS_GIL_RELEASE:
    case GS_GIL_YIELD:
        lasted(watch, GS_WATCH_HOLD, thread->holds_since, ticks);
        thread->holds_since = 0;
        break;
    case GS_THREAD_LOST:
        thread->waits_since = thread->holds_since = 0;
        break;
    default:
        break;
    }
}

static void look_at_thread(const struct gs_rooms *rooms, struct gs_watch *watch, uint32_t unit) {
    struct watched *thread = &watch->threads[unit];
    if (!gs_cursor_goes_on(&thread->cursor, rooms, unit))
        thread->waits_since = thread->holds_since = 0;
    const struct gs_record *records;
    uint32_t n;
    while ((n = gs_new_records(&thread->cursor, rooms, unit, &records)))
        for (uint32_t i = 0; i < n; i++)
            look_at(watch, thread, &records[i]);
}

/* Looks at what came since the last look. Returns the longest that was too long, in ns; 0: none. */
EXPORT uint64_t gs_watch_look(const struct gs_rooms *rooms, struct gs_watch *watch) {
    watch->longest = 0;
    for (uint64_t i = 0; i < rooms->threads.n; i++)
        look_at_thread(rooms, watch, rooms->threads.units[i]);
    if (watch->longest < watch->longer_than)
        return 0;
    return (uint64_t)((double)watch->longest * 1e9 / (double)rooms->header->clock_hz);
}

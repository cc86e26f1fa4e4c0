/* Which threads stand: holds of a GIL, waits for one, and waits for locks that have been open for
 * longer than told. Each is told once, from the records that came since the last look; nothing is
 * merged.
 *
 * Actors: the recorder's thread, between two ticks. */
#include <stdbool.h>
#include <stdlib.h>

#include "../probe/clock.h"
#include "new_records.h"

#define EXPORT __attribute__((visibility("default")))

/* What a thread's last records leave open; the names in standing.py. */
enum gs_standing_kind { GS_STANDS_NOT = 0, GS_HOLDS = 1, GS_WAITS = 2, GS_WAITS_FOR_LOCK = 3 };

/* A row for the caller. */
struct gs_standing_row {
    uint64_t for_ns; /* how long it has been open */
    uint32_t pid;    /* as the process knows itself */
    uint32_t tid;
    uint32_t kind; /* enum gs_standing_kind */
    uint32_t is_new;
};

/* Where the last look at a thread ended, and what was open there. */
struct standing_thread {
    struct gs_cursor cursor;
    uint64_t since; /* ticks */
    uint8_t kind;   /* enum gs_standing_kind */
    bool told;
};

struct gs_standing {
    struct standing_thread *threads; /* by the unit of their page */
};

EXPORT void gs_standing_close(struct gs_standing *standing) {
    if (standing)
        free(standing->threads);
    free(standing);
}

/* NULL: no memory. */
EXPORT struct gs_standing *gs_standing_open(const struct gs_rooms *rooms) {
    struct gs_standing *standing = calloc(1, sizeof *standing);
    if (!standing)
        return NULL;
    standing->threads = calloc(rooms->limit_units, sizeof *standing->threads);
    if (!standing->threads) {
        gs_standing_close(standing);
        return NULL;
    }
    return standing;
}

static void set(struct standing_thread *thread, enum gs_standing_kind kind, uint64_t ticks) {
    thread->kind = (uint8_t)kind;
    thread->since = ticks;
    thread->told = false;
}

static void pass(struct standing_thread *thread, const struct gs_record *record) {
    uint64_t ticks = record->stamp_kind >> GS_KIND_BITS;
    switch (record->stamp_kind & GS_KIND_MASK) {
    case GS_GIL_WAIT:
        set(thread, GS_WAITS, ticks);
        break;
    case GS_GIL_ACQUIRE:
        set(thread, GS_HOLDS, ticks);
        break;
    case GS_LOCK_WAIT:
        set(thread, GS_WAITS_FOR_LOCK, ticks);
        break;
    case GS_GIL_RELEASE:
    case GS_GIL_YIELD:
    case GS_LOCK_ACQUIRE:
    case GS_THREAD_LOST:
        set(thread, GS_STANDS_NOT, 0);
        break;
    default:
        break;
    }
}

static void look_at(const struct gs_rooms *rooms, struct standing_thread *thread, uint32_t unit) {
    if (!gs_cursor_goes_on(&thread->cursor, rooms, unit))
        set(thread, GS_STANDS_NOT, 0);
    const struct gs_record *records;
    uint32_t n;
    while ((n = gs_new_records(&thread->cursor, rooms, unit, &records)))
        for (uint32_t i = 0; i < n; i++)
            pass(thread, &records[i]);
}

/* Looks at what came since the last look. Writes, of those that have stood for half of so many ns
 * or longer, at most `n` rows; returns how many they are. New are those that stand for the whole of
 * it and were not told as that before. */
EXPORT uint64_t gs_standing_look(const struct gs_rooms *rooms, struct gs_standing *standing,
                                 uint64_t ns, struct gs_standing_row *rows, uint64_t n) {
    uint64_t now = gs_clock_now((enum gs_clock_source)rooms->header->clock_source);
    double ns_per_tick = 1e9 / (double)rooms->header->clock_hz;
    uint64_t found = 0;
    now &= UINT64_MAX >> GS_KIND_BITS;
    for (uint64_t i = 0; i < rooms->threads.n; i++) {
        uint32_t unit = rooms->threads.units[i];
        struct standing_thread *thread = &standing->threads[unit];
        look_at(rooms, thread, unit);
        if (thread->kind == GS_STANDS_NOT || now <= thread->since)
            continue;
        double since = (double)(now - thread->since) * ns_per_tick;
        const struct gs_thread_page *page = (const void *)gs_room_at(rooms, unit);
        uint32_t owner = rooms->rooms[unit].owner;
        if (since < (double)ns / 2 || found >= n || !owner || rooms->rooms[owner].dead)
            continue;
        const struct gs_process_page *process = (const void *)gs_room_at(rooms, owner);
        if (process->end_ticks || page->end_ticks)
            continue;
        bool is_new = since >= (double)ns && !thread->told;
        rows[found++] = (struct gs_standing_row){(uint64_t)since, process->pid, page->tid,
                                                 thread->kind, is_new};
        thread->told |= is_new;
    }
    return found;
}

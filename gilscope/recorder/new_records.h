/* A thread's records, each once, as they come: where one look ends the next begins. Nothing is
 * merged; of records that were taken back unread nothing is known.
 *
 * Actors: the recorder's thread, between two ticks, or who has its tables to itself. */
#ifndef GILSCOPE_RECORDER_NEW_RECORDS_H
#define GILSCOPE_RECORDER_NEW_RECORDS_H

#include <stdbool.h>

#include "rooms.h"

/* Where the last look at the thread with the page of some unit ended. */
struct gs_cursor {
    uint64_t start_ticks; /* tells its page from another at the same unit; 0: not looked at */
    uint32_t chunk;       /* unit; 0: its page */
    uint32_t at;          /* records of that which were read */
};

/* To be called before each look. Returns false where what the caller knows of the thread is over:
 * it is another one, or records of it were taken back before they were read. */
static inline bool gs_cursor_goes_on(struct gs_cursor *cursor, const struct gs_rooms *rooms,
                                     uint32_t unit) {
    const struct gs_thread_page *page = (const void *)gs_room_at(rooms, unit);
    if (cursor->start_ticks != page->start_ticks) {
        *cursor = (struct gs_cursor){.start_ticks = page->start_ticks};
        return false;
    }
    const struct gs_room *chunk = &rooms->rooms[cursor->chunk];
    if (!cursor->chunk || (chunk->state == GS_ROOM_EVENTS && chunk->owner == unit))
        return true;
    cursor->chunk = rooms->rooms[unit].first;
    cursor->at = 0;
    return false;
}

/* Some of the records that are new, one behind the other, and how many; 0: there are no more. */
static inline uint32_t gs_new_records(struct gs_cursor *cursor, const struct gs_rooms *rooms,
                                      uint32_t unit, const struct gs_record **first) {
    for (;;) {
        const struct gs_thread_page *page = (const void *)gs_room_at(rooms, unit);
        const struct gs_record *records = page->records;
        uint32_t n = (uint32_t)(sizeof page->records / sizeof *records);
        uint32_t next = rooms->rooms[unit].first;
        if (cursor->chunk) {
            const struct gs_event_chunk *its = (const void *)gs_room_at(rooms, cursor->chunk);
            records = its->records;
            n = gs_chunk_records(rooms->rooms[cursor->chunk].units);
            next = rooms->rooms[cursor->chunk].next;
        }
        uint32_t from = cursor->at;
        while (cursor->at < n && __atomic_load_n(&records[cursor->at].stamp_kind, __ATOMIC_ACQUIRE))
            cursor->at++;
        *first = &records[from];
        if (cursor->at > from)
            return cursor->at - from;
        if (cursor->at < n || !next)
            return 0;
        cursor->chunk = next;
        cursor->at = 0;
    }
}

#endif

/* What is in the rooms of a ring file, and how it grows old.
 *
 * A room that was taken is looked at until it is published; from then on its owner is known. What
 * can be taken back is put into a heap by the time of its last record, each thing after all that
 * refers to it: chunks of events first, then their thread's page, then its process's. */
#include <stdlib.h>

#include "../probe/clock.h"
#include "rooms.h"

#define SETTLED_BY 3u /* records in the next chunk: struct gs_event_chunk */

static struct gs_room *room_of(const struct gs_rooms *rooms, uint32_t unit) {
    return &rooms->rooms[unit];
}

static bool is(const struct gs_rooms *rooms, uint32_t unit, enum gs_room_state state) {
    return unit < rooms->end_unit && rooms->rooms[unit].state == state;
}

/* ---- the heap ---------------------------------------------------------------------------------
 */

/* Without memory the room stays, which is safe. */
static void grow_old(struct gs_rooms *rooms, uint32_t unit, uint64_t ticks) {
    struct gs_room *room = room_of(rooms, unit);
    if (room->old)
        return;
    if (rooms->n_old == rooms->old_capacity) {
        uint64_t wanted = rooms->old_capacity ? rooms->old_capacity * 2 : 256;
        struct gs_old *grown = realloc(rooms->old, wanted * sizeof *grown);
        if (!grown)
            return;
        rooms->old = grown;
        rooms->old_capacity = wanted;
    }
    room->old = true;
    room->ticks = ticks;
    uint64_t at = rooms->n_old++;
    while (at > 0 && rooms->old[(at - 1) / 2].ticks > ticks) {
        rooms->old[at] = rooms->old[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    rooms->old[at] = (struct gs_old){ticks, unit};
}

static struct gs_old pop_oldest(struct gs_rooms *rooms) {
    struct gs_old top = rooms->old[0], last = rooms->old[--rooms->n_old];
    uint64_t at = 0;
    for (;;) {
        uint64_t child = 2 * at + 1;
        if (child >= rooms->n_old)
            break;
        if (child + 1 < rooms->n_old && rooms->old[child + 1].ticks < rooms->old[child].ticks)
            child++;
        if (rooms->old[child].ticks >= last.ticks)
            break;
        rooms->old[at] = rooms->old[child];
        at = child;
    }
    if (rooms->n_old)
        rooms->old[at] = last;
    return top;
}

/* ---- processes --------------------------------------------------------------------------------
 */

static void begin_process(struct gs_rooms *rooms, uint32_t unit) {
    struct gs_room *room = room_of(rooms, unit);
    const struct gs_chunk_header *header = gs_room_at(rooms, unit);
    uint32_t pid = ((const struct gs_process_page *)(const void *)header)->pid;
    room->taker = header->owner;
    if (room->taker == GS_TAKER_ELSEWHERE && gs_taker_maps(pid, rooms->fd))
        room->taker = pid; /* its number was only not sure to be that */
    if (room->taker == GS_TAKER_ELSEWHERE)
        return;
    room->born = gs_taker_born(room->taker);
    /* An exec: the program before is gone with its memory. */
    for (uint64_t i = 0; i < rooms->processes.n; i++) {
        uint32_t other = rooms->processes.units[i];
        if (other == unit || room_of(rooms, other)->taker != room->taker)
            continue;
        uint32_t first = gs_room_at(rooms, other)->ordinal < header->ordinal ? other : unit;
        room_of(rooms, first)->dead = true;
        gs_rooms_note_death(rooms, first);
    }
}

/* ---- what was published -----------------------------------------------------------------------
 */

static void add_chunk(struct gs_rooms *rooms, uint32_t unit, uint32_t owner) {
    struct gs_room *thread = room_of(rooms, owner);
    /* Behind all that have a lower ordinal: the newest, nearly always. */
    uint32_t ordinal = gs_room_at(rooms, unit)->ordinal, before = 0;
    if (thread->newest && gs_room_at(rooms, thread->newest)->ordinal < ordinal)
        before = thread->newest;
    else
        for (uint32_t at = thread->first; at && gs_room_at(rooms, at)->ordinal < ordinal;
             at = room_of(rooms, at)->next)
            before = at;
    struct gs_room *room = room_of(rooms, unit);
    room->next = before ? room_of(rooms, before)->next : thread->first;
    if (before)
        room_of(rooms, before)->next = unit;
    else
        thread->first = unit;
    if (!room->next)
        thread->newest = unit;
    if (!thread->looked)
        thread->looked = gs_units_add(&rooms->restless, owner);
}

/* A room that was taken has been published. False: its owner is not known yet. */
static bool enter(struct gs_rooms *rooms, uint32_t unit, uint32_t magic) {
    struct gs_room *room = room_of(rooms, unit);
    uint32_t owner = gs_room_at(rooms, unit)->owner;
    bool of_thread = magic == GS_EVENT_CHUNK;
    if (magic == GS_GIVEN_BACK) {
        gs_rooms_free(rooms, unit);
        return true;
    }
    if (magic != GS_PROCESS_PAGE) {
        if (!is(rooms, owner, of_thread ? GS_ROOM_THREAD : GS_ROOM_PROCESS))
            return false;
        room->owner = owner;
        room_of(rooms, owner)->owned++;
    }
    switch (magic) {
    case GS_PROCESS_PAGE:
        room->state = GS_ROOM_PROCESS;
        begin_process(rooms, unit);
        return gs_units_add(&rooms->processes, unit);
    case GS_THREAD_PAGE:
        room->state = GS_ROOM_THREAD;
        return gs_units_add(&rooms->threads, unit);
    case GS_EVENT_CHUNK:
        room->state = GS_ROOM_EVENTS;
        add_chunk(rooms, unit, owner);
        return true;
    default:
        room->state = magic == GS_STACK_PAGE ? GS_ROOM_STACKS : GS_ROOM_TABLE;
        return gs_units_add(&rooms->stacks, unit);
    }
}

/* What was taken is looked at from now on. */
static void collect(struct gs_rooms *rooms, uint32_t units) {
    uint64_t mask, *from = &rooms->collected[units != 1];
    struct gs_offers *offers = gs_offers(rooms->header, units, &mask);
    bool all = true;
    for (uint64_t n = *from; n < rooms->ready[units != 1]; n++) {
        uint64_t *slot = &offers->slots[n & mask], value = __atomic_load_n(slot, __ATOMIC_ACQUIRE);
        uint32_t unit = (uint32_t)value;
        bool good = is(rooms, unit, GS_ROOM_OFFERED);
        if (value && !gs_is_offered(value) && (!good || gs_units_add(&rooms->taken, unit))) {
            if (good) {
                room_of(rooms, unit)->state = GS_ROOM_TAKEN;
                room_of(rooms, unit)->taker = (uint32_t)(value >> GS_TAKER_SHIFT);
            }
            __atomic_store_n(slot, 0, __ATOMIC_RELEASE);
            value = 0;
        }
        all = all && value == 0;
        if (all)
            *from = n + 1;
    }
}

void gs_rooms_collect(struct gs_rooms *rooms) {
    collect(rooms, 1);
    collect(rooms, GS_CHUNK_UNITS);
}

/* Owners may come behind what they own: as long as any is found it goes on. What a process that is
 * dead took and never published is free again. */
static void look_at_taken(struct gs_rooms *rooms, bool thoroughly) {
    struct gs_units *taken = &rooms->taken;
    for (bool more = true; more;) {
        more = false;
        for (uint64_t i = 0; i < taken->n;) {
            uint32_t unit = taken->units[i];
            uint32_t magic = __atomic_load_n(&gs_room_at(rooms, unit)->magic, __ATOMIC_ACQUIRE);
            if (!magic || !enter(rooms, unit, magic)) {
                i++;
                continue;
            }
            taken->units[i] = taken->units[--taken->n];
            more = true;
        }
    }
    for (uint64_t i = 0; thoroughly && i < taken->n;) {
        uint32_t unit = taken->units[i];
        if (!gs_taker_is_dead(room_of(rooms, unit)->taker, 0) || gs_room_at(rooms, unit)->magic) {
            i++;
            continue;
        }
        gs_rooms_free(rooms, unit);
        taken->units[i] = taken->units[--taken->n];
    }
}

/* ---- how it grows old -------------------------------------------------------------------------
 */

/* How many records were written: they are a beginning. */
static uint32_t count(const struct gs_record *records, uint32_t n) {
    uint32_t low = 0;
    while (low < n) {
        uint32_t middle = low + (n - low) / 2;
        if (__atomic_load_n(&records[middle].stamp_kind, __ATOMIC_ACQUIRE))
            low = middle + 1;
        else
            n = middle;
    }
    return low;
}

static uint64_t later(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

static uint64_t last_of(const struct gs_record *records, uint32_t n) {
    uint32_t written = count(records, n);
    return written ? records[written - 1].stamp_kind >> GS_KIND_BITS : 0;
}

static const struct gs_event_chunk *chunk_at(const struct gs_rooms *rooms, uint32_t unit) {
    return (const void *)gs_room_at(rooms, unit);
}

static const struct gs_thread_page *thread_at(const struct gs_rooms *rooms, uint32_t unit) {
    return (const void *)gs_room_at(rooms, unit);
}

#define RECORDS_IN_PAGE                                                                            \
    ((uint32_t)(sizeof((struct gs_thread_page *)0)->records / sizeof(struct gs_record)))

static void chunk_grows_old(struct gs_rooms *rooms, uint32_t unit) {
    const struct gs_event_chunk *chunk = chunk_at(rooms, unit);
    struct gs_room *thread = room_of(rooms, room_of(rooms, unit)->owner);
    uint64_t last = last_of(chunk->records, gs_chunk_records(room_of(rooms, unit)->units));
    thread->ticks = later(thread->ticks, last);
    grow_old(rooms, unit, thread->ticks);
}

static bool is_settled(const struct gs_rooms *rooms, uint32_t unit) {
    uint32_t next = room_of(rooms, unit)->next;
    return next && (room_of(rooms, next)->next ||
                    __atomic_load_n(&chunk_at(rooms, next)->records[SETTLED_BY - 1].stamp_kind,
                                    __ATOMIC_ACQUIRE));
}

/* Threads with a chunk that they left. */
static void look_at_restless(struct gs_rooms *rooms) {
    for (uint64_t i = 0; i < rooms->restless.n;) {
        struct gs_room *thread = room_of(rooms, rooms->restless.units[i]);
        uint32_t unit = thread->first;
        for (; unit && room_of(rooms, unit)->next; unit = room_of(rooms, unit)->next)
            if (!room_of(rooms, unit)->old) {
                if (!is_settled(rooms, unit))
                    break;
                chunk_grows_old(rooms, unit);
            }
        if (unit && room_of(rooms, unit)->next) {
            i++; /* it has one that is not settled */
            continue;
        }
        thread->looked = false;
        rooms->restless.units[i] = rooms->restless.units[--rooms->restless.n];
    }
}

/* A thread that writes no more; its page is the process's until that one is dead or has taken it
 * from the list. */
static void thread_grows_old(struct gs_rooms *rooms, uint32_t unit) {
    struct gs_room *room = room_of(rooms, unit);
    for (uint32_t at = room->first; at; at = room_of(rooms, at)->next)
        if (!room_of(rooms, at)->old)
            chunk_grows_old(rooms, at);
    if (room->first ||
        (thread_at(rooms, unit)->over != GS_IS_ALONE && !room_of(rooms, room->owner)->dead))
        return;
    const struct gs_thread_page *page = thread_at(rooms, unit);
    uint64_t mask = UINT64_MAX >> GS_KIND_BITS, last = last_of(page->records, RECORDS_IN_PAGE);
    last = later(last, later(page->start_ticks & mask, page->end_ticks & mask));
    grow_old(rooms, unit, later(last, room->ticks));
}

static void stacks_grow_old(struct gs_rooms *rooms, uint32_t unit, uint64_t now) {
    const struct gs_stack_page *page = (const void *)gs_room_at(rooms, unit);
    uint64_t retired = __atomic_load_n(&page->retired, __ATOMIC_ACQUIRE);
    if (retired || room_of(rooms, room_of(rooms, unit)->owner)->dead)
        grow_old(rooms, unit, retired ? retired : now);
}

static void process_grows_old(struct gs_rooms *rooms, uint32_t unit, uint64_t now) {
    struct gs_room *room = room_of(rooms, unit);
    if (room->dead && !room->owned)
        grow_old(rooms, unit, later(room->ticks, now));
}

/* Takes out of a list what was taken back, before its room is anything else. */
static void sweep(struct gs_rooms *rooms, struct gs_units *list) {
    uint64_t n = 0;
    for (uint64_t i = 0; i < list->n; i++)
        if (room_of(rooms, list->units[i])->state != GS_ROOM_FREE)
            list->units[n++] = list->units[i];
    list->n = n;
}

static void disown(struct gs_rooms *rooms, uint32_t owner, uint64_t ticks) {
    struct gs_room *room = room_of(rooms, owner);
    room->owned--;
    room->ticks = later(room->ticks, ticks);
}

static uint64_t ticks_now(const struct gs_rooms *rooms) {
    struct gs_clock_snapshot now;
    gs_clock_snapshot((enum gs_clock_source)rooms->header->clock_source, &now);
    return now.ticks & UINT64_MAX >> GS_KIND_BITS;
}

/* Tables have no records: they are free at once where their process is dead or wants them no more.
 */
static void look_at_stacks(struct gs_rooms *rooms, uint64_t now) {
    struct gs_units *stacks = &rooms->stacks;
    uint64_t n = 0;
    for (uint64_t i = 0; i < stacks->n; i++) {
        uint32_t unit = stacks->units[i], owner = room_of(rooms, unit)->owner;
        uint32_t magic = __atomic_load_n(&gs_room_at(rooms, unit)->magic, __ATOMIC_ACQUIRE);
        bool table = is(rooms, unit, GS_ROOM_TABLE);
        if (magic == GS_GIVEN_BACK || (table && room_of(rooms, owner)->dead)) {
            disown(rooms, owner, 0);
            gs_rooms_free(rooms, unit);
            continue;
        }
        if (!table)
            stacks_grow_old(rooms, unit, now);
        stacks->units[n++] = unit;
    }
    stacks->n = n;
}

void gs_rooms_look(struct gs_rooms *rooms, bool thoroughly) {
    /* Who is seen dead now has published what it ever will before it is looked at below. */
    for (uint64_t i = 0; thoroughly && i < rooms->processes.n; i++) {
        uint32_t unit = rooms->processes.units[i];
        struct gs_room *process = room_of(rooms, unit);
        if (process->dead || !gs_taker_is_dead(process->taker, process->born))
            continue;
        process->dead = true;
        gs_rooms_note_death(rooms, unit);
    }
    gs_rooms_collect(rooms);
    look_at_taken(rooms, thoroughly);
    look_at_restless(rooms);
    if (!thoroughly)
        return;
    uint64_t now = ticks_now(rooms);
    for (uint64_t i = 0; i < rooms->threads.n; i++) {
        uint32_t unit = rooms->threads.units[i];
        const struct gs_room *room = room_of(rooms, unit);
        if (!room->old && (room_of(rooms, room->owner)->dead ||
                           __atomic_load_n(&thread_at(rooms, unit)->over, __ATOMIC_ACQUIRE)))
            thread_grows_old(rooms, unit);
    }
    look_at_stacks(rooms, now);
    for (uint64_t i = 0; i < rooms->processes.n; i++)
        process_grows_old(rooms, rooms->processes.units[i], now);
}

/* ---- taking back ------------------------------------------------------------------------------
 */

static void unlink_chunk(struct gs_rooms *rooms, uint32_t unit) {
    struct gs_room *thread = room_of(rooms, room_of(rooms, unit)->owner);
    uint32_t before = 0, next = room_of(rooms, unit)->next;
    for (uint32_t at = thread->first; at != unit; at = room_of(rooms, at)->next)
        before = at;
    if (before)
        room_of(rooms, before)->next = next;
    else
        thread->first = next;
    if (!next)
        thread->newest = before;
}

static void count_gone(uint64_t *counter, uint64_t n) {
    __atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

static void take_back(struct gs_rooms *rooms, struct gs_old old) {
    struct gs_file_header *header = rooms->header;
    struct gs_room *room = room_of(rooms, old.unit);
    uint32_t owner = room->owner;
    switch (room->state) {
    case GS_ROOM_EVENTS:
        count_gone(&header->gone_records,
                   count(chunk_at(rooms, old.unit)->records, gs_chunk_records(room->units)));
        unlink_chunk(rooms, old.unit);
        disown(rooms, owner, old.ticks);
        break;
    case GS_ROOM_THREAD:
        count_gone(&header->gone_records,
                   count(thread_at(rooms, old.unit)->records, RECORDS_IN_PAGE));
        count_gone(&header->gone_lost, thread_at(rooms, old.unit)->lost);
        disown(rooms, owner, old.ticks);
        break;
    case GS_ROOM_STACKS:
        disown(rooms, owner, old.ticks);
        break;
    default: /* a process */
        break;
    }
    gs_rooms_free(rooms, old.unit);
}

void gs_rooms_take_back(struct gs_rooms *rooms, uint64_t before, uint64_t spare) {
    uint64_t now = gs_rooms_spare(rooms), wanted = now < spare ? spare - now : 0;
    bool any = false;
    while (rooms->n_old && (rooms->old[0].ticks < before || wanted)) {
        struct gs_old old = pop_oldest(rooms);
        uint32_t units = room_of(rooms, old.unit)->units;
        /* Readers pair with it: what they find zeroed was cut off before. */
        if (rooms->header->kept_from <= old.ticks)
            __atomic_store_n(&rooms->header->kept_from, old.ticks + 1, __ATOMIC_SEQ_CST);
        gs_fence();
        if (!any)
            gs_moving_begins(rooms);
        gs_rooms_move_counters(rooms, old.unit);
        take_back(rooms, old);
        any = true;
        wanted -= wanted < units ? wanted : units;
    }
    if (!any)
        return;
    gs_moving_ends(rooms);
    sweep(rooms, &rooms->threads);
    sweep(rooms, &rooms->stacks);
    sweep(rooms, &rooms->processes);
}

/* What threads and processes that are gone have counted (struct gs_gone_counters).
 *
 * A thread's counters go to its process's page before its own is zeroed, a process's to the file's
 * header, so no sum ever falls. The recorder is the one writer of all that. A reader that finds
 * `moving` odd, or another number after it has read, reads again. */
#include "../probe/clock.h"
#include "../probe/counters.h"
#include "rooms.h"

#define EXPORT __attribute__((visibility("default")))

void gs_moving_begins(struct gs_rooms *rooms) {
    uint32_t *moving = &rooms->header->moving;
    __atomic_store_n(moving, (__atomic_load_n(moving, __ATOMIC_RELAXED) | 1), __ATOMIC_SEQ_CST);
    gs_fence(); /* what moves is stored after that */
}

void gs_moving_ends(struct gs_rooms *rooms) {
    uint32_t *moving = &rooms->header->moving;
    /* Release: who sees the even number sees all that moved. */
    __atomic_store_n(moving, __atomic_load_n(moving, __ATOMIC_RELAXED) + 1, __ATOMIC_RELEASE);
}

/* Before the file and the memory of the rooms go: who reads counters or copies meanwhile has
 * nothing. */
EXPORT void gs_rooms_give_back(struct gs_rooms *rooms) {
    __atomic_store_n(&rooms->header->moving, GS_ROOMS_GONE, __ATOMIC_SEQ_CST);
    gs_fence();
}

void gs_rooms_note_death(struct gs_rooms *rooms, uint32_t unit) {
    struct gs_process_page *page = (void *)gs_room_at(rooms, unit);
    if (page->gone.dead_ticks)
        return;
    /* Who reads meanwhile reads again: nobody has counted what is open up to a later time. */
    gs_moving_begins(rooms);
    __atomic_store_n(&page->gone.dead_ticks,
                     gs_clock_now((enum gs_clock_source)rooms->header->clock_source),
                     __ATOMIC_RELEASE);
    gs_moving_ends(rooms);
}

static void add_thread(struct gs_process_page *process, const struct gs_thread_page *thread,
                       uint64_t now) {
    const struct gs_counters *its = &thread->counters;
    struct gs_gone_counters *gone = &process->gone;
    uint64_t end = gs_end_of_thread(process, thread, now);
    gs_count(&gone->held, gs_stretch_until(its->held, end));
    for (unsigned i = 0; i < 2; i++)
        gs_count(&gone->waited[i], gs_stretch_until(its->waited[i], end));
    gs_count(&gone->made_wait, its->made_wait);
    gs_count(&gone->acquires, its->acquires);
    gs_count(&gone->contended, its->contended);
    gs_count(&gone->hand_overs, its->hand_overs);
}

static void add_process(struct gs_gone_counters *all, const struct gs_gone_counters *its) {
    gs_count(&all->held, its->held);
    for (unsigned i = 0; i < 2; i++)
        gs_count(&all->waited[i], its->waited[i]);
    gs_count(&all->made_wait, its->made_wait);
    gs_count(&all->acquires, its->acquires);
    gs_count(&all->contended, its->contended);
    gs_count(&all->hand_overs, its->hand_overs);
}

void gs_rooms_move_counters(struct gs_rooms *rooms, uint32_t unit) {
    const struct gs_room *room = &rooms->rooms[unit];
    if (room->state == GS_ROOM_THREAD)
        add_thread((void *)gs_room_at(rooms, room->owner), (const void *)gs_room_at(rooms, unit),
                   gs_clock_now((enum gs_clock_source)rooms->header->clock_source));
    else if (room->state == GS_ROOM_PROCESS)
        add_process(&rooms->header->gone,
                    &((const struct gs_process_page *)(const void *)gs_room_at(rooms, unit))->gone);
}

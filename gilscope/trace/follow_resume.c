/* What a live reader had read, kept so that another can go on where it was killed.
 *
 * The rows tell tables and places; nodes of stacks are found again, in pages that are in use. What
 * was to be given next is found again too: nothing of it was taken back. */
#include <stdlib.h>

#include "follow.h"

enum { BEGUN = 1, OVER = 2, UNCLEAN = 4, ENDED = 8 };
enum { THREAD_ENDED = 1, THREAD_LOSING = 2 };

/* Rows as many as gs_follow_counts tells. */
GS_EXPORT void gs_follow_save(const struct gs_follow *follow,
                              struct gs_follow_thread_state *threads,
                              struct gs_follow_process_state *processes,
                              struct gs_follow_gil_state *gils) {
    for (uint64_t i = 0; i < follow->n_threads; i++) {
        const struct follow_thread *t = &follow->threads[i];
        threads[i] = (struct gs_follow_thread_state){
            .start_ticks = t->start_ticks,
            .told_lost = t->told_lost,
            .last_ticks = t->last_ticks,
            .last_ns = t->last_ns,
            .unit = t->unit,
            .process = t->process,
            .ordinal = t->head.ordinal,
            .left = t->left_over ? t->left_over : (uint32_t)(t->head.end - t->head.at),
            .number = t->number,
            .ended_losing = (t->ended ? THREAD_ENDED : 0) | (t->losing ? THREAD_LOSING : 0),
        };
    }
    for (uint64_t i = 0; i < follow->n_processes; i++) {
        const struct follow_process *p = &follow->processes[i];
        processes[i] = (struct gs_follow_process_state){
            .start_ticks = p->start_ticks,
            .missing = p->missing,
            .start_ns = p->start_ns,
            .last_ns = p->last_ns,
            .end_ns = p->end_ns,
            .unit = p->unit,
            .serial = p->serial,
            .parent = p->parent,
            .first_thread = p->first_thread,
            .flags = (p->begun ? BEGUN : 0) | (p->over ? OVER : 0) | (p->unclean ? UNCLEAN : 0) |
                     (p->ended ? ENDED : 0),
        };
    }
    for (uint64_t i = 0; i < follow->n_gils; i++) {
        const struct follow_gil *g = &follow->gils[i];
        gils[i] = (struct gs_follow_gil_state){g->expected, g->last_ns, g->process, g->last_thread};
    }
}

static bool add_process(struct gs_follow *follow, const struct gs_follow_process_state *state) {
    if (gs_follow_reserve((void **)&follow->processes, follow->n_processes,
                          &follow->process_capacity, sizeof *follow->processes))
        return false;
    follow->processes[follow->n_processes++] = (struct follow_process){
        .unit = state->unit,
        .serial = state->serial,
        .parent = state->parent,
        .first_thread = state->first_thread,
        .threads = UINT32_MAX,
        .start_ticks = state->start_ticks,
        .missing = state->missing,
        .start_ns = state->start_ns,
        .last_ns = state->last_ns,
        .end_ns = state->end_ns,
        .starts = (state->flags & BEGUN) != 0,
        .begun = (state->flags & BEGUN) != 0,
        .over = (state->flags & OVER) != 0,
        .unclean = (state->flags & UNCLEAN) != 0,
        .ends = (state->flags & ENDED) != 0,
        .ended = (state->flags & ENDED) != 0,
        .gone = true,
    };
    return true;
}

static bool add_number(struct follow_process *process, uint32_t number, uint32_t id) {
    while (process->n_numbers < number) {
        if (gs_follow_reserve((void **)&process->numbers, process->n_numbers,
                              &process->number_capacity, sizeof *process->numbers))
            return false;
        process->numbers[process->n_numbers++] = 0;
    }
    if (number)
        process->numbers[number - 1] = id + 1;
    return true;
}

static bool add_thread(struct gs_follow *follow, const struct gs_follow_thread_state *state) {
    if (state->process >= follow->n_processes ||
        gs_follow_reserve((void **)&follow->threads, follow->n_threads, &follow->thread_capacity,
                          sizeof *follow->threads))
        return false;
    uint32_t id = (uint32_t)follow->n_threads++;
    struct follow_process *process = &follow->processes[state->process];
    struct follow_thread *thread = &follow->threads[id];
    *thread = (struct follow_thread){
        .unit = state->unit,
        .process = state->process,
        .next_of_process = process->threads,
        .head = {NULL, NULL, NULL, state->ordinal},
        .past = {NULL, NULL, NULL, state->ordinal},
        .start_ticks = state->start_ticks,
        .told_lost = state->told_lost,
        .last_ticks = state->last_ticks,
        .last_ns = state->last_ns,
        .left_over = state->left,
        .number = (uint16_t)state->number,
        .ended = (state->ended_losing & THREAD_ENDED) != 0,
        .losing = (state->ended_losing & THREAD_LOSING) != 0,
        .gone = true,
    };
    process->threads = id;
    process->open_threads++;
    return add_number(process, state->number, id);
}

static bool add_gil(struct gs_follow *follow, const struct gs_follow_gil_state *state) {
    struct follow_process *process = &follow->processes[state->process];
    if (state->process >= follow->n_processes ||
        gs_follow_reserve((void **)&process->gils, process->n_gils, &process->gil_capacity,
                          sizeof *process->gils) ||
        gs_follow_reserve((void **)&follow->gils, follow->n_gils, &follow->gil_capacity,
                          sizeof *follow->gils))
        return false;
    process->gils[process->n_gils++] = (uint32_t)follow->n_gils;
    follow->gils[follow->n_gils++] = (struct follow_gil){.process = state->process,
                                                         .last_thread = state->last_thread,
                                                         .expected = state->expected,
                                                         .last_ns = state->last_ns};
    return true;
}

/* Finds the pages that are still there. */
static void find_pages(struct gs_follow *follow) {
    for (uint64_t i = 0; i < follow->n_processes; i++) {
        struct follow_process *process = &follow->processes[i];
        if (process->unit >= follow->n_rooms)
            continue;
        const struct gs_process_page *page = gs_follow_unit(follow, process->unit);
        if (page->header.magic != GS_PROCESS_PAGE || page->header.ordinal != process->serial ||
            page->start.ticks != process->start_ticks)
            continue;
        process->gone = false;
        follow->rooms[process->unit] =
            (struct follow_room){GS_PROCESS_PAGE, (uint32_t)i, process->serial, 0};
    }
    for (uint64_t i = 0; i < follow->n_threads; i++) {
        struct follow_thread *thread = &follow->threads[i];
        if (thread->unit >= follow->n_rooms)
            continue;
        const struct gs_thread_page *page = gs_follow_unit(follow, thread->unit);
        if (page->header.magic != GS_THREAD_PAGE || page->start_ticks != thread->start_ticks)
            continue;
        thread->gone = false;
        follow->rooms[thread->unit] =
            (struct follow_room){GS_THREAD_PAGE, (uint32_t)i, thread->process, 0};
        if (thread->head.ordinal == 0) {
            const struct gs_record *end =
                page->records + sizeof page->records / sizeof *page->records;
            thread->head =
                gs_follow_with_left((struct place){page->records, end, NULL, 0}, thread->left_over);
            thread->past = thread->head;
            thread->left_over = 0;
        }
    }
}

/* To be called right after gs_follow_open, with what gs_follow_save gave. 0, or -1 with `error`. */
GS_EXPORT int gs_follow_resume(struct gs_follow *follow,
                               const struct gs_follow_thread_state *threads, uint64_t n_threads,
                               const struct gs_follow_process_state *processes,
                               uint64_t n_processes, const struct gs_follow_gil_state *gils,
                               uint64_t n_gils) {
    uint64_t units = follow->header->end_unit;
    if (units > follow->bytes / GS_UNIT_BYTES)
        units = follow->bytes / GS_UNIT_BYTES;
    follow->rooms = calloc(units + 1, sizeof *follow->rooms);
    bool good = follow->rooms != NULL;
    follow->n_rooms = good ? units : 0;
    for (uint64_t i = 0; good && i < n_processes; i++)
        good = add_process(follow, &processes[i]);
    for (uint64_t i = 0; good && i < n_threads; i++)
        good = threads[i].left <= GS_CHUNK_UNITS * GS_UNIT_BYTES / sizeof(struct gs_record) &&
               add_thread(follow, &threads[i]);
    for (uint64_t i = 0; good && i < n_gils; i++)
        good = gils[i].process < n_processes && add_gil(follow, &gils[i]);
    for (uint64_t i = 0; good && i < n_processes; i++)
        good = processes[i].first_thread == UINT32_MAX || processes[i].first_thread < n_threads;
    for (uint64_t i = 0; good && i < n_gils; i++)
        good = gils[i].last_thread < n_threads || !gils[i].expected;
    if (!good)
        return gs_follow_fail(follow, "what was read of it does not fit");
    find_pages(follow);
    return 0;
}

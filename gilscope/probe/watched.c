#define _GNU_SOURCE
#include "watched.h"

#include "policy.h"
#include "schedule.h"

_Alignas(64) struct gs_watched gs_watched[GS_WATCHED_GILS];
_Atomic unsigned gs_n_watched;

static void give_up(struct gs_watched *its) {
    its->switch_cond = NULL;
    its->memory = NULL;
    its->cond = NULL;
    if (its->gil.sequence == 0 && gs_return_gil_index(its->gil.index))
        its->has_index = false;
}

/* Up to 3.11 an interpreter ends while its last thread holds the GIL, and says no more of it. */
bool gs_watched_forget(pthread_cond_t *cond) {
    bool proved = false;
    for (unsigned i = 0; i < gs_n_watched; i++) {
        struct gs_watched *its = &gs_watched[i];
        if (!its->memory || &its->memory->cond != cond)
            continue;
        proved |= gs_watched_is_proved(its);
        if (its->gil.sequence && its->gil.holder == &gs_writer)
            gs_on_release(&its->gil);
        gs_stacks_end(&its->gil);
        give_up(its);
    }
    return proved;
}

bool gs_watch(struct gs_gil_memory *memory) {
    for (unsigned i = 0; i < GS_WATCHED_GILS; i++) {
        struct gs_watched *its = &gs_watched[i];
        pthread_cond_t *expected = NULL;
        /* Reserve with the address of the slot itself, which no caller can pass. */
        if (!__atomic_compare_exchange_n((pthread_cond_t **)&its->cond, &expected,
                                         (pthread_cond_t *)its, false, __ATOMIC_ACQUIRE,
                                         __ATOMIC_RELAXED))
            continue;
        struct gs_gil before = its->gil;
        uint16_t ended = its->has_index ? before.index : GS_NO_INDEX;
        uint16_t index = gs_next_gil_index(ended);
        if (index == GS_NO_INDEX) {
            its->cond = NULL;
            break;
        }
        its->has_index = true;
        its->gil = (struct gs_gil){.index = index, .state = &memory->last_holder};
        if (index == ended) { /* the trace has both as one */
            its->gil.sequence = before.sequence;
            its->gil.stacks = before.stacks;
        }
        its->scheduled = gs_scheduling();
        gs_schedule_begin(i, &its->gil);
        its->memory = memory;
        __atomic_store_n(&its->switch_cond, &memory->switch_cond, __ATOMIC_RELEASE);
        unsigned slots = gs_n_watched;
        while (slots < i + 1 &&
               !__atomic_compare_exchange_n((unsigned *)&gs_n_watched, &slots, i + 1, false,
                                            __ATOMIC_RELEASE, __ATOMIC_RELAXED))
            ;
        return true;
    }
    if (gs_process.ring.header)
        __atomic_fetch_add(&gs_process.ring.header->unwatched, 1, __ATOMIC_RELAXED);
    return false;
}

struct gs_watched *gs_watch_in_use(struct gs_gil_memory *memory) {
    if (!gs_watch(memory))
        return NULL;
    for (unsigned i = 0; i < gs_n_watched; i++)
        if (gs_watched[i].memory == memory) {
            gs_watched[i].cond = &memory->cond;
            return &gs_watched[i];
        }
    return NULL;
}

void gs_watched_begin_anew(void) {
    for (unsigned i = 0; i < gs_n_watched; i++) {
        struct gs_watched *its = &gs_watched[i];
        its->switch_cond = NULL;
        its->memory = NULL;
        its->has_index = false;
        its->gil.holder = NULL;
        its->cond = NULL;
    }
    gs_n_watched = 0;
    gs_find_gil_after_fork();
}

bool gs_watched_prove(struct gs_watched *its, const void *caller) {
    if (!gs_gil_is_proved(its->memory, caller)) {
        give_up(its);
        return false;
    }
    its->cond = &its->memory->cond;
    return true;
}

/* A child's GILs are its own: their events count from 0 and have new ids. CPython makes its GIL
 * anew right after; a child that was forked behind CPython's back goes on with what it inherited.
 */
void gs_watched_after_fork(void) {
    for (unsigned i = 0; i < gs_n_watched; i++) {
        struct gs_watched *its = &gs_watched[i];
        its->has_index = its->cond != NULL;
        if (its->has_index)
            its->gil = (struct gs_gil){.index = gs_next_gil_index(GS_NO_INDEX),
                                       .holder = its->gil.holder,
                                       .state = its->gil.state};
    }
    gs_find_gil_after_fork();
}

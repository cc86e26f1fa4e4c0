#include "condvar.h"

#include <stddef.h>

struct gs_condvar_waiter {
    struct gs_condvar_waiter *next;
    uint16_t number;
    struct gs_parker parker;
};

static void leave(struct gs_condvar *condvar, struct gs_condvar_waiter *leaves) {
    struct gs_condvar_waiter **link = &condvar->first, *before = NULL;
    while (*link != leaves) {
        before = *link;
        link = &before->next;
    }
    *link = leaves->next;
    if (condvar->last == leaves)
        condvar->last = before;
}

bool gs_condvar_wait(struct gs_condvar *condvar, pthread_mutex_t *mutex, enum gs_backend backend,
                     uint64_t until, uint16_t number) {
    struct gs_condvar_waiter here = {.next = NULL, .number = number};
    int cancel_state; /* a thread that is cancelled in here would stay linked */
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    gs_parker_init(&here.parker, backend);
    *(condvar->first ? &condvar->last->next : &condvar->first) = &here;
    condvar->last = &here;
    bool signalled = gs_park(&here.parker, mutex, until);
    if (!signalled)
        leave(condvar, &here);
    gs_parker_destroy(&here.parker);
    pthread_setcancelstate(cancel_state, &cancel_state);
    return signalled;
}

int gs_condvar_signal(struct gs_condvar *condvar) {
    struct gs_condvar_waiter *first = condvar->first;
    if (!first)
        return GS_NOBODY_WAITS;
    condvar->first = first->next;
    if (!condvar->first)
        condvar->last = NULL;
    gs_unpark(&first->parker);
    return first->number;
}

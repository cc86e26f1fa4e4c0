/* Who lives on behind a fork. In the child only the thread that forked does, yet what the others
 * left in the queues of locks and conditions stands there still. Nobody is told of the objects, so
 * each queue finds out when it is next looked at: by the number of forks that made this process. */
#ifndef GILSCOPE_FORKS_H
#define GILSCOPE_FORKS_H

#include <stdbool.h>
#include <stdint.h>

/* Written in a child before it has a second thread. */
struct gs_forks {
    uint32_t count;     /* forks between the first process and this one */
    uintptr_t survivor; /* who made the last of them, as pthread_self() tells it */
    uint32_t since;     /* the count in which it was begun: it made every fork since */
};

extern struct gs_forks gs_forks __attribute__((visibility("hidden")));

/* Begins to count. What counts already goes on. */
void gs_forks_watch(void);

/* Whether a thread of the process that had this count is one of this process. */
static inline bool gs_forks_survived(uintptr_t thread, uint32_t count) {
    return count == gs_forks.count || (count >= gs_forks.since && thread == gs_forks.survivor);
}

#endif

#define _GNU_SOURCE
#include "forks.h"

#include <pthread.h>

struct gs_forks gs_forks;

static void in_child(void) {
    uintptr_t me = (uintptr_t)pthread_self();
    if (gs_forks.survivor != me)
        gs_forks.since = gs_forks.count;
    gs_forks.survivor = me;
    gs_forks.count++;
}

static void watch(void) {
    pthread_atfork(NULL, NULL, in_child);
}

void gs_forks_watch(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch);
}

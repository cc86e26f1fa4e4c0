/* Two threads that wake each other in turn through the condition variable of condvar.h: what a
 * hand-over takes, for who counts instructions and system calls.
 *
 *     hand_over BACKEND TIMES
 *
 * Backends: pthread, emulated, futex. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../gilscope/probe/condvar.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static enum gs_backend backend;
static unsigned times;

/* Under the mutex. */
static struct gs_condvar condvar;
static unsigned turn;

static void *run(void *argument) {
    unsigned me = (unsigned)(uintptr_t)argument;
    pthread_mutex_lock(&mutex);
    for (unsigned i = 0; i < times; i++) {
        while (turn != me)
            gs_condvar_wait(&condvar, &mutex, backend, UINT64_MAX, 1);
        turn = 1 - me;
        gs_condvar_signal(&condvar);
    }
    pthread_mutex_unlock(&mutex);
    return NULL;
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 2;
    const char *backends[] = {"pthread", "emulated", "futex"};
    for (unsigned i = 0; i < 3; i++)
        if (strcmp(argv[1], backends[i]) == 0)
            backend = (enum gs_backend)i;
    times = (unsigned)atoi(argv[2]);
    pthread_t other;
    if (pthread_create(&other, NULL, run, (void *)1) != 0)
        return 1;
    run((void *)0);
    pthread_join(other, NULL);
    return 0;
}

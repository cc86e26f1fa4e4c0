/* A bounded queue of an application's own: cond, mutex, cond, mutex, as far apart as a GIL's. */
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

struct queue { /* up to `last`, what a GIL has in these places */
    unsigned long interval;
    void *holder;
    int locked;
    unsigned long switches;
    pthread_cond_t not_empty;
    pthread_mutex_t mutex;
    pthread_cond_t not_full;
    pthread_mutex_t other;
    int length, got, early, over;
};

enum { ITEMS = 40, ROOM = 2, PAGE = 4096 };

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* `kind`: of both mutexes. Before `not_empty` stands nothing that can be read where the queue is
 * `at` a page's beginning (offset by the head). */
static void make_queue(struct queue *its, int kind, unsigned char head) {
    pthread_condattr_t monotonic;
    pthread_mutexattr_t of_kind;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutexattr_init(&of_kind);
    pthread_mutexattr_settype(&of_kind, kind);
    if (head != 0xff)
        memset(its, head, offsetof(struct queue, not_empty));
    pthread_mutex_init(&its->mutex, &of_kind);
    pthread_mutex_init(&its->other, &of_kind);
    pthread_cond_init(&its->not_empty, &monotonic);
    pthread_cond_init(&its->not_full, &monotonic);
    its->length = its->got = its->early = its->over = 0;
}

static void *consume(void *queue) {
    struct queue *its = queue;
    pthread_mutex_lock(&its->mutex);
    while (!its->over || its->length) {
        while (!its->length && !its->over) {
            struct timespec until;
            double end = seconds() + 0.05;
            clock_gettime(CLOCK_MONOTONIC, &until);
            until.tv_nsec += 50000000;
            until.tv_sec += until.tv_nsec / 1000000000;
            until.tv_nsec %= 1000000000;
            if (pthread_cond_timedwait(&its->not_empty, &its->mutex, &until) == ETIMEDOUT &&
                seconds() < end - 0.001)
                its->early++;
        }
        if (!its->length)
            continue;
        its->length--;
        its->got++;
        pthread_mutex_lock(&its->other);
        pthread_cond_signal(&its->not_full);
        pthread_mutex_unlock(&its->other);
    }
    pthread_mutex_unlock(&its->mutex);
    return NULL;
}

static void *produce(void *queue) {
    struct queue *its = queue;
    for (int i = 0; i < ITEMS; i++) {
        struct timespec nap = {.tv_nsec = i % 10 ? 200000 : 60000000};
        nanosleep(&nap, NULL);
        pthread_mutex_lock(&its->mutex);
        while (its->length >= ROOM)
            pthread_cond_wait(&its->not_full, &its->mutex);
        its->length++;
        pthread_cond_signal(&its->not_empty);
        pthread_mutex_unlock(&its->mutex);
    }
    pthread_mutex_lock(&its->mutex);
    its->over = 1;
    pthread_cond_broadcast(&its->not_empty);
    pthread_mutex_unlock(&its->mutex);
    return NULL;
}

#include <pthread.h>
#include <semaphore.h>
#include <time.h>

static pthread_cond_t cond, plain;
static sem_t ready;

static void *work(void *argument) {
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&cond, &monotonic);
    pthread_cond_init(&plain, NULL);
    pthread_cond_signal(&cond);
    pthread_cond_broadcast(&plain);
    pthread_cond_destroy(&cond);
    sem_post(&ready);
    return argument;
}

__attribute__((constructor)) static void wait_for_a_thread(void) {
    pthread_t thread;
    sem_init(&ready, 0, 0);
    pthread_create(&thread, NULL, work, NULL);
    sem_wait(&ready);
    pthread_join(thread, NULL);
}

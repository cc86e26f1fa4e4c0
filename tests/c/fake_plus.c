/* What a libpython with the probe inside has of it: a GIL that calls the hooks, and the names by
 * which the probe knows an interpreter. */
#include "../../gilscope/probe/hooks.h"

#define EXPORT __attribute__((visibility("default")))

EXPORT unsigned long _PyRuntime[64] = {5000}; /* opens with the switch interval */
EXPORT const char *Py_GetVersion(void) {
    return "3.13.fake (made up)";
}

static uint64_t storage[GS_GIL_WORDS];
static void *holder; /* stands for last_holder */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;

EXPORT void fake_use(int times) {
    gs_hook_gil_created(storage, _PyRuntime, &holder, NULL);
    _PyRuntime[0] = 700;
    for (int i = 0; i < times; i++) {
        pthread_mutex_lock(&mutex);
        gs_hook_acquired(storage);
        pthread_mutex_unlock(&mutex);
        pthread_mutex_lock(&mutex);
        gs_hook_released(storage);
        pthread_cond_signal(&cond);
        pthread_mutex_unlock(&mutex);
    }
}

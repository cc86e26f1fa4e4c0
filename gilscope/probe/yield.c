/* gilscope_yield: a switch that the program asks for. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sched.h>
#include <stddef.h>

#include "api.h"
#include "gil_condvar.h"
#include "policy.h"

int gilscope_yield(void) {
    if (gs_gave_way_to)
        return gs_gave_way_to->yield();
    static void *(*save)(void);
    static void (*restore)(void *);
    if (!restore) {
        *(void **)&save = dlsym(RTLD_DEFAULT, "PyEval_SaveThread");
        *(void **)&restore = dlsym(RTLD_DEFAULT, "PyEval_RestoreThread");
    }
    if (!save || !restore)
        return -1;
    if (gs_scheduling())
        gs_gil_thread_yields();
    void *state = save();
    if (!gs_scheduling())
        sched_yield();
    restore(state);
    return 0;
}

/* gilscope_yield: a switch that the program asks for. */
#define _GNU_SOURCE
#include <sched.h>
#include <stddef.h>

#include "api.h"
#include "gil_condvar.h"
#include "policy.h"
#include "python.h"

int gilscope_yield(void) {
    if (gs_gave_way_to)
        return gs_gave_way_to->yield();
    void *(*save)(void) = (void *(*)(void))gs_python.save_thread;
    void (*restore)(void *) = gs_python.restore_thread;
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

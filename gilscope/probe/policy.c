#define _GNU_SOURCE
#include "policy.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "gil_condvar.h"

enum gs_policy gs_policy;

static const char *const condvars[] = {
    [GS_PTHREAD] = "pthread", [GS_EMULATED] = "emulated", [GS_FUTEX] = "futex"};

void gs_policy_start(void) {
    const char *policy = getenv("GILSCOPE_POLICY");
    const char *grace = getenv("GILSCOPE_GRACE_US");
    const char *condvar = getenv("GILSCOPE_CONDVAR");
    if (policy && strcmp(policy, "io-priority") == 0)
        gs_policy = GS_IO_PRIORITY;
    if (grace && *grace)
        gs_gil_parameters.grace = strtoul(grace, NULL, 10) * 1000;
    for (unsigned i = 0; condvar && i < sizeof condvars / sizeof *condvars; i++)
        if (strcmp(condvar, condvars[i]) == 0)
            gs_gil_parameters.backend = (enum gs_backend)i;
    cpu_set_t processors;
    if (sched_getaffinity(0, sizeof processors, &processors) == 0 && CPU_COUNT(&processors) < 2)
        gs_gil_parameters.spin = 0; /* who spins there keeps the holder from running */
}

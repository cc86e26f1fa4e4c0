#define _GNU_SOURCE
#include "policy.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "gil_condvar.h"
#include "switches.h"

enum { MOST_GRACE_US = 1000000 };

enum gs_policy gs_policy;

static const char *const condvars[] = {
    [GS_PTHREAD] = "pthread", [GS_EMULATED] = "emulated", [GS_FUTEX] = "futex"};

void gs_policy_start(void) {
    const char *policy = gs_switch("policy");
    const char *grace = gs_switch("grace_us");
    const char *condvar = gs_switch("condvar");
    gs_policy = policy && strcmp(policy, "io-priority") == 0 ? GS_IO_PRIORITY : GS_CLASSIC;
    char *end;
    unsigned long us = grace && *grace ? strtoul(grace, &end, 10) : MOST_GRACE_US + 1;
    if (us <= MOST_GRACE_US && !*end)
        gs_gil_parameters.grace = us * 1000;
    for (unsigned i = 0; condvar && i < sizeof condvars / sizeof *condvars; i++)
        if (strcmp(condvar, condvars[i]) == 0) {
            gs_gil_parameters.backend = (enum gs_backend)i;
            gs_gil_parameters.backend_chosen = true;
        }
    cpu_set_t processors;
    if (sched_getaffinity(0, sizeof processors, &processors) == 0 && CPU_COUNT(&processors) < 2)
        gs_gil_parameters.spin = 0; /* who spins there keeps the holder from running */
}

const char *gs_policy_name(void) {
    return gs_scheduling() ? "io-priority" : "classic";
}

const char *gs_condvar_name(void) {
    bool own = gs_scheduling() || gs_gil_parameters.backend_chosen;
    return condvars[own ? gs_gil_parameters.backend : GS_PTHREAD];
}

#define _GNU_SOURCE
#include "policy.h"

#include <ctype.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "gil_condvar.h"
#include "rules.h"
#include "switches.h"

enum { MOST_GRACE_US = 1000000 };

enum gs_policy gs_policy;

static const char *const condvars[] = {
    [GS_PTHREAD] = "pthread", [GS_EMULATED] = "emulated", [GS_FUTEX] = "futex"};

/* These take a value that is not empty, and return whether it is one. */

static bool choose_policy(const char *value) {
    gs_policy = strcmp(value, "io-priority") == 0 ? GS_IO_PRIORITY : GS_CLASSIC;
    return gs_policy == GS_IO_PRIORITY || strcmp(value, "classic") == 0;
}

static bool choose_grace(const char *value) {
    char *end;
    unsigned long us = strtoul(value, &end, 10);
    if (!isdigit((unsigned char)*value) || *end || us > MOST_GRACE_US)
        return false;
    gs_gil_parameters.grace = us * 1000;
    return true;
}

static bool choose_condvar(const char *value) {
    for (unsigned i = 0; i < sizeof condvars / sizeof *condvars; i++)
        if (strcmp(value, condvars[i]) == 0) {
            gs_gil_parameters.backend = (enum gs_backend)i;
            return gs_gil_parameters.backend_chosen = true;
        }
    return false;
}

static const struct {
    const char *name, *wrong;
    bool (*choose)(const char *);
} choices[] = {
    {"policy", "gilscope.policy (or GILSCOPE_POLICY) is classic or io-priority", choose_policy},
    {"grace_us",
     "gilscope.grace_us (or GILSCOPE_GRACE_US) is a number of microseconds up to a second",
     choose_grace},
    {"condvar", "gilscope.condvar (or GILSCOPE_CONDVAR) is futex, emulated or pthread",
     choose_condvar},
};

#ifdef GILSCOPE_TEST_RULES

unsigned gs_rules_left_out;

bool gs_rules_leave_out(const char *names) {
    static const char *const known[] = {
#define X(NAME, name, number, without) name,
        GS_RULES(X)
#undef X
    };
    gs_rules_left_out = 0;
    while (names && *names) {
        size_t length = strcspn(names, ","), rule = 0, rules = sizeof known / sizeof *known;
        while (rule < rules &&
               (strlen(known[rule]) != length || memcmp(known[rule], names, length) != 0))
            rule++;
        if (rule == rules)
            return false;
        gs_rules_left_out |= 1u << rule;
        names += length + (names[length] == ',');
    }
    return true;
}

#endif

/* Who spins on the only processor keeps the holder from running. */
static void fit_processors(void) {
    cpu_set_t processors;
    if (sched_getaffinity(0, sizeof processors, &processors) == 0 && CPU_COUNT(&processors) < 2)
        gs_gil_parameters.spin = 0;
}

bool gs_policy_choose(const char *policy, const char *grace) {
    bool good = choose_policy(policy) && (!*grace || choose_grace(grace));
    if (!good)
        gs_policy = GS_CLASSIC;
    fit_processors();
    return good;
}

const char *gs_policy_start(void) {
    const char *wrong = NULL;
    gs_policy = GS_CLASSIC;
    for (size_t i = 0; i < sizeof choices / sizeof *choices; i++) {
        const char *value = gs_switch(choices[i].name);
        if (value && *value && !choices[i].choose(value))
            wrong = choices[i].wrong;
    }
#ifdef GILSCOPE_TEST_RULES
    if (!gs_rules_leave_out(getenv("GILSCOPE_WITHOUT")))
        wrong = "GILSCOPE_WITHOUT has names of rules.h, with commas between";
#endif
    fit_processors();
    return wrong;
}

const char *gs_policy_name(void) {
    return gs_scheduling() ? "io-priority" : "classic";
}

const char *gs_condvar_name(void) {
    bool own = gs_scheduling() || gs_gil_parameters.backend_chosen;
    return condvars[own ? gs_gil_parameters.backend : GS_PTHREAD];
}

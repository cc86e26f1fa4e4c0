/* How the GIL of this process is scheduled, as the environment says (in Python Plus -X options
 * too).
 *
 *   GILSCOPE_POLICY    classic (the default: CPython's own way) or io-priority
 *   GILSCOPE_GRACE_US  how long an io waiter leaves a cpu holder alone before it asks
 *   GILSCOPE_CONDVAR   what waiters sleep on: futex, emulated or pthread */
#ifndef GILSCOPE_POLICY_H
#define GILSCOPE_POLICY_H

#include <stdbool.h>

enum gs_policy { GS_CLASSIC, GS_IO_PRIORITY };

extern enum gs_policy gs_policy;

/* Reads the switches, before the interpreter has a GIL; what is read later counts. What it does not
 * understand it leaves at its default, and returns what is wrong with it; NULL: nothing is. */
const char *gs_policy_start(void);

/* The same where it is chosen late: the policy, and its grace ("": the default). False: one of them
 * is none. */
bool gs_policy_choose(const char *policy, const char *grace);

/* Whether the GIL's waiters queue in gil_condvar.h. */
static inline bool gs_scheduling(void) {
    return __builtin_expect(gs_policy == GS_IO_PRIORITY, 0);
}

/* As they were chosen: "classic", "io-priority"; "pthread", "emulated", "futex". */
const char *gs_policy_name(void);
const char *gs_condvar_name(void);

#endif

/* What of Python Plus is built, and what of it is on.
 *
 * Built: each aspect has a macro, 1 unless the build says otherwise. GILSCOPE_PERFORMANCE_TESTING
 * sets them together, so that two builds of one source show what an aspect costs:
 *   0  everything (what is built by default)
 *   1  nothing: what remains is the unpatched interpreter
 *   2  the probe in the GIL and nothing else
 * On: gs_switch, at run time, for what costs nothing to ask. */
#ifndef GILSCOPE_SWITCHES_H
#define GILSCOPE_SWITCHES_H

#include <stdbool.h>
#include <stddef.h>

#ifndef GILSCOPE_PERFORMANCE_TESTING
#define GILSCOPE_PERFORMANCE_TESTING 0
#endif
#ifndef GILSCOPE_WITH_PROBE
#define GILSCOPE_WITH_PROBE (GILSCOPE_PERFORMANCE_TESTING != 1)
#endif
#ifndef GILSCOPE_WITH_LOCKS
#define GILSCOPE_WITH_LOCKS (GILSCOPE_WITH_PROBE && GILSCOPE_PERFORMANCE_TESTING == 0)
#endif
#ifndef GILSCOPE_WITH_CONDITION
#define GILSCOPE_WITH_CONDITION (GILSCOPE_PERFORMANCE_TESTING == 0)
#endif
#ifndef GILSCOPE_WITH_ATOMIC
#define GILSCOPE_WITH_ATOMIC (GILSCOPE_WITH_PROBE && GILSCOPE_PERFORMANCE_TESTING == 0)
#endif

#ifndef GILSCOPE_WITH_POLICIES
#define GILSCOPE_WITH_POLICIES (GILSCOPE_WITH_PROBE && GILSCOPE_PERFORMANCE_TESTING == 0)
#endif

/* The value of `-X gilscope.NAME=VALUE`, else that of the environment's GILSCOPE_NAME, else NULL.
 * An -X option without a value is "1". Names are lower case; the pointer stays good. */
const char *gs_switch(const char *name);

/* Whether the switch is on: not "0", "off" or "no"; `otherwise` where nobody set it. */
bool gs_switch_on(const char *name, bool otherwise);

/* Takes an -X option in, "gilscope.NAME=VALUE" or another's, which it ignores. Returns what is
 * wrong with it where there is no such name, or no room for it; NULL: nothing. The interpreter, at
 * its start, before there is a second thread. */
const char *gs_switch_set(const char *option);

#endif

/* Prints what the environment made of the policy: its name, the grace in ns, the condition
 * variable. */
#include <inttypes.h>
#include <stdio.h>

#include "../../gilscope/probe/gil_condvar.h"
#include "../../gilscope/probe/policy.h"

int main(void) {
    gs_policy_start();
    printf("%s %" PRIu64 " %s\n", gs_policy_name(), gs_gil_parameters.grace, gs_condvar_name());
    return 0;
}

/* Prints what the environment made of the policy: its name, the grace in ns, the condition
 * variable, and what is wrong with it. */
#include <inttypes.h>
#include <stdio.h>

#include "../../gilscope/probe/gil_condvar.h"
#include "../../gilscope/probe/policy.h"

int main(void) {
    const char *wrong = gs_policy_start();
    printf("%s %" PRIu64 " %s\n", gs_policy_name(), gs_gil_parameters.grace, gs_condvar_name());
    printf("%s\n", wrong ? wrong : "understood");
    return 0;
}

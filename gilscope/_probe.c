/* The face of the probe's library: what gilscope calls in it by ctypes. The same library is
 * preloaded into traced programs, where these calls are idle and probe/interpose.c is at work. */
#define _GNU_SOURCE
#include "probe/clock.h"

#define EXPORT __attribute__((visibility("default")))

EXPORT uint32_t gilscope_abi_version(void) {
    return GS_ABI_VERSION;
}

EXPORT void gilscope_clock_snapshot(uint32_t source, struct gs_clock_snapshot *out) {
    gs_clock_snapshot(source, out);
}

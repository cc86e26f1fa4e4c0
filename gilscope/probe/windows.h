/* Moments in which another thread could come between: a test's build stays in each of them for a
 * random time, now and then. Nothing is left of them in any other build.
 *
 * GILSCOPE_TEST_WINDOWS_US: for how long at the most; a build with -DGILSCOPE_TEST_WINDOWS. */
#ifndef GILSCOPE_WINDOWS_H
#define GILSCOPE_WINDOWS_H

#ifdef GILSCOPE_TEST_WINDOWS

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

enum { GS_WINDOWS_PASSED = 8 }; /* of so many one is stayed in */

/* With the GIL's mutex or without. Keeps errno. */
static inline void gs_window(const char *name) {
    static __thread uint32_t dice;
    static long most_us = -1;
    (void)name;
    if (most_us < 0) {
        const char *value = getenv("GILSCOPE_TEST_WINDOWS_US");
        most_us = value ? atol(value) : 0;
    }
    if (!dice)
        dice = (uint32_t)(uintptr_t)&dice | 1u;
    dice = dice * 1664525u + 1013904223u;
    if (!most_us || dice >> 16 & (GS_WINDOWS_PASSED - 1))
        return;
    int saved_errno = errno;
    struct timespec stay = {.tv_nsec = (long)(dice >> 8) % most_us * 1000};
    nanosleep(&stay, NULL);
    errno = saved_errno;
}

#else

#define gs_window(name) ((void)0)

#endif
#endif

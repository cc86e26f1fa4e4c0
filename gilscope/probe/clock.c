#define _GNU_SOURCE
#include "clock.h"

#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { NS_PER_S = 1000000000, RATE_NS = 2000000 };

#if defined(__x86_64__)
#include <cpuid.h>

/* The kernel's own verdict counts too: it drops the TSC when it sees cores disagree. */
static int kernel_trusts_tsc(void) {
    char list[256];
    int fd = open("/sys/devices/system/clocksource/clocksource0/available_clocksource",
                  O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, list, sizeof list - 1);
    close(fd);
    if (n <= 0)
        return 0;
    list[n] = 0;
    return strstr(list, "tsc") != NULL;
}

static int tsc_is_invariant(void) {
    unsigned a, b, c, d;
    return __get_cpuid(0x80000007u, &a, &b, &c, &d) && (d & (1u << 8));
}
#endif

enum gs_clock_source gs_clock_choose(void) {
#if defined(__x86_64__)
    if (tsc_is_invariant() && kernel_trusts_tsc())
        return GS_CLOCK_TSC;
#elif defined(__aarch64__)
    return GS_CLOCK_CNTVCT;
#endif
    return GS_CLOCK_MONOTONIC;
}

static int64_t read_clock(clockid_t id) {
    struct timespec now;
    clock_gettime(id, &now);
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

uint64_t gs_clock_monotonic(void) {
    return (uint64_t)read_clock(CLOCK_MONOTONIC);
}

void gs_clock_snapshot(enum gs_clock_source source, struct gs_clock_snapshot *out) {
    uint64_t narrowest = UINT64_MAX;
    for (int attempt = 0; attempt < 8; attempt++) {
        struct gs_clock_snapshot now;
        uint64_t before = gs_clock_now(source);
        now.monotonic_ns = read_clock(CLOCK_MONOTONIC);
        uint64_t after = gs_clock_now(source);
        if (after - before >= narrowest)
            continue;
        narrowest = after - before;
        now.ticks = source == GS_CLOCK_MONOTONIC ? (uint64_t)now.monotonic_ns
                                                 : before + (after - before) / 2;
        now.boottime_ns = read_clock(CLOCK_BOOTTIME);
        now.realtime_ns = read_clock(CLOCK_REALTIME);
        *out = now;
    }
}

uint64_t gs_clock_rate(enum gs_clock_source source) {
    if (source == GS_CLOCK_MONOTONIC)
        return NS_PER_S;
    struct gs_clock_snapshot before, after;
    gs_clock_snapshot(source, &before);
    do {
        struct timespec nap = {.tv_nsec = RATE_NS};
        nanosleep(&nap, NULL);
        gs_clock_snapshot(source, &after);
    } while (after.monotonic_ns - before.monotonic_ns < RATE_NS);
    double seconds = (double)(after.monotonic_ns - before.monotonic_ns) / NS_PER_S;
    return (uint64_t)((double)(after.ticks - before.ticks) / seconds);
}

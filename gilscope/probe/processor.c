#define _GNU_SOURCE
#include "processor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "emit.h"

enum { KEPT_US = 1000 }; /* after the first question, from which a hold is told of */

/* Linux's number for the clock of a thread's CPU time. 0 where it has none (it is over). */
static uint64_t cpu_ns(uint32_t tid) {
    struct timespec spent;
    clockid_t clock = (clockid_t)(~tid << 3 | 6u);
    if (clock_gettime(clock, &spent) != 0)
        return 0;
    return (uint64_t)spent.tv_sec * UINT64_C(1000000000) + (uint64_t)spent.tv_nsec;
}

/* 1: it sleeps, 0: it runs or wants to, -1: not known. Of "TID (NAME) STATE …", NAME has up to 16
 * characters. */
static int is_asleep(uint32_t tid) {
    char path[48], text[96];
    snprintf(path, sizeof path, "/proc/self/task/%u/stat", tid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = 0;
    const char *name_ends = strrchr(text, ')');
    if (!name_ends || name_ends[1] != ' ')
        return -1;
    return name_ends[2] != 'R';
}

void gs_processor_look(struct gs_gil *gil) {
    struct gs_processor *its = &gil->processor;
    const struct gs_writer *holder = gil->holder;
    if (!holder || !holder->page)
        return;
    int saved_errno = errno;
    uint32_t tid = holder->page->tid;
    if (!its->asked_at) {
        its->looks = its->asleep = 0;
        its->cpu_ns = cpu_ns(tid);
        its->asked_at = its->cpu_ns ? gs_clock_now(gs_process.clock) : 0;
    } else if (its->looks < GS_LOOKS) {
        int asleep = is_asleep(tid);
        its->looks += asleep >= 0;
        its->asleep += asleep > 0;
    }
    errno = saved_errno;
}

void gs_processor_tell(struct gs_gil *gil) {
    const struct gs_processor *its = &gil->processor;
    uint64_t kept_us = (gs_clock_now(gs_process.clock) - its->asked_at) * 1000 /
                       (gs_process.ring.header->clock_hz / 1000);
    if (kept_us < KEPT_US)
        return;
    int saved_errno = errno;
    struct timespec now;
    if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now) == 0) {
        uint64_t ns = (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
        gs_emit(GS_HOLD_CPU, ns > its->cpu_ns ? ns - its->cpu_ns : 0);
        if (its->looks)
            gs_emit(GS_HOLD_ASLEEP, its->asleep * 100u / its->looks);
    }
    errno = saved_errno;
}

/* Context switches of a program and of all that it starts, as the kernel tells them, in a file
 * beside the rings.
 *
 * Actors: the recorder, which writes, and whoever makes the trace, in another process. The file is
 * a header of one unit and a ring of records: record number n lies at n modulo `capacity`. Records
 * are complete below `written`, and of all threads up to the time `until_ns`. A reader that comes
 * too late for the oldest ones counts them as lost. Records of different processors are not in the
 * order of their times.
 *
 * The kernel writes a record of 32 bytes at each switch of each thread to a buffer a processor, 512
 * KiB where it lets us. What it had no room for it counts (GS_SWITCH_LOST). */
#ifndef GILSCOPE_RECORDER_SWITCHES_H
#define GILSCOPE_RECORDER_SWITCHES_H

#include <assert.h>
#include <stdint.h>

#define GS_SWITCHES_MAGIC UINT64_C(0x3148435449575331) /* "1SWITCH1" */
#define GS_SWITCHES_AT    4096u                        /* of the first record */

enum {
    GS_SWITCH_IN = 1,        /* else the thread left the processor … */
    GS_SWITCH_PREEMPTED = 2, /* … which it wants back */
    GS_SWITCH_LOST = 4,      /* none of these: so many records are missing, as `tid` says */
};

struct gs_switch {
    uint64_t time_ns; /* CLOCK_MONOTONIC */
    uint32_t tid;     /* in the recorder's pid namespace */
    uint16_t cpu, flags;
};
static_assert(sizeof(struct gs_switch) == 16, "16 bytes");

struct gs_switches_file {
    uint64_t magic;
    uint64_t capacity; /* records */
    uint64_t written;  /* records so far */
    uint64_t until_ns;
    uint64_t lost; /* by the kernel, or because the file system was full */
};

#endif

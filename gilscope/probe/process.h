/* The probe's life in a process: start, forks, end. */
#ifndef GILSCOPE_PROCESS_H
#define GILSCOPE_PROCESS_H

#include <stdbool.h>

#include "emit.h"

/* Environment: the ring file of the recording that this process belongs to. */
#define GS_RINGS_VARIABLE "GILSCOPE_RINGS"

/* Maps the rings that the environment names and writes this process's page. Silent when there is
 * nothing to do or nothing that can be done: the host must not notice. */
void gs_process_start(void);

/* The same late (late.h): these rings, in a process that runs. Returns 0 or an errno value. */
int gs_process_begin_late(const char *path, const char *stacks);

/* Nothing more is recorded here, and what a thread is about to write is nobody's: the first ends
 * the recording of this process, the second puts memory of nobody's in the rings' place. */
void gs_process_end_late(void);
void gs_process_leave_rings(void);

/* Goes on with the recording, and the page, of another probe in this process, which writes no more:
 * the stock feed where an interpreter with a feed of its own is loaded late. */
void gs_process_take_over(struct gs_process *other);

/* Which holds and waits have their stack taken, as GILSCOPE_STACKS_US says it. The process is
 * recorded, and has no GIL yet. */
void gs_process_choose_stacks(const char *value);

/* Writes into the process page, once, which Python this is (gs_python must be known), which feed
 * watches it, and how (enum gs_interpreter_state). */
void gs_process_describe(const char *feed, uint32_t state);

/* A GIL was made: CPython would keep its switch interval (µs) there. It is read from now on if the
 * place lies in _PyRuntime, where the GIL of the process's first interpreter stays, and had
 * CPython's default in it when that interpreter began. */
void gs_process_watch_interval(const unsigned long *interval_us);

/* The same of a GIL that is known to be that one's, whatever is in it by now. */
void gs_process_interval_is(const unsigned long *interval_us);

/* Stamps the end. Events may still follow (daemon threads); readers take the later of the two. */
void gs_process_end(void);

/* In the child of a fork, when it makes its GIL anew: it becomes a process of the recording. Does
 * nothing anywhere else. */
void gs_process_revive(void);

/* A new GIL's index in this process; writes its number into the process page. A record can name
 * 1,024: so many as may be watched at a time are kept for those that stand where none stood, and
 * another goes on under the index of one that `ended` (GS_NO_INDEX: none did). GS_NO_INDEX when all
 * have been used. */
uint16_t gs_next_gil_index(uint16_t ended);
#define GS_NO_INDEX     UINT16_MAX
#define GS_WATCHED_GILS 256u /* by the stock feed */

/* Takes the last index back when its GIL never had an event, as in a fork's child, where CPython
 * makes its GIL anew. Returns whether it did. */
bool gs_return_gil_index(uint16_t index);

/* Called in the child of a fork, before any other thread can exist there. */
extern void (*gs_after_fork_in_child)(void);

/* And when that process of the recording has begun. */
extern void (*gs_after_begin_in_child)(void);

#endif

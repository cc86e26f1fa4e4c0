/* The stack at the end of a long hold or of a long wait: taken, interned, told by one event.
 *
 * Actors: the thread that lets a GIL go or has just got it; the thread that asks the holder to
 * yield, for a look at where that one is; the holder that releases a lock. Invariant: who writes a
 * GIL's table of stacks has that GIL, or its mutex at the moment when it gets or gives it, so there
 * is one writer at a time and nobody changes the frames that are read.
 *
 * Interned: a stack is a path in a tree, leaf to root. A node (struct gs_stack_node) is a place in
 * code below a caller's node, and is written once for all stacks and threads of its GIL that share
 * it. Nodes and their texts lie in pages of the ring file; so does the table that finds them, which
 * is the probe's own. Nothing is ever allocated. A tree that has grown to its limit is retired, for
 * the recorder to take back when no record that is kept refers to it, and a new one begins.
 *
 * Cost: no more than a compare where the hold (the wait) was shorter than the threshold; else see
 * gilscope bench probe. A frame seen for the first time costs its names and its line besides. */
#ifndef GILSCOPE_STACKS_H
#define GILSCOPE_STACKS_H

#include <stdbool.h>
#include <stdint.h>

#include "event_abi.h"
#include "frames.h"

/* Environment: holds and waits of so many microseconds and more have their stack taken; 0: all;
 * "off": none. */
#define GS_STACKS_VARIABLE "GILSCOPE_STACKS_US"
#define GS_STACKS_US       1000
#define GS_STACKS_OFF      UINT64_MAX

struct gs_gil;

/* What one GIL's stacks need. All zero: nothing was taken yet. */
struct gs_stacks {
    struct gs_stack_table *table; /* in the ring file */
    uint32_t capacity, used;      /* of its slots */
    uint32_t unit, next;          /* the page that is being filled, and where it goes on */
    bool full;                    /* the table has no more room, and cannot grow */
    struct gs_frame seen;         /* where a requester saw the holder, if gs_gil.looked */
};

/* The threshold in ticks of a number of microseconds (NULL, "": the default), GS_STACKS_OFF of
 * anything else. */
uint64_t gs_stacks_threshold(const char *value, uint64_t clock_hz);

/* The calling thread is about to tell the end of its hold of (flags 0) or of its wait for
 * (GS_STACK_OF_WAIT) this GIL, and that it was long; or it has this GIL and tells where its last
 * wait for a lock was, or its next release of one is (GS_STACK_OF_SYNC, with the former or not).
 * Emits a stack event if it can. */
void gs_stacks_take(struct gs_gil *gil, uint64_t flags);

/* The calling thread is about to ask the holder to yield. A forced yield comes where the
 * interpreter looks for requests, which may be lines or calls behind the place where the time goes;
 * here is the place. */
void gs_stacks_look(struct gs_gil *gil);

/* Nobody uses the GIL any more: its stacks are retired. */
void gs_stacks_end(struct gs_gil *gil);

#endif

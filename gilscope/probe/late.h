/* The probe in a process that runs already: how it comes in, and how it goes.
 *
 * In: the wrappers are written into the import slots of the module that owns _PyRuntime, and of
 * CPython's modules that start programs and set limits, when they are loaded; the GIL that stands
 * there is found by all its signs (find_gil.h) and adopted under its own mutex, with the caller as
 * its holder; whoever waits for it in the C library is woken, and comes back through a wrapper. The
 * recorder has the rings stopped meanwhile: recording begins when it lets it, with a cut in time
 * (event_abi.h), so what was before is not known and says so.
 *
 * Out: each slot has what was in it; nothing is recorded; where the rings were mapped is memory of
 * nobody's, into which a thread may write that was stopped in the middle of an event. The library
 * stays, since threads may return into it, and so do those addresses, for the next time.
 *
 * Epochs: every begin and every end is a new one. What a thread remembers (gs_writer) belongs to
 * the epoch in which it began, and counts no more in another. A wrapper that comes back from a wait
 * compares epochs before it touches anything: the holder it knew may be a thread that is gone.
 *
 * An interpreter with a probe of its own records by that one: the slots that are written then are
 * those by which programs are started and limits set, and what is said of `gs_process` holds for
 * the interpreter's.
 *
 * Actors: who calls in here holds the GIL and stands in ordinary code, with no mutex of the GIL's
 * and nothing of the loader's; the wrappers run in all threads meanwhile. `gilscope_late` is read,
 * and where nobody can be called also written, from outside (gilscope/attach/). */
#ifndef GILSCOPE_LATE_H
#define GILSCOPE_LATE_H

#include <stdbool.h>
#include <stdint.h>

#include "api.h"

#define GS_LATE_VERSION 1
#define GS_LATE_SLOTS   64
#define GS_LATE_TEXT    512

enum gs_late_state {
    GS_LATE_NEVER = 0,
    GS_LATE_BUSY = 1,
    GS_LATE_IN = 2,
    GS_LATE_OUT = 3,       /* it was in */
    GS_LATE_PRELOADED = 4, /* it came with the process, and stays */
};

/* Why it could not come in. */
enum gs_late_error {
    GS_LATE_FINE = 0,
    GS_LATE_IS_PRELOADED = 1,
    GS_LATE_IS_IN = 2,
    GS_LATE_NO_PYTHON = 3,     /* `python` is in no module with a _PyRuntime */
    GS_LATE_FREE_THREADED = 4, /* it has no GIL */
    GS_LATE_NO_GIL = 5,        /* none is found, or that the caller holds it is not proved */
    GS_LATE_NO_SLOTS = 6,      /* the calls do not go through slots: a static C library */
    GS_LATE_NO_RINGS = 7,      /* they cannot be opened; gilscope_late.number says why */
    GS_LATE_WRONG_POLICY = 8,
    GS_LATE_BUILT_IN = 9,   /* the interpreter has a probe of its own, of another version */
    GS_LATE_OWN_POLICY = 10 /* it has one, and so a policy of its own */
};

/* What to do; read while the call lasts. Texts are never NULL. */
struct gs_late_request {
    const char *rings;  /* the ring file; "": record nothing */
    const char *stacks; /* as GILSCOPE_STACKS_US; "": the default */
    const char *policy; /* as GILSCOPE_POLICY; "": leave it as it is */
    const char *grace;  /* as GILSCOPE_GRACE_US; "": the default */
    const void *python; /* some address in CPython's code */
};

struct gs_late_slot {
    void **at;
    void *original, *wrapper;
};

struct gs_late {
    uint32_t version;
    uint32_t state;   /* atomic: enum gs_late_state */
    uint32_t *epoch;  /* atomic */
    uint32_t *alive;  /* whether events are wanted; NULL: it was never in */
    uint32_t error;   /* enum gs_late_error, of the last try */
    int32_t number;   /* with GS_LATE_NO_RINGS: an errno value */
    uint32_t records; /* it has rings */
    uint32_t schedules;
    uint32_t n_slots;
    uint32_t pad;
    struct gs_late_slot slots[GS_LATE_SLOTS];
};
GS_API extern struct gs_late gilscope_late;

/* Comes in, to record or to schedule or both. Returns an enum gs_late_error. */
GS_API int gilscope_late_begin(const struct gs_late_request *request);

/* Goes out. Where that was done from outside, does what is left to do. Returns 0. */
GS_API int gilscope_late_end(const struct gs_late_request *unused);

/* Tells the recording the names of all threads. The caller is Python code's, with the GIL held and
 * a thread state of its own; at a place to which it was led it would have none. */
GS_API void gilscope_late_names(void);

/* Goes out and comes in for something else, and nobody has the GIL in between. */
GS_API int gilscope_late_change(const struct gs_late_request *request);

/* The stock feed is to see every signal; in interpose.c. */
void gs_feed_begins(void);

/* The probe that the interpreter has itself, if it was not told to leave it to the stock feed, in
 * interpose.c. False where it is of another version. */
struct gs_api;
bool gs_interpreter_probe(const struct gs_api **found);

/* What a program that this process starts is to have in its environment, GILSCOPE_RINGS first; ends
 * with NULL. NULL: nothing, for it finds the recording by itself or is not to. */
enum { GS_LATE_VARIABLES = 4 };
const char *const *gs_late_variables(void);

/* Called by whoever signals a condition variable that is not known. NULL: nor is it a GIL's. */
struct gs_watched *gs_late_adopt(void *switch_cond, const void *caller);

static inline bool gs_late_is_in(void) {
    return __builtin_expect(gilscope_late.state == GS_LATE_IN, 0);
}

#endif

/* What the stub (stub.c) and the attacher (call.py) have in common. */
#ifndef GILSCOPE_ATTACH_STUB_H
#define GILSCOPE_ATTACH_STUB_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))

#define GS_STUB_STATE_WORDS 32
#define GS_STUB_LOCKS       4
#define GS_STUB_OPEN        2 /* RTLD_NOW | RTLD_LOCAL */
#define GS_STUB_WORDS_BYTES "184"
#define GS_STUB_RESUME      "176" /* in struct gs_stub_words */

enum gs_stub_progress {
    GS_STUB_ARMED = 0,
    GS_STUB_CALLED = 1, /* a thread is at it */
    GS_STUB_DONE = 2,
    GS_STUB_LOADER_IS_BUSY = 3, /* nothing was done */
    GS_STUB_NO_LIBRARY = 4,     /* it cannot be opened, or has no such function */
};

/* Written by the process; in room of a page that it can write to. */
struct gs_stub_state {
    uint32_t state; /* atomic: enum gs_stub_progress */
    int32_t result; /* what the function returned */
    uint64_t late;  /* where the library has its struct gs_late */
};

/* Written by the attacher, behind the code; addresses are the process's. */
struct gs_stub_words {
    const void *mutex; /* the GIL's */
    const volatile int *locked;
    const uint64_t *const volatile *holder; /* where the GIL has its last holder's thread state */
    struct gs_stub_state *state;
    int (*unlock)(void *mutex); /* what was in the slot */
    int (*trylock)(void *mutex);
    int *(*errno_location)(void);
    void *(*open)(const char *library, int flags);
    void *(*symbol)(void *library, const char *name);
    const char *library, *function, *late; /* late: "gilscope_late" */
    uint64_t n_locks;
    void *locks[GS_STUB_LOCKS]; /* the loader's */
    struct {
        const char *rings, *stacks, *policy, *grace;
        const void *python;
    } request;          /* struct gs_late_request */
    const void *resume; /* where a thread that was led to gs_stub_direct goes on */
};
static_assert(sizeof(struct gs_stub_words) == 184, "GS_STUB_WORDS_BYTES");
static_assert(offsetof(struct gs_stub_words, resume) == 176, "GS_STUB_RESUME");

/* Where the code stands here, and what is where in it; all 0 where there is none. */
struct gs_stub_blob {
    const void *start;
    uint64_t bytes;
    uint64_t unlock, direct, words; /* from its start on */
};

EXPORT void gs_stub_blob(struct gs_stub_blob *blob);

/* A thread that is to be led to the stub; addresses are its process's. */
struct gs_seize {
    int32_t pid, tid;
    uint64_t loop, loop_end; /* the code of _PyEval_EvalFrameDefault */
    uint64_t gil, holder;    /* struct gs_gil_memory; the thread's state */
    uint64_t entry, resume;  /* gs_stub_direct; the word in struct gs_stub_words */
};

/* Leads it there, and lets it go. Returns 0, or an errno value: EAGAIN when in so many tries it was
 * never where that can be done, ESRCH when it is gone, EPERM when it may not be stopped. */
EXPORT int gs_seize(const struct gs_seize *its, uint32_t tries);

#endif

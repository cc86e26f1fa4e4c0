/* The Python frames of a thread, read where they lie in the interpreter's memory: no call into
 * CPython, no reference count, no allocation.
 *
 * Where things lie is published by CPython from 3.13 on (_Py_DebugOffsets) and stands in a table
 * for 3.9 to 3.12. Either is believed only after one stack of the running interpreter was walked by
 * it with reads that cannot fault, and everything met there was what it should be.
 *
 * Invariant: whoever reads frames holds the mutex of the GIL that their thread holds, has just got
 * or is about to let go, and is that thread itself. So nothing in them changes meanwhile, and each
 * frame holds a reference to its code: code objects and their names are alive. gs_frames_peek alone
 * looks at another thread, and follows no pointer that could be stale but by reads that cannot
 * fault. */
#ifndef GILSCOPE_FRAMES_H
#define GILSCOPE_FRAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gs_frame {
    const void *self; /* identifies the frame while it is alive */
    const char *code; /* its code object */
    int32_t at;       /* offset in bytes of the instruction that it is in */
};

enum gs_frames_state {
    GS_FRAMES_UNTRIED = 0, /* no stack was there to be walked yet */
    GS_FRAMES_GOOD = 1,
    GS_FRAMES_UNKNOWN = 2, /* of another version, or its memory does not look as it should */
};

/* Whether frames can be read; finds out at the first call that has a stack to walk. `state` is the
 * calling thread's own PyThreadState. */
enum gs_frames_state gs_frames_check(const char *state);

/* The innermost `most` frames, leaf first; returns how many they are. Only after a good check. 0
 * also where `state` does not belong to the calling thread. */
unsigned gs_frames_walk(const char *state, struct gs_frame *out, unsigned most);

/* The innermost frame of another thread, which runs while we look: false where nothing sensible was
 * seen. Two or three system calls that cannot fault. What comes out is to be compared, not
 * followed. */
bool gs_frames_peek(const char *state, struct gs_frame *out);

/* A number that tells this place in this code from others. Code that was freed and whose place was
 * taken by code of equal names, size and line table at the same addresses counts as the same. */
uint64_t gs_frames_place(const struct gs_frame *frame);

/* 0 where the code has no line there. */
int32_t gs_frames_line(const struct gs_frame *frame);

/* UTF-8, cut at a whole character; return the number of bytes. From 3.11 on the function's name is
 * the qualified one. */
size_t gs_frames_file(const struct gs_frame *frame, char *out, size_t size);
size_t gs_frames_function(const struct gs_frame *frame, char *out, size_t size);

#endif

/* The slice of the processor of a thread that computes.
 *
 * Linux lets it end its slice, a millisecond or three, before one that comes from a read has its
 * processor; since 6.12 a thread may ask for a shorter one. Its share of the processor stays what
 * it is. Threads and programs inherit the slice of whoever starts them, so it is put back: when the
 * thread does IO again, when a thread has its first GIL, before a thread or a program is started
 * (that by the preloaded probe alone: Python Plus has no such hook).
 *
 * Actors: each thread for itself. Both are async-signal-safe and keep errno. */
#ifndef GILSCOPE_SLICE_H
#define GILSCOPE_SLICE_H

/* Where the thread has the ordinary scheduling, and Linux has slices. */
void gs_slice_shorten(void);

/* What it was before; nothing where it is not a shortened one. */
void gs_slice_restore(void);

#endif

/* Whether a holder that was asked for the GIL and kept it had a processor meanwhile.
 *
 * Actors: the thread that asks, again and again while it waits, and the holder when it lets go;
 * both with the GIL's own mutex. Whoever asks first reads the holder's CPU time by its clock, which
 * the holder reads itself at its end: what is missing to the time that went by it was off. A second
 * question follows a switch interval later, and such a hold is not Python code's own doing: then
 * who asks looks in /proc whether the holder wants a processor or sleeps (in C code that keeps the
 * GIL).
 *
 * Cost: a system call for each hold that is asked for, one more where it is kept for a millisecond,
 * and three for each look, of which a hold has GS_LOOKS at most. A descriptor is open during a
 * look. */
#ifndef GILSCOPE_PROCESSOR_H
#define GILSCOPE_PROCESSOR_H

#include <stdint.h>

enum { GS_LOOKS = 8 };

/* Of one hold; all zero: nobody asked. */
struct gs_processor {
    uint64_t asked_at; /* ticks */
    uint64_t cpu_ns;   /* the holder's CPU time then */
    uint16_t looks, asleep;
};

struct gs_gil;

/* The calling thread asks the holder to yield. */
void gs_processor_look(struct gs_gil *gil);

/* The calling thread, which was asked, is about to let the GIL go. Emits what is known of a hold
 * that was kept for long. */
void gs_processor_tell(struct gs_gil *gil);

#endif

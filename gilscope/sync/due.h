/* A wakeup that is put off until its thread lets the GIL go. In Python Plus alone, whose code calls
 * gs_due_wake there.
 *
 * Whoever is woken by a thread that holds the GIL can do nothing before that thread lets it go but
 * wait once more, for the GIL. So the wake waits too: one a thread, and GS_DUE_NS at most, because
 * a thread that computes on must find somebody who asks it for the GIL. */
#ifndef GILSCOPE_DUE_H
#define GILSCOPE_DUE_H

#include <stdbool.h>
#include <stdint.h>

#define GS_DUE_NS 50000

/* The word that a thread sleeps on, see word.h; NULL: no wake is due. */
extern __thread uint32_t *gs_due __attribute__((visibility("hidden")));

/* The calling thread has the GIL. A wake that was due is done, this one becomes due. */
void gs_due_set(uint32_t *word);

/* Does the wake that is due. Without the GIL, or where time is up. */
void gs_due_wake(void);

/* Whether a wake is due for so long that it must be done now. */
bool gs_due_is_late(void);

#endif

/* The one place that decides that some memory is a GIL of CPython's.
 *
 * A pair of condition variables at the right distance is no proof: a bounded queue looks the same.
 * So several signs must hold together, and until they all do the memory is read only by calls that
 * cannot fault.
 *  - When the pair is made: its maker is CPython's create_gil, that is, the two calls come from
 *    where those for the first GIL came from, whose pair lies inside _PyRuntime. Both condition
 *    variables and both mutexes are as new, of the kinds that CPython makes. The interval is
 *    sensible, `locked` is one of its values.
 *  - When it is first taken: the caller is in CPython and owns both mutexes; `locked` is 1; the
 *    holder is something that can be read.
 * A pair that was a GIL before (a fork's child makes its GIL anew) needs no maker.
 *
 * Of a process that runs already nobody has seen how its GIL was made. Then all of these hold: it
 * lies in _PyRuntime and nothing else there looks like it; interval, `locked` and the number of
 * switches are sensible; both mutexes and both condition variables are of CPython's kinds; and its
 * last holder is a thread state that has the calling thread's own identity. */
#ifndef GILSCOPE_FIND_GIL_H
#define GILSCOPE_FIND_GIL_H

#include <pthread.h>
#include <stdbool.h>

/* CPython's struct _gil_runtime_state from `interval` on, the same from 3.9 to 3.15. */
struct gs_gil_memory {
    unsigned long interval;  /* us */
    const char *last_holder; /* its PyThreadState */
    int locked;              /* -1: not made yet */
    unsigned long switch_number;
    pthread_cond_t cond;
    pthread_mutex_t mutex;
    pthread_cond_t switch_cond;
    pthread_mutex_t switch_mutex;
};

/* From a constructor; `init` is the C library's. */
void gs_find_gil_start(int (*init)(pthread_cond_t *, const pthread_condattr_t *));

/* CPython's module, at `caller`, has just made a condition variable; `known`: that was a watched
 * GIL's `cond` before. Returns the GIL that it makes whole, by all signs that there are as yet, or
 * NULL. Any thread; the pair's two calls come from one. */
struct gs_gil_memory *gs_find_gil(pthread_cond_t *cond, const void *caller, bool known);

/* The rest of the proof: the calling thread, at `caller`, signals its `switch_cond` for the first
 * time. */
bool gs_gil_is_proved(const struct gs_gil_memory *gil, const void *caller);

/* The GIL of the process's first interpreter that stands in _PyRuntime already and that the calling
 * thread holds, in ordinary code of CPython, with none of its mutexes held; NULL: none is found, or
 * more than one, or that the caller holds it cannot be proved. */
struct gs_gil_memory *gs_find_gil_in_use(void);

/* Whether what lies before this `switch_cond` is a GIL of which nobody told that it was made: the
 * calling thread, at `caller`, signals it and owns both its mutexes. */
struct gs_gil_memory *gs_find_gil_taken(pthread_cond_t *switch_cond, const void *caller);

/* In a fork's child: a pair that the forking thread had begun is the parent's. */
void gs_find_gil_after_fork(void);

#endif

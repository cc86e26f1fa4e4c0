/* The names of threads, read from Python.
 *
 * A name is what stands in the Thread instance's own dictionary under `_name`, found by walking
 * that dictionary: no attribute is looked up, so no property, no descriptor and nothing else of the
 * user's is run, and no collection either. What CPython hands to pthread_create is followed by
 * reads that cannot fault. An object is followed only where CPython is to run the function that
 * runs Threads, which is learned from the first Thread that starts.
 *
 * Cost: the calling thread's own name, a few look-ups. All names, one pass over threading's table
 * in pieces, for which one part in fifty of the time is spent at most, counted in processor time.
 *
 * The caller of all but gs_thread_named and gs_thread_names_itself is CPython, in ordinary C code,
 * with the GIL held, in the middle of starting or ending a thread. */
#ifndef GILSCOPE_NAMES_H
#define GILSCOPE_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The semaphore of threading's lock around its table of threads, up to 3.13; NULL: not known. Every
 * thread takes it before it begins and before it leaves the table. An address that is no longer
 * its own costs a look-up now and then. */
extern const void *gs_table_lock __attribute__((visibility("hidden")));

/* The name of the threading.Thread that is about to run in a new thread, given the argument that
 * CPython hands to pthread_create. False where there is no such name. */
bool gs_name_new_thread(const void *argument, char *out, size_t size);

/* Reads names anew, for those that were renamed; now and then it does nothing, so that it stays
 * cheap. */
void gs_refresh_names(void);

/* Reads all names, whatever it costs: a recording ends whose threads were there before it. */
void gs_read_all_names(void);

/* The calling thread's own. */
void gs_refresh_own_name(void);

/* Python's name of a thread of this process; unknown ids are ignored. With any GIL held. */
void gs_thread_named(uint32_t tid, const char *name);

/* The calling thread told the kernel its name. `by_python`: CPython did, from 3.14 on, with the
 * GIL held; what it told is cut short, so the name is read anew where it is not the known one's
 * beginning. Otherwise the name stands where Python gave none. */
void gs_thread_names_itself(const char *name, bool by_python);

/* In a fork's child. */
void gs_names_after_fork(void);

#endif

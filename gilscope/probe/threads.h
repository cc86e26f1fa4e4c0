/* A thread's life in the recording: its page, its chunks, its end; and its page by its number.
 *
 * Actors: each thread writes its own page; whoever starts or ends a thread with a GIL held, one at
 * a time, writes the name of another. The lists of pages lie in the ring file, which others can
 * damage: what is met there is checked, and every walk ends. */
#ifndef GILSCOPE_THREADS_H
#define GILSCOPE_THREADS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "event_abi.h"

/* pthread_create with a page and a name for the new thread from its very first moment. */
int gs_thread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *),
                     void *argument, const char *name,
                     int (*create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *));

/* What is in the lists is not taken back while one thread is in here. False: another one is. */
bool gs_enter_lists(void);
void gs_leave_lists(void);

/* The page of a living thread of this process, or NULL. The caller is in the lists. A few steps,
 * however many threads there are. */
struct gs_thread_page *gs_page_of_thread(uint32_t tid);

/* Copies a UTF-8 string and cuts it at a whole character. */
void gs_copy_name(char *out, size_t size, const char *name);

/* Once, before the process's first event. */
void gs_threads_start(void);

/* This process begins anew, in a fork's child: it has no thread yet. */
void gs_threads_after_fork(void);

/* Goes on with the threads that another probe gave pages of this process. */
void gs_threads_adopt(void);

#endif

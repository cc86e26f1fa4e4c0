/* What the types of gilscope's Python-level synchronization share. Includes Python.h; written for
 * the limited API of 3.10, so that one build serves every later version, and compiled into Python
 * Plus as it stands. The outer lock of core.h is the GIL here. */
#ifndef GILSCOPE_SYNC_H
#define GILSCOPE_SYNC_H

#include <Python.h>
#include <stdbool.h>
#include <structmember.h>

#include "due.h"
#include "feed.h"
#include "../probe/word.h"

/* Python Plus has them under other names. */
#ifndef GS_MODULE_NAME
#define GS_MODULE_NAME    "gilscope._sync"
#define GS_CONDITION_NAME "gilscope.Condition"
#define GS_RLOCK_NAME     GS_MODULE_NAME ".RLock"
#endif

struct gs_outer {
    PyThreadState *state;
};

static inline void gs_outer_release(struct gs_outer *outer) {
    outer->state = PyEval_SaveThread();
}

static inline void gs_outer_acquire(struct gs_outer *outer) {
    PyEval_RestoreThread(outer->state);
}

static inline void gs_outer_wake(uint32_t *word) {
#ifdef GS_WAKE_WHEN_DROPPED
    gs_due_set(word);
#else
    gs_word_wake(word);
#endif
}

static inline bool gs_outer_interrupted(void) {
    return PyErr_CheckSignals() != 0;
}

/* Asked seldom: where a lock is kept for another. */
bool gs_python_ends(void);

static inline bool gs_outer_is_last(void) {
    return gs_python_ends();
}

static inline void gs_note(enum gs_event_kind kind, const void *object, uint64_t detail) {
    if (gs_feed.emit)
        gs_feed_note(kind, GS_SYNC_NATIVE, object, detail);
}

#include "../probe/switches.h"
#include "core.h"

/* What the types need of each other, one per interpreter. */
struct gs_sync {
    PyTypeObject *rlock_type;
    PyTypeObject *condition_type;
    PyTypeObject *plain_lock_type, *plain_rlock_type; /* _thread's */
    PyObject *checkpoint; /* an empty function of Python's, see gs_checkpoint */
};

/* The state that belongs to a type or to a subclass of it; its home is the module's. */
#if GILSCOPE_WITH_CONDITION
struct gs_sync *gs_sync_of(PyTypeObject *type);
#else /* of Python Plus: what is compiled all the same belongs to no module */
static inline struct gs_sync *gs_sync_of(PyTypeObject *type) {
    (void)type;
    return NULL;
}
#endif

typedef struct {
    PyObject_HEAD PyObject *weakrefs;
    struct gs_lock lock;
} gs_rlock_object;

extern PyType_Spec gs_rlock_spec, gs_condition_spec, gs_atomic_spec, gs_sleeper_spec;

/* What _thread identifies threads by. */
static inline uintptr_t gs_this_thread(void) {
    return (uintptr_t)PyThread_get_thread_ident();
}

/* Whether signals' handlers run in this thread: in Python's main one. That is the process's first,
 * unless an application runs Python in another. */
static inline bool gs_runs_handlers(void) {
    return syscall(SYS_gettid) == getpid();
}

/* A timeout in seconds as a deadline. None, and where it may mean "for ever" -1, is GS_NEVER. What
 * is over already is 0. Returns -1 with an exception set. */
int gs_deadline(PyObject *timeout, int64_t *deadline);

/* Lets the interpreter switch threads where one asked for the GIL, as between two lines of Python
 * code, by running some. */
int gs_checkpoint(struct gs_sync *sync);

/* Functions of the module, in atomic.c: set_atomic(depth) -> depth before; tell(owner, n), which
 * notes in the trace that the lock (n < 0) was released or n waiters of the condition notified. */
PyObject *gs_set_atomic(PyObject *module, PyObject *depth);
PyObject *gs_tell(PyObject *module, PyObject *args);

/* Fills `sync`, adds the types and functions to the module. `lock` and `rlock` are _thread's types.
 * Returns -1 with an exception set. */
int gs_sync_start(struct gs_sync *sync, PyObject *module, PyTypeObject *lock, PyTypeObject *rlock);
int gs_sync_traverse(struct gs_sync *sync, visitproc visit, void *arg);
void gs_sync_clear(struct gs_sync *sync);

#endif

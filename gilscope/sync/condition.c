/* threading.Condition in C.
 *
 * With a lock of its own (Condition(), or one that gilscope made) a notified waiter moves from the
 * condition's queue to the lock's and sleeps on until the lock is free: see core.h. With any other
 * lock that cannot be, since its release is not seen here. There the notified stand in a chain, of
 * which the head is awake; each wakes the next once it has the lock back.
 *
 * What a subclass says of _is_owned, _release_save and _acquire_restore counts, as in the class
 * that Python has; such a Condition treats its lock as foreign. */
#include "sync.h"

typedef struct {
    PyObject_HEAD PyObject *dict, *weakrefs;
    struct gs_sync *sync;
    PyObject *lock_object; /* NULL before __init__ */
    struct gs_lock *lock;  /* inside lock_object; NULL: it is foreign */
    struct gs_queue queue;
    struct gs_queue notified; /* of a foreign lock: the chain */
    /* Of a foreign lock: its bound methods; the last three may be NULL. */
    PyObject *acquire, *release, *is_owned, *release_save, *acquire_restore;
    bool known_lock; /* foreign, of one of _thread's types */
    bool subclassed;
} condition_object;

#define LIKELY(x)   __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

/* ---- making one ------------------------------------------------------------------------------
 */

static PyObject *new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(names)) {
    struct gs_sync *sync = gs_sync_of(type);
    if (!sync)
        return NULL;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    condition_object *self = (condition_object *)allocate(type, 0);
    if (self)
        self->sync = sync;
    return (PyObject *)self;
}

/* An attribute that may be missing. Returns -1 with an exception set. */
static int optional(PyObject *object, const char *name, PyObject **value) {
    *value = PyObject_GetAttrString(object, name);
    if (*value)
        return 0;
    if (!PyErr_ExceptionMatches(PyExc_AttributeError))
        return -1;
    PyErr_Clear();
    return 0;
}

/* What the lock has under this name, or else a subclass; NULL where both have nothing special. */
static int customised(condition_object *self, const char *name, PyObject **value) {
    if (optional(self->lock_object, name, value) < 0)
        return -1;
    if (*value || !self->subclassed)
        return 0;
    PyObject *own = PyObject_GetAttrString((PyObject *)Py_TYPE(self), name);
    PyObject *base = PyObject_GetAttrString((PyObject *)self->sync->condition_type, name);
    if (own && base && own != base)
        *value = PyObject_GetAttrString((PyObject *)self, name);
    Py_XDECREF(own);
    Py_XDECREF(base);
    return PyErr_Occurred() ? -1 : 0;
}

static void forget_lock(condition_object *self) {
    self->lock = NULL;
    Py_CLEAR(self->acquire);
    Py_CLEAR(self->release);
    Py_CLEAR(self->is_owned);
    Py_CLEAR(self->release_save);
    Py_CLEAR(self->acquire_restore);
    Py_CLEAR(self->lock_object);
}

static int adopt_foreign(condition_object *self) {
    PyObject *lock = self->lock_object;
    if (!(self->acquire = PyObject_GetAttrString(lock, "acquire")) ||
        !(self->release = PyObject_GetAttrString(lock, "release")) ||
        customised(self, "_release_save", &self->release_save) < 0 ||
        customised(self, "_acquire_restore", &self->acquire_restore) < 0 ||
        customised(self, "_is_owned", &self->is_owned) < 0)
        return -1;
    self->known_lock = Py_TYPE(lock) == self->sync->plain_lock_type ||
                       Py_TYPE(lock) == self->sync->plain_rlock_type;
    if (Py_TYPE(lock) == self->sync->plain_lock_type && !self->is_owned)
        /* It has no owner, so to a Condition it is owned while anybody has it. */
        return optional(lock, "locked", &self->is_owned);
    return 0;
}

static int init(condition_object *self, PyObject *args, PyObject *names) {
    static char *keywords[] = {"lock", NULL};
    PyObject *lock = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, names, "|O:Condition", keywords, &lock))
        return -1;
    if (gs_queue_head(&self->queue) || gs_queue_head(&self->notified)) {
        PyErr_SetString(PyExc_RuntimeError, "cannot initialise a Condition while threads wait");
        return -1;
    }
    PyTypeObject *own_type = self->sync->rlock_type;
    if (!own_type) {
        PyErr_SetString(PyExc_RuntimeError, "no Condition can be made while Python ends");
        return -1;
    }
    if (lock != Py_None)
        Py_INCREF(lock);
    else if (!(lock = PyObject_CallNoArgs((PyObject *)own_type)))
        return -1;
    forget_lock(self);
    self->subclassed = Py_TYPE(self) != self->sync->condition_type;
    self->lock_object = lock;
    if (Py_TYPE(lock) != own_type)
        return adopt_foreign(self);
    self->lock = &((gs_rlock_object *)lock)->lock;
    return 0;
}

/* Every call of a foreign Condition begins so: a subclass may not have called __init__. */
static bool is_ready(condition_object *self) {
    if (self->lock || (self->acquire && self->release))
        return true;
    PyErr_SetString(PyExc_AttributeError, "the Condition has no lock: __init__ was not called");
    return false;
}

/* ---- its lock --------------------------------------------------------------------------------
 */

/* Calls what returns nothing of interest. */
static int call(PyObject *function) {
    PyObject *result = PyObject_CallNoArgs(function);
    Py_XDECREF(result);
    return result ? 0 : -1;
}

/* The way of a lock that has no _is_owned: it cannot be taken, so it is taken, by whom ever. */
static int seems_owned(condition_object *self) {
    PyObject *taken = PyObject_CallFunctionObjArgs(self->acquire, Py_False, NULL);
    int free = taken ? PyObject_IsTrue(taken) : -1;
    Py_XDECREF(taken);
    if (free > 0 && call(self->release) < 0)
        return -1;
    return free < 0 ? -1 : !free;
}

static int foreign_is_owned(condition_object *self) {
    if (!self->is_owned)
        return seems_owned(self);
    PyObject *result = PyObject_CallNoArgs(self->is_owned);
    int owned = result ? PyObject_IsTrue(result) : -1;
    Py_XDECREF(result);
    return owned;
}

/* Whether the caller may wait and notify; raises where not. */
static bool check_owned(condition_object *self, const char *what) {
    int owned;
    if (LIKELY(self->lock != NULL))
        owned = self->lock->owner == gs_this_thread();
    else
        owned = is_ready(self) ? foreign_is_owned(self) : -1;
    if (owned == 0)
        PyErr_Format(PyExc_RuntimeError, "cannot %s on un-acquired lock", what);
    return owned > 0;
}

static PyObject *enter(condition_object *self, PyObject *Py_UNUSED(nothing)) {
    if (LIKELY(self->lock && gs_lock_try(self->lock, gs_this_thread())))
        Py_RETURN_TRUE;
    if (!is_ready(self))
        return NULL;
    if (self->known_lock)
        return PyObject_CallNoArgs(self->acquire);
    return PyObject_CallMethod(self->lock_object, "__enter__", NULL);
}

static PyObject *leave(condition_object *self, PyObject *const *args, Py_ssize_t count) {
    if (LIKELY(self->lock && self->lock->owner == gs_this_thread())) {
        gs_lock_release(self->lock);
        Py_RETURN_NONE;
    }
    if (!is_ready(self))
        return NULL;
    if (self->known_lock)
        return PyObject_CallNoArgs(self->release);
    PyObject *exit = PyObject_GetAttrString(self->lock_object, "__exit__");
    PyObject *all = exit ? PyTuple_New(count) : NULL;
    for (Py_ssize_t i = 0; all && i < count; i++) {
        Py_INCREF(args[i]);
        PyTuple_SetItem(all, i, args[i]);
    }
    PyObject *result = all ? PyObject_Call(exit, all, NULL) : NULL;
    Py_XDECREF(all);
    Py_XDECREF(exit);
    return result;
}

/* acquire and release are the lock's own, as in Python's class, until the program sets others. */
static PyObject *get_lock_method(condition_object *self, void *name) {
    PyObject *set = self->dict ? PyDict_GetItemString(self->dict, name) : NULL;
    if (set) {
        Py_INCREF(set);
        return set;
    }
    return is_ready(self) ? PyObject_GetAttrString(self->lock_object, name) : NULL;
}

static int set_lock_method(condition_object *self, PyObject *value, void *name) {
    if (!self->dict && !(self->dict = PyDict_New()))
        return -1;
    if (value)
        return PyDict_SetItemString(self->dict, name, value);
    if (PyDict_DelItemString(self->dict, name) == 0)
        return 0;
    PyErr_SetString(PyExc_AttributeError, name);
    return -1;
}

/* The lock's own method of this name, called with at most one argument; `*has` tells whether it has
 * one. For what a subclass calls by super(). */
static PyObject *call_lock(condition_object *self, const char *name, PyObject *argument,
                           bool *has) {
    PyObject *method = NULL;
    *has = true;
    if (!is_ready(self) || optional(self->lock_object, name, &method) < 0)
        return NULL;
    *has = method != NULL;
    PyObject *result = method ? PyObject_CallFunctionObjArgs(method, argument, NULL) : NULL;
    Py_XDECREF(method);
    return result;
}

static PyObject *is_owned(condition_object *self, PyObject *Py_UNUSED(nothing)) {
    bool has;
    PyObject *result = call_lock(self, "_is_owned", NULL, &has);
    if (has)
        return result;
    int owned = seems_owned(self);
    return owned < 0 ? NULL : PyBool_FromLong(owned);
}

static PyObject *release_save(condition_object *self, PyObject *Py_UNUSED(nothing)) {
    bool has;
    PyObject *result = call_lock(self, "_release_save", NULL, &has);
    if (has)
        return result;
    if (call(self->release) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *acquire_restore(condition_object *self, PyObject *saved) {
    bool has;
    PyObject *result = call_lock(self, "_acquire_restore", saved, &has);
    if (has)
        return result;
    if (call(self->acquire) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* ---- wait ------------------------------------------------------------------------------------
 */

/* A wait that is over at once: others run if they want to, signals' handlers too. */
static enum gs_outcome poll(condition_object *self, struct gs_waiter *me) {
    me->away = true;
    int failed = gs_checkpoint(self->sync);
    me->away = false;
    return failed ? GS_INTERRUPTED : me->notified ? GS_GOT : GS_TIMED_OUT;
}

/* Gives a foreign lock back; the code that does may let others run, and they may notify. */
static int let_go(condition_object *self, struct gs_waiter *me, PyObject **saved) {
    me->away = true;
    int failed = self->release_save ? -!(*saved = PyObject_CallNoArgs(self->release_save))
                                    : call(self->release);
    me->away = false;
    return failed;
}

/* Takes it again. A signal's handler may run meanwhile and wait for those behind in the chain, or
 * in it itself: no one's turn depends on this thread, then. */
static PyObject *take_back(condition_object *self, struct gs_waiter *me, PyObject *saved) {
    me->away = gs_runs_handlers();
    if (me->away)
        gs_queue_wake(&self->notified);
    PyObject *back =
        self->acquire_restore
            ? PyObject_CallFunctionObjArgs(self->acquire_restore, saved ? saved : Py_None, NULL)
            : PyObject_CallNoArgs(self->acquire);
    me->away = false;
    return back;
}

/* One turn of waiting with a lock of ours. */
static enum gs_outcome wait_own(condition_object *self, struct gs_waiter *me, int64_t deadline) {
    struct gs_lock *lock = self->lock;
    PyObject *keep = self->lock_object;
    Py_INCREF(keep);
    unsigned long count = lock->count;
    struct gs_waiter *other = gs_condition_enter(&self->queue, lock, me);
    enum gs_outcome outcome;
    if (deadline) {
        outcome = gs_condition_sleep(me, deadline, other, self);
    } else {
        if (other)
            gs_word_wake(&other->word);
        outcome = poll(self, me);
    }
    gs_condition_leave(lock, me, count);
    if (outcome == GS_INTERRUPTED && me->notified)
        gs_condition_notify(&self->queue, 1, &lock->queue);
    Py_DECREF(keep);
    return outcome;
}

/* The same with a lock that others made. Where taking it back fails, its exception goes first. */
static enum gs_outcome wait_foreign(condition_object *self, struct gs_waiter *me,
                                    int64_t deadline) {
    PyObject *saved = NULL, *type, *value, *traceback;
    gs_queue_append(&self->queue, me);
    if (let_go(self, me, &saved) < 0) {
        if (me->notified)
            gs_condition_notify(&self->queue, 1, &self->notified);
        gs_queue_remove(me);
        gs_queue_wake(&self->notified);
        return GS_INTERRUPTED;
    }
    enum gs_outcome outcome =
        deadline ? gs_condition_sleep(me, deadline, NULL, self) : poll(self, me);
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *back = take_back(self, me, saved);
    Py_XDECREF(back);
    Py_XDECREF(saved);
    if (back) {
        PyErr_Restore(type, value, traceback);
    } else {
        Py_XDECREF(type);
        Py_XDECREF(value);
        Py_XDECREF(traceback);
        outcome = GS_INTERRUPTED;
    }
    if (outcome == GS_TIMED_OUT && me->notified)
        outcome = GS_GOT;
    if (outcome == GS_INTERRUPTED && me->notified)
        gs_condition_notify(&self->queue, 1, &self->notified);
    gs_queue_remove(me);
    gs_queue_wake(&self->notified);
    return outcome;
}

static PyObject *wait_until(condition_object *self, PyObject *timeout) {
    int64_t deadline;
    if (!check_owned(self, "wait") || gs_deadline(timeout, &deadline) < 0)
        return NULL;
    struct gs_waiter *me = gs_waiter_new(gs_this_thread());
    if (!me)
        return PyErr_NoMemory();
    enum gs_outcome outcome =
        self->lock ? wait_own(self, me, deadline) : wait_foreign(self, me, deadline);
    free(me);
    return outcome == GS_INTERRUPTED ? NULL : PyBool_FromLong(outcome == GS_GOT);
}

/* The only argument `name` of a fast call, or `missing`. Returns NULL with an exception set. */
static PyObject *only_argument(const char *function, const char *name, PyObject *const *args,
                               Py_ssize_t count, PyObject *names, PyObject *missing) {
    Py_ssize_t named = names ? PyTuple_Size(names) : 0;
    if (count + named == 0)
        return missing;
    if (count + named > 1) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most 1 argument (%zd given)", function,
                     count + named);
        return NULL;
    }
    if (named && PyUnicode_CompareWithASCIIString(PyTuple_GetItem(names, 0), name) != 0) {
        PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'", function,
                     PyTuple_GetItem(names, 0));
        return NULL;
    }
    return args[0];
}

static PyObject *wait(condition_object *self, PyObject *const *args, Py_ssize_t count,
                      PyObject *names) {
    PyObject *timeout = only_argument("wait", "timeout", args, count, names, Py_None);
    return timeout ? wait_until(self, timeout) : NULL;
}

/* What is left until the deadline, as wait() takes it: None without one. */
static PyObject *time_left(int64_t deadline) {
    if (deadline < 0)
        Py_RETURN_NONE;
    return PyFloat_FromDouble((double)(deadline - gs_now()) / GS_NANOSECONDS);
}

/* Through the object's own wait(), to which somebody may have given another meaning. */
static PyObject *wait_for(condition_object *self, PyObject *args, PyObject *names) {
    static char *keywords[] = {"predicate", "timeout", NULL};
    PyObject *predicate, *timeout = Py_None;
    int64_t deadline = GS_NEVER;
    if (!PyArg_ParseTupleAndKeywords(args, names, "O|O:wait_for", keywords, &predicate, &timeout))
        return NULL;
    for (bool first = true;; first = false) {
        PyObject *result = PyObject_CallNoArgs(predicate);
        int true_yet = result ? PyObject_IsTrue(result) : -1;
        if (first && true_yet == 0 && gs_deadline(timeout, &deadline) < 0)
            true_yet = -1;
        bool over = !first && deadline >= 0 && gs_now() >= deadline;
        if (true_yet != 0 || over) {
            if (true_yet < 0)
                Py_CLEAR(result);
            return result;
        }
        Py_DECREF(result);
        PyObject *left = first ? timeout : time_left(deadline);
        if (first)
            Py_INCREF(left);
        result = left ? PyObject_CallMethod((PyObject *)self, "wait", "O", left) : NULL;
        Py_XDECREF(left);
        if (!result)
            return NULL;
        Py_DECREF(result);
    }
}

/* ---- notify ----------------------------------------------------------------------------------
 */

static PyObject *notify_many(condition_object *self, size_t n) {
    if (gs_queue_head(&self->queue)) {
        struct gs_queue *to = self->lock ? &self->lock->queue : &self->notified;
        size_t woken = gs_condition_notify(&self->queue, n, to);
        gs_note(GS_COND_NOTIFY, self, woken);
        if (!self->lock)
            gs_queue_wake(to);
    } else {
        gs_note(GS_COND_NOTIFY, self, 0);
    }
    Py_RETURN_NONE;
}

/* How many a number means: any will do, 1.5 wakes two. Returns -1 with an exception set. */
static int how_many(PyObject *number, size_t *n) {
    if (PyIndex_Check(number)) {
        Py_ssize_t whole = PyNumber_AsSsize_t(number, NULL); /* a larger one is cut */
        *n = whole < 0 ? 0 : (size_t)whole;
        return whole == -1 && PyErr_Occurred() ? -1 : 0;
    }
    double value = PyFloat_AsDouble(number);
    if (value == -1.0 && PyErr_Occurred())
        return -1;
    if (value >= (double)PY_SSIZE_T_MAX) {
        *n = SIZE_MAX;
    } else {
        *n = value > 0 ? (size_t)value : 0;
        *n += (double)*n < value;
    }
    return 0;
}

static PyObject *notify(condition_object *self, PyObject *const *args, Py_ssize_t count,
                        PyObject *names) {
    size_t n = 1;
    PyObject *number = NULL;
    if (count || names) {
        number = only_argument("notify", "n", args, count, names, Py_None);
        if (!number)
            return NULL;
    }
    if (!check_owned(self, "notify") || (number && how_many(number, &n) < 0))
        return NULL;
    return notify_many(self, n);
}

static Py_ssize_t waiting(condition_object *self) {
    return gs_queue_head(&self->queue) ? (Py_ssize_t)self->queue.length : 0;
}

/* By the object's own notify(), to which somebody may have given another meaning. */
static PyObject *notify_all(condition_object *self, PyObject *Py_UNUSED(nothing)) {
    return PyObject_CallMethod((PyObject *)self, "notify", "n", waiting(self));
}

static PyObject *notify_all_deprecated(condition_object *self, PyObject *Py_UNUSED(nothing)) {
    if (PyErr_WarnEx(PyExc_DeprecationWarning,
                     "notifyAll() is deprecated, use notify_all() instead", 1) < 0)
        return NULL;
    return PyObject_CallMethod((PyObject *)self, "notify_all", NULL);
}

/* ---- the rest --------------------------------------------------------------------------------
 */

/* In the child of a fork: who waited is no more. */
static PyObject *at_fork_reinit(condition_object *self, PyObject *Py_UNUSED(nothing)) {
    PyObject *reinit =
        is_ready(self) ? PyObject_GetAttrString(self->lock_object, "_at_fork_reinit") : NULL;
    int failed = !reinit || call(reinit) < 0;
    Py_XDECREF(reinit);
    if (failed)
        return NULL;
    gs_queue_clear(&self->queue);
    gs_queue_clear(&self->notified);
    Py_RETURN_NONE;
}

static PyObject *repr(condition_object *self) {
    PyObject *text = self->lock_object ? PyObject_Str(self->lock_object) : PyUnicode_FromString("");
    PyObject *result =
        text ? PyUnicode_FromFormat("<Condition(%U, %zd)>", text, waiting(self)) : NULL;
    Py_XDECREF(text);
    return result;
}

/* The identities of the threads that wait, in their order: a snapshot. */
static PyObject *get_waiters(condition_object *self, void *Py_UNUSED(nothing)) {
    PyObject *list = PyList_New(0);
    for (struct gs_waiter *waiter = gs_queue_head(&self->queue); list && waiter;
         waiter = waiter->next) {
        PyObject *thread = PyLong_FromSize_t(waiter->thread);
        if (!thread || PyList_Append(list, thread) < 0)
            Py_CLEAR(list);
        Py_XDECREF(thread);
    }
    return list;
}

static PyObject *get_lock(condition_object *self, void *Py_UNUSED(nothing)) {
    if (!is_ready(self))
        return NULL;
    Py_INCREF(self->lock_object);
    return self->lock_object;
}

static int traverse(condition_object *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->dict);
    Py_VISIT(self->lock_object);
    Py_VISIT(self->acquire);
    Py_VISIT(self->release);
    Py_VISIT(self->is_owned);
    Py_VISIT(self->release_save);
    Py_VISIT(self->acquire_restore);
    return 0;
}

static int clear(condition_object *self) {
    Py_CLEAR(self->dict);
    forget_lock(self);
    return 0;
}

static void dealloc(condition_object *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (self->weakrefs)
        PyObject_ClearWeakRefs((PyObject *)self);
    clear(self);
    freefunc release_memory = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release_memory(self);
    Py_DECREF(type);
}

#define METHOD(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef methods[] = {
    {"__enter__", METHOD(enter), METH_NOARGS, "__enter__($self, /)\n--\n\nTake the lock."},
    {"__exit__", METHOD(leave), METH_FASTCALL,
     "__exit__($self, type, value, traceback, /)\n--\n\nGive the lock back."},
    {"wait", METHOD(wait), METH_FASTCALL | METH_KEYWORDS,
     "wait($self, /, timeout=None)\n--\n\n"
     "Let the lock go, sleep until notified or for `timeout` seconds, and take the lock back.\n\n"
     "Returns whether it was notified. Raises RuntimeError where the lock is not held."},
    {"wait_for", METHOD(wait_for), METH_VARARGS | METH_KEYWORDS,
     "wait_for($self, /, predicate, timeout=None)\n--\n\n"
     "Wait until predicate() is true, for `timeout` seconds at most; returns its last value."},
    {"notify", METHOD(notify), METH_FASTCALL | METH_KEYWORDS,
     "notify($self, /, n=1)\n--\n\n"
     "Wake the first `n` of those that wait, in the order in which they came.\n\n"
     "Raises RuntimeError where the lock is not held."},
    {"notify_all", METHOD(notify_all), METH_NOARGS,
     "notify_all($self, /)\n--\n\nWake all that wait."},
    {"notifyAll", METHOD(notify_all_deprecated), METH_NOARGS,
     "notifyAll($self, /)\n--\n\nDeprecated: notify_all()."},
    {"_is_owned", METHOD(is_owned), METH_NOARGS, "Whether the lock is held."},
    {"_release_save", METHOD(release_save), METH_NOARGS, "Give the whole lock back."},
    {"_acquire_restore", METHOD(acquire_restore), METH_O, "Take again what _release_save gave."},
    {"_at_fork_reinit", METHOD(at_fork_reinit), METH_NOARGS, "As new, in the child of a fork."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef attributes[] = {
    {"acquire", (getter)get_lock_method, (setter)set_lock_method, "The lock's acquire.", "acquire"},
    {"release", (getter)get_lock_method, (setter)set_lock_method, "The lock's release.", "release"},
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {"_lock", (getter)get_lock, NULL, "The lock.", NULL},
    {"_waiters", (getter)get_waiters, NULL, "Who waits, in their order.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static struct PyMemberDef members[] = {
    {"__dictoffset__", T_PYSSIZET, offsetof(condition_object, dict), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(condition_object, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Condition(lock=None)\n--\n\n"
                "A condition variable, as threading.Condition.\n\n"
                "lock: any lock; without one a reentrant lock is made, and that is the fast way."},
    {Py_tp_new, new},
    {Py_tp_init, init},
    {Py_tp_methods, methods},
    {Py_tp_getset, attributes},
    {Py_tp_members, members},
    {Py_tp_traverse, traverse},
    {Py_tp_clear, clear},
    {Py_tp_dealloc, dealloc},
    {Py_tp_repr, repr},
    {0, NULL},
};

PyType_Spec gs_condition_spec = {
    .name = GS_CONDITION_NAME,
    .basicsize = sizeof(condition_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = slots,
};

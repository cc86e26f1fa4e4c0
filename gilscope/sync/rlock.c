/* The reentrant lock of a Condition that was given none. It does what threading.RLock does, and
 * lets the Condition see its queue: that is what makes a wait one sleep and one wakeup. */
#include "sync.h"

static PyObject *acquire(gs_rlock_object *self, PyObject *args, PyObject *names) {
    static char *keywords[] = {"blocking", "timeout", NULL};
    uintptr_t me = gs_this_thread();
    int blocking = 1;
    PyObject *timeout = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, names, "|pO:acquire", keywords, &blocking, &timeout))
        return NULL;
    int64_t deadline = GS_NEVER;
    if (timeout) {
        double seconds = PyFloat_AsDouble(timeout);
        if (seconds == -1.0 && PyErr_Occurred())
            return NULL;
        if (!blocking && seconds != -1.0) {
            PyErr_SetString(PyExc_ValueError, "can't specify a timeout for a non-blocking call");
            return NULL;
        }
        if (seconds < 0.0 && seconds != -1.0) {
            PyErr_SetString(PyExc_ValueError, "timeout value must be a non-negative number");
            return NULL;
        }
        if (seconds != -1.0 && gs_deadline(timeout, &deadline) < 0)
            return NULL;
    }
    if (gs_lock_try(&self->lock, me))
        Py_RETURN_TRUE;
    if (!blocking || deadline == 0)
        Py_RETURN_FALSE;
    switch (gs_lock_acquire_slowly(&self->lock, me, deadline)) {
    case GS_GOT:
        Py_RETURN_TRUE;
    case GS_TIMED_OUT:
        Py_RETURN_FALSE;
    case GS_NO_MEMORY:
        return PyErr_NoMemory();
    default:
        return NULL;
    }
}

static PyObject *release(gs_rlock_object *self, PyObject *Py_UNUSED(nothing)) {
    if (self->lock.owner != gs_this_thread()) {
        PyErr_SetString(PyExc_RuntimeError, "cannot release un-acquired lock");
        return NULL;
    }
    gs_lock_release(&self->lock);
    Py_RETURN_NONE;
}

static PyObject *leave(gs_rlock_object *self, PyObject *Py_UNUSED(args)) {
    return release(self, NULL);
}

static PyObject *is_owned(gs_rlock_object *self, PyObject *Py_UNUSED(nothing)) {
    return PyBool_FromLong(self->lock.owner == gs_this_thread());
}

static PyObject *locked(gs_rlock_object *self, PyObject *Py_UNUSED(nothing)) {
    return PyBool_FromLong(self->lock.owner != 0);
}

static PyObject *recursion_count(gs_rlock_object *self, PyObject *Py_UNUSED(nothing)) {
    return PyLong_FromUnsignedLong(self->lock.owner == gs_this_thread() ? self->lock.count : 0);
}

static PyObject *release_save(gs_rlock_object *self, PyObject *Py_UNUSED(nothing)) {
    if (self->lock.owner != gs_this_thread()) {
        PyErr_SetString(PyExc_RuntimeError, "cannot release un-acquired lock");
        return NULL;
    }
    PyObject *saved = Py_BuildValue("kK", self->lock.count, (unsigned long long)self->lock.owner);
    if (!saved)
        return NULL;
    self->lock.count = 1;
    gs_lock_release(&self->lock);
    return saved;
}

static PyObject *acquire_restore(gs_rlock_object *self, PyObject *saved) {
    unsigned long count;
    unsigned long long owner;
    if (!PyTuple_Check(saved)) {
        PyErr_SetString(PyExc_TypeError, "_acquire_restore() takes what _release_save() gave");
        return NULL;
    }
    if (!PyArg_ParseTuple(saved, "kK:_acquire_restore", &count, &owner))
        return NULL;
    struct gs_waiter *me = gs_waiter_new((uintptr_t)owner);
    if (!me)
        return PyErr_NoMemory();
    gs_queue_append(&self->lock.queue, me);
    gs_lock_await(&self->lock, me, count, GS_NEVER, false);
    free(me);
    Py_RETURN_NONE;
}

/* In the child of a fork: who waited is no more. */
static PyObject *at_fork_reinit(gs_rlock_object *self, PyObject *Py_UNUSED(nothing)) {
    gs_queue_clear(&self->lock.queue);
    self->lock.owner = 0;
    self->lock.count = 0;
    Py_RETURN_NONE;
}

static PyObject *repr(gs_rlock_object *self) {
    PyObject *type = (PyObject *)Py_TYPE(self);
    PyObject *module = PyObject_GetAttrString(type, "__module__");
    PyObject *name = module ? PyObject_GetAttrString(type, "__qualname__") : NULL;
    PyObject *text = NULL;
    if (name)
        text = PyUnicode_FromFormat("<%s %S.%S object owner=%zu count=%lu at %p>",
                                    self->lock.owner ? "locked" : "unlocked", module, name,
                                    (size_t)self->lock.owner, self->lock.count, self);
    Py_XDECREF(module);
    Py_XDECREF(name);
    return text;
}

static int traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static void dealloc(gs_rlock_object *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (self->weakrefs)
        PyObject_ClearWeakRefs((PyObject *)self);
    freefunc release_memory = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release_memory(self);
    Py_DECREF(type);
}

#define METHOD(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef methods[] = {
    {"acquire", METHOD(acquire), METH_VARARGS | METH_KEYWORDS,
     "acquire($self, /, blocking=True, timeout=-1)\n--\n\n"
     "Take the lock, or one more level of it. Returns whether it was taken.\n\n"
     "timeout: seconds, -1 for ever. A signal's exception ends the wait."},
    {"release", METHOD(release), METH_NOARGS,
     "release($self, /)\n--\n\nGive one level of the lock back.\n\n"
     "Raises RuntimeError where this thread has none."},
    {"__enter__", METHOD(acquire), METH_VARARGS | METH_KEYWORDS,
     "__enter__($self, /, blocking=True, timeout=-1)\n--\n\nTake the lock."},
    {"__exit__", METHOD(leave), METH_VARARGS,
     "__exit__($self, type, value, traceback, /)\n--\n\nGive it back."},
    {"locked", METHOD(locked), METH_NOARGS, "locked($self, /)\n--\n\nWhether some thread has it."},
    {"_is_owned", METHOD(is_owned), METH_NOARGS, "Whether this thread has it."},
    {"_recursion_count", METHOD(recursion_count), METH_NOARGS, "Levels that this thread has."},
    {"_release_save", METHOD(release_save), METH_NOARGS, "Give all levels back; returns them."},
    {"_acquire_restore", METHOD(acquire_restore), METH_O, "Take again what _release_save gave."},
    {"_at_fork_reinit", METHOD(at_fork_reinit), METH_NOARGS, "As new, in the child of a fork."},
    {NULL, NULL, 0, NULL},
};

static struct PyMemberDef members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(gs_rlock_object, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "RLock()\n--\n\nA reentrant lock, as threading.RLock."},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {Py_tp_traverse, traverse},
    {Py_tp_dealloc, dealloc},
    {Py_tp_repr, repr},
    {0, NULL},
};

PyType_Spec gs_rlock_spec = {
    .name = GS_RLOCK_NAME,
    .basicsize = sizeof(gs_rlock_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = slots,
};

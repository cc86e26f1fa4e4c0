/* What stands around the types: their making, and what they share. */
#include "sync.h"

int gs_deadline(PyObject *timeout, int64_t *deadline) {
    *deadline = GS_NEVER;
    if (timeout == Py_None)
        return 0;
    double seconds = PyFloat_AsDouble(timeout);
    if (seconds == -1.0 && PyErr_Occurred())
        return -1;
    *deadline = 0;
    if (seconds <= 0.0)
        return 0;
    if (seconds != seconds) {
        PyErr_SetString(PyExc_ValueError, "Invalid value NaN (not a number)");
        return -1;
    }
    if (seconds > (double)(INT64_MAX / 1000 / 1000000)) {
        PyErr_SetString(PyExc_OverflowError, "timeout value is too large");
        return -1;
    }
    double nanoseconds = seconds * (double)GS_NANOSECONDS;
    int64_t now = gs_now();
    /* At the end of the clock's range: it is centuries away. */
    *deadline =
        nanoseconds >= (double)(INT64_MAX - now) ? INT64_MAX : now + (int64_t)nanoseconds + 1;
    return 0;
}

/* sys.is_finalizing(), whatever exception is set: the limited API of 3.10 has no name for it. */
bool gs_python_ends(void) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *ask = PySys_GetObject("is_finalizing");
    PyObject *ends = ask ? PyObject_CallNoArgs(ask) : NULL;
    bool result = ends != Py_False; /* `sys` is empty at the very end */
    Py_XDECREF(ends);
    PyErr_Restore(type, value, traceback);
    return result;
}

static PyObject *make_checkpoint(void) {
    PyObject *code = Py_CompileString("lambda: None", "<gilscope checkpoint>", Py_eval_input);
    PyObject *names = code ? PyDict_New() : NULL;
    PyObject *function = names ? PyEval_EvalCode(code, names, names) : NULL;
    Py_XDECREF(names);
    Py_XDECREF(code);
    return function;
}

int gs_checkpoint(struct gs_sync *sync) {
    if (!sync->checkpoint && !(sync->checkpoint = make_checkpoint()))
        return -1;
    PyObject *result = PyObject_CallNoArgs(sync->checkpoint);
    Py_XDECREF(result);
    return result ? 0 : -1;
}

static int add(PyObject *module, PyType_Spec *spec) {
    PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
    int result = type ? PyModule_AddType(module, (PyTypeObject *)type) : -1;
    Py_XDECREF(type);
    return result;
}

static PyObject *find_probe(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    gs_feed_find();
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"set_atomic", gs_set_atomic, METH_O,
     "set_atomic(depth, /)\n--\n\n"
     "Make this thread atomic (1, or deeper) or not (0). Returns the depth before."},
    {"tell", gs_tell, METH_VARARGS,
     "tell(owner, n, /)\n--\n\nNote in the trace that `owner` was released (-1) or notified n."},
    {"find_probe", find_probe, METH_NOARGS,
     "find_probe()\n--\n\nLook again for a probe in this process: one came late."},
    {NULL, NULL, 0, NULL},
};

int gs_sync_start(struct gs_sync *sync, PyObject *module, PyTypeObject *lock, PyTypeObject *rlock) {
    gs_feed_find();
    gs_forks_watch();
    Py_INCREF(lock);
    sync->plain_lock_type = lock;
    Py_INCREF(rlock);
    sync->plain_rlock_type = rlock;
    sync->rlock_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &gs_rlock_spec, NULL);
    sync->condition_type =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &gs_condition_spec, NULL);
    if (!sync->rlock_type || PyModule_AddType(module, sync->rlock_type) < 0 ||
        !sync->condition_type || PyModule_AddType(module, sync->condition_type) < 0 ||
        add(module, &gs_atomic_spec) < 0 || add(module, &gs_sleeper_spec) < 0)
        return -1;
    return PyModule_AddFunctions(module, functions);
}

int gs_sync_traverse(struct gs_sync *sync, visitproc visit, void *arg) {
    Py_VISIT(sync->rlock_type);
    Py_VISIT(sync->condition_type);
    Py_VISIT(sync->plain_lock_type);
    Py_VISIT(sync->plain_rlock_type);
    Py_VISIT(sync->checkpoint);
    return 0;
}

void gs_sync_clear(struct gs_sync *sync) {
    Py_CLEAR(sync->rlock_type);
    Py_CLEAR(sync->condition_type);
    Py_CLEAR(sync->plain_lock_type);
    Py_CLEAR(sync->plain_rlock_type);
    Py_CLEAR(sync->checkpoint);
}

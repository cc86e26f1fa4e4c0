/* Options and sys._gilscope: the part of Python Plus that speaks the C API. */
#include "gilscope.h"

#include <math.h>

#include "pycore_namespace.h" // _PyNamespace_New()

#include "probe/event_abi.h"
#include "probe/hooks.h"
#include "probe/policy.h"

PyStatus _PyGilscope_Configure(const PyConfig *config) {
    const char *wrong_option = NULL, *wrong = NULL;
    for (Py_ssize_t i = 0; i < config->xoptions.length; i++) {
        /* Names and values are short and ASCII. */
        const wchar_t *from = config->xoptions.items[i];
        char option[256];
        size_t n = 0;
        for (; from[n] && n < sizeof option - 1; n++)
            option[n] = (unsigned long)from[n] < 128 ? (char)from[n] : '?';
        option[n] = 0;
        const char *complaint = gs_switch_set(option);
        wrong_option = complaint ? complaint : wrong_option;
    }
#if GILSCOPE_WITH_PROBE
    wrong = gs_built_in_configure();
#endif
    if (wrong_option || wrong)
        return PyStatus_Error(wrong_option ? wrong_option : wrong);
    return PyStatus_Ok();
}

static PyObject *rename_thread(PyObject *Py_UNUSED(self), PyObject *args) {
    unsigned long native_id;
    PyObject *name;
    if (!PyArg_ParseTuple(args, "kU:rename", &native_id, &name))
        return NULL;
    const char *utf8 = PyUnicode_AsUTF8(name);
    if (!utf8)
        PyErr_Clear(); /* lone surrogates: a name that a thread may have and a trace cannot */
#if GILSCOPE_WITH_PROBE
    else
        gs_built_in_thread_named((uint32_t)native_id, utf8);
#endif
    Py_RETURN_NONE;
}

static PyObject *condition_waits(PyObject *Py_UNUSED(self), PyObject *args) {
    PyObject *condition, *lock;
    if (!PyArg_ParseTuple(args, "OO:condition_waits", &condition, &lock))
        return NULL;
    bool none = lock == Py_None;
    /* The PyMutex is the first thing in a lock. */
    gs_hook_condition_waits(none ? NULL : condition, none ? NULL : (PyObject *)lock + 1);
    Py_RETURN_NONE;
}

static PyObject *condition_notifies(PyObject *Py_UNUSED(self), PyObject *args) {
    PyObject *condition;
    double asked; /* any number will do */
    unsigned waiting;
    if (!PyArg_ParseTuple(args, "OdI:condition_notifies", &condition, &asked, &waiting)) {
        PyErr_Clear(); /* what is no number is the caller's to refuse */
        Py_RETURN_NONE;
    }
    unsigned woken = asked >= waiting ? waiting : asked > 0 ? (unsigned)ceil(asked) : 0;
    gs_hook_condition_notifies(condition, woken);
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"condition_waits", condition_waits, METH_VARARGS,
     PyDoc_STR("condition_waits(condition, lock)\n--\n\n"
               "Tell the recording that this thread waits for one by the other; None: no more.")},
    {"condition_notifies", condition_notifies, METH_VARARGS,
     PyDoc_STR("condition_notifies(condition, n, waiting)\n--\n\n"
               "Tell the recording that so many of those that wait are about to be woken.")},
    {"rename", rename_thread, METH_VARARGS,
     PyDoc_STR("rename(native_id, name)\n--\n\nTell the recording a thread's new name.")},
};

static int add(PyObject *dict, const char *key, PyObject *value) {
    int error = value ? PyDict_SetItemString(dict, key, value) : -1;
    Py_XDECREF(value);
    return error;
}

static int add_functions(PyObject *dict) {
    for (size_t i = 0; i < Py_ARRAY_LENGTH(functions); i++)
        if (add(dict, functions[i].ml_name, PyCFunction_New(&functions[i], NULL)) < 0)
            return -1;
    return 0;
}

PyObject *_PyGilscope_Namespace(void) {
    int recording = 0;
#if GILSCOPE_WITH_PROBE
    recording = (gs_hooks_on & GS_HOOKS_RECORDING) != 0;
#endif
    const char *policy = "classic", *gil_condvar = "pthread";
#if GILSCOPE_WITH_POLICIES
    policy = gs_policy_name();
    gil_condvar = gs_condvar_name();
#endif
    PyObject *dict = PyDict_New();
    if (!dict)
        return NULL;
    PyObject *namespace = NULL;
    if (add(dict, "version", PyLong_FromLong(GS_ABI_VERSION)) == 0 &&
        add(dict, "performance_testing", PyLong_FromLong(GILSCOPE_PERFORMANCE_TESTING)) == 0 &&
        add(dict, "probe", PyBool_FromLong(GILSCOPE_WITH_PROBE)) == 0 &&
        add(dict, "locks", PyBool_FromLong(GILSCOPE_WITH_LOCKS)) == 0 &&
        add(dict, "condition", PyBool_FromLong(GILSCOPE_WITH_CONDITION)) == 0 &&
        add(dict, "atomic", PyBool_FromLong(GILSCOPE_WITH_ATOMIC)) == 0 &&
        add(dict, "policies", PyBool_FromLong(GILSCOPE_WITH_POLICIES)) == 0 &&
        add(dict, "policy", PyUnicode_FromString(policy)) == 0 &&
        add(dict, "gil_condvar", PyUnicode_FromString(gil_condvar)) == 0 &&
        add(dict, "recording", PyBool_FromLong(recording)) == 0 && add_functions(dict) == 0)
        namespace = _PyNamespace_New(dict);
    Py_DECREF(dict);
    return namespace;
}

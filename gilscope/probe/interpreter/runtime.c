/* Options and sys._gilscope: the part of Python Plus that speaks the C API. */
#include "gilscope.h"

#include "pycore_namespace.h" // _PyNamespace_New()

#include "probe/event_abi.h"
#include "probe/hooks.h"
#include "probe/policy.h"

void _PyGilscope_Configure(const PyConfig *config) {
    for (Py_ssize_t i = 0; i < config->xoptions.length; i++) {
        /* ASCII, as switches are: an option with anything else is not ours. */
        const wchar_t *from = config->xoptions.items[i];
        char option[256];
        size_t n = 0;
        while (from[n] && (unsigned long)from[n] < 128 && n < sizeof option - 1) {
            option[n] = (char)from[n];
            n++;
        }
        option[n] = 0;
        if (!from[n])
            gs_switch_set(option);
    }
#if GILSCOPE_WITH_PROBE
    gs_built_in_configure();
#endif
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

static PyMethodDef rename_definition = {
    "rename", rename_thread, METH_VARARGS,
    PyDoc_STR("rename(native_id, name)\n--\n\nTell the recording a thread's new name.")};

static int add(PyObject *dict, const char *key, PyObject *value) {
    int error = value ? PyDict_SetItemString(dict, key, value) : -1;
    Py_XDECREF(value);
    return error;
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
        add(dict, "recording", PyBool_FromLong(recording)) == 0 &&
        add(dict, "rename", PyCFunction_New(&rename_definition, NULL)) == 0)
        namespace = _PyNamespace_New(dict);
    Py_DECREF(dict);
    return namespace;
}

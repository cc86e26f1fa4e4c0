/* The extension module gilscope._sync: the native types for interpreters that nobody patched. One
 * build on the stable ABI serves Python 3.10 and every later one that has a GIL. */
#include "sync/sync.h"

extern PyType_Spec gs_empty_spec;

static struct PyModuleDef definition;

struct gs_sync *gs_sync_of(PyTypeObject *type) {
    /* Every subclass has one of ours among its bases; all before it are heap types too. */
    for (; type; type = (PyTypeObject *)PyType_GetSlot(type, Py_tp_base)) {
        PyObject *module = PyType_GetModule(type);
        if (module && PyModule_GetDef(module) == &definition)
            return PyModule_GetState(module);
        PyErr_Clear();
    }
    PyErr_SetString(PyExc_SystemError, "not a type of gilscope._sync");
    return NULL;
}

static PyTypeObject *type_of_result(PyObject *module, const char *name) {
    PyObject *made = module ? PyObject_CallMethod(module, name, NULL) : NULL;
    PyTypeObject *type = made ? Py_TYPE(made) : NULL;
    Py_XINCREF(type);
    Py_XDECREF(made);
    return type;
}

static int start(PyObject *module) {
    PyObject *thread = PyImport_ImportModule("_thread");
    PyTypeObject *lock = type_of_result(thread, "allocate_lock");
    PyTypeObject *rlock = lock ? type_of_result(thread, "RLock") : NULL;
    int result = rlock ? gs_sync_start(PyModule_GetState(module), module, lock, rlock) : -1;
    Py_XDECREF(thread);
    Py_XDECREF(lock);
    Py_XDECREF(rlock);
    PyObject *empty = result < 0 ? NULL : PyType_FromModuleAndSpec(module, &gs_empty_spec, NULL);
    result = empty ? PyModule_AddType(module, (PyTypeObject *)empty) : -1;
    Py_XDECREF(empty);
    return result;
}

static int traverse(PyObject *module, visitproc visit, void *arg) {
    return gs_sync_traverse(PyModule_GetState(module), visit, arg);
}

static int clear(PyObject *module) {
    gs_sync_clear(PyModule_GetState(module));
    return 0;
}

static void release(void *module) {
    clear(module);
}

/* Py_mod_multiple_interpreters, PER_INTERPRETER_GIL_SUPPORTED: 3.12 and later know it, and the
 * limited API of 3.10 has no name for it. */
enum { MULTIPLE_INTERPRETERS = 3 };
#define WITH_GILS_OF_THEIR_OWN ((void *)2)

static PyModuleDef_Slot slots[] = {{Py_mod_exec, start}, {0, NULL}, {0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "gilscope._sync",
    .m_doc = "Native synchronization for threads.",
    .m_size = sizeof(struct gs_sync),
    .m_slots = slots,
    .m_traverse = traverse,
    .m_clear = clear,
    .m_free = release,
};

/* A free-threaded Python finds this library too (3.13 does), and lays out its objects otherwise. */
static bool has_gil(void) {
    return !strstr(Py_GetVersion(), "free-threading");
}

PyMODINIT_FUNC PyInit__sync(void) {
    if (!has_gil()) {
        PyErr_SetString(PyExc_ImportError, "gilscope._sync needs a GIL");
        return NULL;
    }
    int major = 0, minor = 0;
    sscanf(Py_GetVersion(), "%d.%d", &major, &minor);
    if (minor >= 12)
        slots[1] = (PyModuleDef_Slot){MULTIPLE_INTERPRETERS, WITH_GILS_OF_THEIR_OWN};
    return PyModuleDef_Init(&definition);
}

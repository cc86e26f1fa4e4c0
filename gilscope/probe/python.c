#include "python.h"

#include <string.h>

#include "memory.h"
#include "modules.h"

struct gs_python gs_python;

/* Stretches of code that called us and are not Python's, so that a C++ program full of condition
 * variables does not have its modules searched for each. Races lose an entry, no more; a library
 * that is loaded where another one was counts as that one. */
static struct {
    uintptr_t start, end;
} not_python[64];
static unsigned n_not_python;

enum { CODE_PAGE = 4096, RUNTIME_BYTES = 1 << 20 };

static bool known_not_python(uintptr_t code) {
    for (unsigned i = 0; i < sizeof not_python / sizeof *not_python; i++)
        if (code >= __atomic_load_n(&not_python[i].start, __ATOMIC_RELAXED) &&
            code < __atomic_load_n(&not_python[i].end, __ATOMIC_RELAXED))
            return true;
    return false;
}

static void note_not_python(uintptr_t start, uintptr_t end) {
    unsigned i = __atomic_fetch_add(&n_not_python, 1, __ATOMIC_RELAXED) %
                 (sizeof not_python / sizeof *not_python);
    __atomic_store_n(&not_python[i].end, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&not_python[i].start, start, __ATOMIC_RELAXED);
    __atomic_store_n(&not_python[i].end, end, __ATOMIC_RELAXED);
}

/* The opening of _PyRuntime from 3.13 on, published by CPython for tools like this one. */
struct debug_offsets {
    char cookie[8]; /* "xdebugpy" */
    uint64_t version;
    uint64_t free_threaded;
};

static bool inspect(const struct gs_module *module) {
    struct gs_python found = {
        .start = module->start, .code = module->code, .code_end = module->code_end};
    size_t size = 0;
    char *runtime = gs_module_symbol(module, "_PyRuntime", &size);
    struct debug_offsets offsets; /* _PyRuntime has always been larger */
    if (!runtime || !gs_copy_safely(runtime, &offsets, sizeof offsets))
        return false;
    found.runtime = (uintptr_t)runtime;
    found.runtime_end = found.runtime + (size ? size : RUNTIME_BYTES);
    found.free_threaded = memcmp(offsets.cookie, "xdebugpy", 8) == 0 && offsets.free_threaded == 1;
    size = 0;
    found.save_thread = (uintptr_t)gs_module_symbol(module, "PyEval_SaveThread", &size);
    found.save_thread_end = found.save_thread + size;
    size = 0;
    found.handle_pending = (uintptr_t)gs_module_symbol(module, "_Py_HandlePending", &size);
    found.handle_pending_end = found.handle_pending + size;
#define LOOK_UP(field, name) *(void **)&found.field = gs_module_symbol(module, name, NULL)
    LOOK_UP(restore_thread, "PyEval_RestoreThread");
    LOOK_UP(get_version, "Py_GetVersion");
    LOOK_UP(gil_state_check, "PyGILState_Check");
    LOOK_UP(method_self, "PyMethod_Self");
    LOOK_UP(utf8, "PyUnicode_AsUTF8AndSize");
    LOOK_UP(dict_of, "_PyObject_GetDictPtr");
    LOOK_UP(decref, "Py_DecRef");
    LOOK_UP(err_clear, "PyErr_Clear");
    LOOK_UP(gc_disable, "PyGC_Disable");
    LOOK_UP(gc_enable, "PyGC_Enable");
    LOOK_UP(sys_get_object, "PySys_GetObject");
    LOOK_UP(module_get_dict, "PyModule_GetDict");
    LOOK_UP(dict_get_item, "PyDict_GetItem");
    LOOK_UP(dict_get_item_string, "PyDict_GetItemString");
    LOOK_UP(dict_next, "PyDict_Next");
    LOOK_UP(long_from_unsigned_long, "PyLong_FromUnsignedLong");
    LOOK_UP(long_as_unsigned_long, "PyLong_AsUnsignedLong");
    LOOK_UP(method_type, "PyMethod_Type");
    LOOK_UP(dict_type, "PyDict_Type");
    LOOK_UP(code_type, "PyCode_Type");
    LOOK_UP(string_type, "PyUnicode_Type");
    LOOK_UP(bytes_type, "PyBytes_Type");
    LOOK_UP(long_type, "PyLong_Type");
    LOOK_UP(list_type, "PyList_Type");
#undef LOOK_UP
    gs_python = found;
    __atomic_store_n(&gs_python.end, module->end, __ATOMIC_RELEASE); /* last: all else is there */
    return true;
}

/* A program that embeds Python may close libpython again. */
static bool is_known(void) {
    return gs_python.end && gs_readable((const void *)gs_python.runtime, sizeof(void *));
}

bool gs_python_begins(const void *code) {
    uintptr_t at = (uintptr_t)code;
    if (gs_python_owns(code))
        return true;
    if (known_not_python(at) || is_known())
        return false;
    struct gs_module module;
    if (!gs_module_of(code, &module))
        note_not_python(at & ~(uintptr_t)(CODE_PAGE - 1), (at | (CODE_PAGE - 1)) + 1);
    else if (inspect(&module))
        return true;
    else
        note_not_python(module.start, module.end);
    return false;
}

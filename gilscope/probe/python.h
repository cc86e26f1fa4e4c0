/* What the probe needs to know of the interpreter in its process: the module (executable or
 * libpython) that owns _PyRuntime, found by address, and a few of its exported calls. No Python.h,
 * no offsets: everything is looked up by name in the running process, without the loader. */
#ifndef GILSCOPE_PYTHON_H
#define GILSCOPE_PYTHON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gs_python {
    uintptr_t start, end; /* the module; both 0: not found yet */
    uintptr_t code, code_end;
    uintptr_t runtime, runtime_end;
    uintptr_t save_thread, save_thread_end;       /* the code of PyEval_SaveThread; 0: not known */
    uintptr_t handle_pending, handle_pending_end; /* and of _Py_HandlePending, from 3.13 on */
    void (*restore_thread)(void *state);
    bool free_threaded;
    const char *(*get_version)(void);
    int (*gil_state_check)(void);
    void *(*method_self)(void *method);
    const char *(*utf8)(void *string, ptrdiff_t *size);
    void **(*dict_of)(void *object);
    void (*decref)(void *object);
    void (*err_clear)(void);
    int (*gc_disable)(void); /* from 3.10 on, as the next one */
    int (*gc_enable)(void);
    void *(*sys_get_object)(const char *name);
    void *(*module_get_dict)(void *module);
    void *(*dict_get_item)(void *dict, void *key);
    void *(*dict_get_item_string)(void *dict, const char *key);
    int (*dict_next)(void *dict, ptrdiff_t *position, void **key, void **value);
    void *(*long_from_unsigned_long)(unsigned long value);
    unsigned long (*long_as_unsigned_long)(void *integer);
    void *method_type, *dict_type, *code_type, *string_type, *bytes_type, *long_type, *list_type;
};

extern struct gs_python gs_python;

/* Whether `code` lies in the module that owns _PyRuntime, as far as that is known. */
static inline bool gs_python_owns(const void *code) {
    return (uintptr_t)code >= gs_python.start && (uintptr_t)code < gs_python.end;
}

/* The same of who makes a condition variable; finds the module the first time that it does, which
 * is when there is no GIL yet, and anew where it was unloaded. */
bool gs_python_begins(const void *code);

#endif

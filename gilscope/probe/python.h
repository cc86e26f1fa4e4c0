/* What the probe needs to know of the interpreter in its process: the module (executable or
 * libpython) that owns _PyRuntime, found by address, and a few of its exported calls. No
 * Python.h, no offsets: everything is looked up by name in the running process. */
#ifndef GILSCOPE_PYTHON_H
#define GILSCOPE_PYTHON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gs_python {
    const void *base;     /* where the module is loaded; NULL: not found yet */
    uintptr_t start, end; /* all of it */
    uintptr_t runtime, runtime_end;
    uintptr_t save_thread, save_thread_end; /* the code of PyEval_SaveThread; 0: not known */
    void (*restore_thread)(void *state);
    bool free_threaded;
    const char *(*get_version)(void);
    int (*gil_state_check)(void);
    void *(*method_self)(void *method);
    void *(*string)(const char *utf8);
    const char *(*utf8)(void *string, ptrdiff_t *size);
    void *(*generic_getattr)(void *object, void *name);
    void (*decref)(void *object);
    void (*err_clear)(void);
    void *(*sys_get_object)(const char *name);
    void *(*module_get_dict)(void *module);
    void *(*dict_get_item_string)(void *dict, const char *key);
    int (*dict_next)(void *dict, ptrdiff_t *position, void **key, void **value);
    ptrdiff_t (*dict_size)(void *dict);
    unsigned long (*long_as_unsigned_long)(void *integer);
    void (*incref)(void *object);
    void *method_type, *dict_type, *code_type, *string_type, *bytes_type;
};

extern struct gs_python gs_python;

/* The semaphore of threading's lock around its table of threads, up to 3.13; NULL: not known. Every
 * thread takes it before it begins and before it leaves the table. An address that is no longer
 * its own costs a look-up now and then. */
extern const void *gs_table_lock;

/* Whether `code` lies in the module that owns _PyRuntime; finds that module the first time that
 * one of its functions calls, which is when there is no GIL yet. From then on it asks the dynamic
 * loader no more: whoever loads a library has the loader's lock, and may wait for the GIL. */
bool gs_python_owns(const void *code);

/* The name of the threading.Thread that is about to run in a new thread, given what CPython hands
 * to pthread_create. The caller is CPython itself, in the middle of starting a thread, with the GIL
 * held. False where there is no such name. */
bool gs_python_thread_name(void *callback, char *out, size_t size);

/* Tells the kernel's id and the name of every living threading.Thread of the calling interpreter.
 * Same caller. */
void gs_python_each_name(void (*tell)(uint32_t tid, const char *name));

/* The name of the calling thread, if the calling interpreter's threading module knows it. The
 * caller is CPython, in ordinary C code, with the GIL held. */
bool gs_python_own_name(char *out, size_t size);

#endif

#define _GNU_SOURCE
#include "python.h"

#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <string.h>

/* Weak: only glibc has it. */
extern int dladdr1(const void *address, Dl_info *info, void **extra, int flags)
    __attribute__((weak));

struct gs_python gs_python;
const void *gs_table_lock;

/* Modules that called us and are not Python, so that a C++ program full of condition variables
 * does not search the loader's tables for each. Races lose an entry, no more. */
static const void *not_python[8];
static unsigned n_not_python;

static bool known_not_python(const void *base) {
    for (unsigned i = 0; i < sizeof not_python / sizeof *not_python; i++)
        if (__atomic_load_n(&not_python[i], __ATOMIC_RELAXED) == base)
            return true;
    return false;
}

/* The opening of _PyRuntime from 3.13 on, published by CPython for tools like this one. */
struct debug_offsets {
    char cookie[8]; /* "xdebugpy" */
    uint64_t version;
    uint64_t free_threaded;
};

static void *module_symbol(void *handle, const void *base, const char *name) {
    Dl_info info;
    void *symbol = dlsym(handle, name);
    return symbol && dladdr(symbol, &info) && info.dli_fbase == base ? symbol : NULL;
}

/* Start and end of a symbol; `assumed` is its size where the loader cannot tell. */
static void extent(const void *symbol, size_t assumed, uintptr_t *start, uintptr_t *end) {
    Dl_info info;
    ElfW(Sym) *entry = NULL;
    size_t size = assumed;
    if (dladdr1 && dladdr1(symbol, &info, (void **)&entry, RTLD_DL_SYMENT) && entry &&
        entry->st_size)
        size = entry->st_size;
    *start = (uintptr_t)symbol;
    *end = *start + size;
}

/* The loader puts a module's segments into one stretch of addresses that it has for itself. */
static int note_extent(struct dl_phdr_info *module, size_t size, void *found) {
    (void)size;
    struct gs_python *python = found;
    uintptr_t start = UINTPTR_MAX, end = 0;
    for (unsigned i = 0; i < module->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &module->dlpi_phdr[i];
        uintptr_t at = module->dlpi_addr + segment->p_vaddr;
        if (segment->p_type != PT_LOAD)
            continue;
        start = at < start ? at : start;
        end = at + segment->p_memsz > end ? at + segment->p_memsz : end;
    }
    if (python->runtime < start || python->runtime >= end)
        return 0;
    python->start = start;
    python->end = end;
    return 1;
}

static bool inspect(const void *base, void *handle) {
    struct gs_python found = {.base = base};
    char *runtime = module_symbol(handle, base, "_PyRuntime");
    if (!runtime)
        return false;
    extent(runtime, 1 << 20, &found.runtime, &found.runtime_end);
    const void *save_thread = module_symbol(handle, base, "PyEval_SaveThread");
    if (save_thread)
        extent(save_thread, 0, &found.save_thread, &found.save_thread_end);
    dl_iterate_phdr(note_extent, &found);
    struct debug_offsets offsets; /* _PyRuntime has always been larger */
    memcpy(&offsets, runtime, sizeof offsets);
    found.free_threaded = memcmp(offsets.cookie, "xdebugpy", 8) == 0 && offsets.free_threaded == 1;
#define LOOK_UP(field, name) *(void **)&found.field = module_symbol(handle, base, name)
    LOOK_UP(restore_thread, "PyEval_RestoreThread");
    LOOK_UP(get_version, "Py_GetVersion");
    LOOK_UP(gil_state_check, "PyGILState_Check");
    LOOK_UP(method_self, "PyMethod_Self");
    LOOK_UP(string, "PyUnicode_FromString");
    LOOK_UP(utf8, "PyUnicode_AsUTF8AndSize");
    LOOK_UP(generic_getattr, "PyObject_GenericGetAttr");
    LOOK_UP(decref, "Py_DecRef");
    LOOK_UP(err_clear, "PyErr_Clear");
    LOOK_UP(sys_get_object, "PySys_GetObject");
    LOOK_UP(module_get_dict, "PyModule_GetDict");
    LOOK_UP(dict_get_item_string, "PyDict_GetItemString");
    LOOK_UP(dict_next, "PyDict_Next");
    LOOK_UP(dict_size, "PyDict_Size");
    LOOK_UP(long_as_unsigned_long, "PyLong_AsUnsignedLong");
    LOOK_UP(incref, "Py_IncRef");
    LOOK_UP(method_type, "PyMethod_Type");
    LOOK_UP(dict_type, "PyDict_Type");
    LOOK_UP(code_type, "PyCode_Type");
    LOOK_UP(string_type, "PyUnicode_Type");
    LOOK_UP(bytes_type, "PyBytes_Type");
#undef LOOK_UP
    gs_python = found;
    return true;
}

bool gs_python_owns(const void *code) {
    if (gs_python.base)
        return (uintptr_t)code >= gs_python.start && (uintptr_t)code < gs_python.end;
    Dl_info info;
    if (!dladdr(code, &info) || !info.dli_fbase)
        return false;
    if (known_not_python(info.dli_fbase))
        return false;
    void *handle =
        strchr(info.dli_fname, '/') ? dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD) : NULL;
    /* A libpython opened with RTLD_LOCAL is not in the global scope: ask the module itself. */
    if (inspect(info.dli_fbase, RTLD_DEFAULT) || (handle && inspect(info.dli_fbase, handle)))
        return true; /* keeps the handle: the module must stay while we watch it */
    if (handle)
        dlclose(handle);
    unsigned at = __atomic_fetch_add(&n_not_python, 1, __ATOMIC_RELAXED);
    __atomic_store_n(&not_python[at % (sizeof not_python / sizeof *not_python)], info.dli_fbase,
                     __ATOMIC_RELAXED);
    return false;
}

/* What CPython gives to pthread_create (pythread_callback), the same from 3.9 to 3.15 … */
struct callback {
    void (*function)(void *);
    void **boot; /* … and the beginning of its argument for threads of the _thread module: */
};
enum { BOOT_FUNCTION = 1 }; /* {interpreter or thread state, the callable, …} */

struct object { /* of a build with a GIL */
    intptr_t references;
    void *type;
};

static bool can_read_names(void) {
    struct gs_python *py = &gs_python;
    return py->string && py->utf8 && py->generic_getattr && py->method_self && py->method_type &&
           py->sys_get_object && py->module_get_dict && py->dict_get_item_string && py->dict_next &&
           py->dict_size && py->long_as_unsigned_long && py->incref && py->dict_type &&
           py->decref && py->err_clear && py->gil_state_check && !py->free_threaded;
}

/* Generic look-up: runs no code of the user's, even in a subclass with __getattribute__. Returns a
 * reference or NULL. */
static void *attribute_of(void *object, const char *attribute) {
    struct gs_python *py = &gs_python;
    void *key = py->string(attribute);
    void *value = key ? py->generic_getattr(object, key) : NULL;
    if (key)
        py->decref(key);
    return value;
}

static bool read_name(void *thread, char *out, size_t size) {
    struct gs_python *py = &gs_python;
    void *name = attribute_of(thread, "_name");
    ptrdiff_t length = 0;
    const char *text = name ? py->utf8(name, &length) : NULL;
    bool found = text && length > 0;
    if (found) {
        size_t n = (size_t)length < size - 1 ? (size_t)length : size - 1;
        memcpy(out, text, n);
        out[n] = 0;
    }
    if (name)
        py->decref(name);
    py->err_clear();
    return found;
}

/* An exact dictionary that stands in another under this name; borrowed, or NULL. */
static void *inner_dictionary(void *outer, const char *name) {
    struct gs_python *py = &gs_python;
    struct object *found = outer ? py->dict_get_item_string(outer, name) : NULL;
    return found && found->type == py->dict_type ? found : NULL;
}

/* What the threading module has, if that was imported: borrowed, or NULL. Not by
 * PyImport_GetModule: that would wait for an import that is under way. */
static void *threading_module(void) {
    struct gs_python *py = &gs_python;
    struct object *modules = py->sys_get_object("modules");
    void *module = modules && modules->type == py->dict_type
                       ? py->dict_get_item_string(modules, "threading")
                       : NULL;
    return module ? py->module_get_dict(module) : NULL;
}

/* A dictionary of the threading module. Returns a reference or NULL. */
static void *threading_dictionary(const char *name) {
    struct gs_python *py = &gs_python;
    void *found = inner_dictionary(threading_module(), name);
    if (found)
        py->incref(found);
    py->err_clear();
    return found;
}

/* Whether `threads`, a dictionary, has this very object among its values. */
static bool has_value(void *threads, const void *object) {
    ptrdiff_t position = 0;
    void *key, *value;
    while (gs_python.dict_next(threads, &position, &key, &value))
        if (value == object)
            return true;
    return false;
}

/* Debuggers hand to CPython an object that keeps the thread's bound method in an attribute. The
 * thread must be one that is being started: such an object may know others, too. */
static bool read_wrapped(void *wrapper, char *out, size_t size) {
    struct gs_python *py = &gs_python;
    void *limbo = threading_dictionary("_limbo");
    if (!limbo)
        return false;
    bool found = false;
    struct object *attributes = py->dict_size(limbo) ? attribute_of(wrapper, "__dict__") : NULL;
    if (attributes && attributes->type == py->dict_type) {
        ptrdiff_t position = 0;
        void *key, *value;
        while (!found && py->dict_next(attributes, &position, &key, &value)) {
            if (((struct object *)value)->type != py->method_type)
                continue;
            void *thread = py->method_self(value);
            found = has_value(limbo, thread) && read_name(thread, out, size);
        }
    }
    if (attributes)
        py->decref(attributes);
    py->decref(limbo);
    py->err_clear();
    return found;
}

bool gs_python_thread_name(void *argument, char *out, size_t size) {
    struct gs_python *py = &gs_python;
    struct callback *callback = argument;
    /* Threads that an extension starts through CPython's C API have any argument they like. */
    if (!can_read_names() || !callback->boot || !gs_python_owns((const void *)callback->function) ||
        !py->gil_state_check())
        return false;
    struct object *function = callback->boot[BOOT_FUNCTION];
    if (!function || (uintptr_t)function % sizeof(void *))
        return false;
    if (function->type == py->method_type)
        return read_name(py->method_self(function), out, size);
    return read_wrapped(function, out, size);
}

/* An RLock opens, up to 3.13, with the pointer to its semaphore; from 3.14 on with something else,
 * which is no semaphore's address. */
static void find_table_lock(void) {
    struct gs_python *py = &gs_python;
    struct rlock {
        struct object object;
        const void *semaphore;
    } *lock = NULL;
    void *module = threading_module(), *type = NULL;
    if (module) {
        lock = py->dict_get_item_string(module, "_active_limbo_lock");
        type = py->dict_get_item_string(module, "_CRLock");
    }
    gs_table_lock = lock && lock->object.type == type ? lock->semaphore : NULL;
    py->err_clear();
}

/* "Dummy-1" says less than what the kernel calls a thread that Python did not start. */
static bool read_own_name(void *thread, char *out, size_t size) {
    return read_name(thread, out, size) && strncmp(out, "Dummy-", 6) != 0;
}

bool gs_python_own_name(char *out, size_t size) {
    struct gs_python *py = &gs_python;
    void *active =
        can_read_names() && py->gil_state_check() ? threading_dictionary("_active") : NULL;
    if (!active)
        return false;
    bool found = false;
    ptrdiff_t position = 0;
    void *key, *thread;
    while (py->dict_next(active, &position, &key, &thread))
        if (py->long_as_unsigned_long(key) == (unsigned long)pthread_self()) {
            py->incref(thread);
            found = read_own_name(thread, out, size);
            py->decref(thread);
            break;
        }
    py->err_clear();
    py->decref(active);
    return found;
}

void gs_python_each_name(void (*tell)(uint32_t tid, const char *name)) {
    struct gs_python *py = &gs_python;
    if (!can_read_names() || !py->gil_state_check())
        return;
    find_table_lock();
    void *active = threading_dictionary("_active");
    if (!active)
        return;
    ptrdiff_t position = 0;
    void *key, *thread;
    while (py->dict_next(active, &position, &key, &thread)) {
        char name[256];
        py->incref(thread); /* whatever happens to the dictionary */
        void *native = attribute_of(thread, "_native_id");
        unsigned long tid = native ? py->long_as_unsigned_long(native) : 0;
        if (tid && tid <= UINT32_MAX && read_own_name(thread, name, sizeof name))
            tell((uint32_t)tid, name);
        if (native)
            py->decref(native);
        py->err_clear();
        py->decref(thread);
    }
    py->decref(active);
}

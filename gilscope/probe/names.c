#define _GNU_SOURCE
#include "names.h"

#include <pthread.h>
#include <string.h>
#include <time.h>

#include "emit.h"
#include "memory.h"
#include "python.h"
#include "threads.h"

#define REFRESH_SHARE 50  /* of the time, one part at most is spent on looking for names */
#define AT_ONCE       256 /* threads that one look is for */
#define STARTING_MOST 64  /* that are looked through for the one that starts */

struct object { /* of a build with a GIL */
    intptr_t references;
    void *type;
};

/* What CPython gives to pthread_create (pythread_callback), the same from 3.9 to 3.15 … */
struct callback {
    void (*function)(void *);
    void **boot; /* … and the beginning of its argument for threads of the _thread module: */
};
enum { BOOT_FUNCTION = 1, BOOT_WORDS }; /* {interpreter or thread state, the callable, …} */

const void *gs_table_lock;

/* What the _thread module's threads run in CPython, learned from the first Thread that was seen to
 * start. Whoever else starts a thread by PyThread_start_new_thread, even in an executable that has
 * CPython within, runs another function, and its argument is its own. */
static void (*runs_callable)(void *);

static uint32_t refreshing;
static int64_t next_refresh_ns;

/* Where the next look goes on. */
static struct {
    const void *table;
    ptrdiff_t position;
} look;

/* ---- reading objects --------------------------------------------------------------------------
 */

static bool can_read_names(void) {
    const struct gs_python *py = &gs_python;
    return py->end && py->utf8 && py->dict_of && py->method_self && py->method_type &&
           py->sys_get_object && py->module_get_dict && py->dict_get_item &&
           py->dict_get_item_string && py->dict_next && py->long_from_unsigned_long &&
           py->long_as_unsigned_long && py->dict_type && py->string_type && py->long_type &&
           py->decref && py->err_clear && py->gil_state_check && !py->free_threaded &&
           py->gil_state_check();
}

static bool is_a(const void *object, const void *type) {
    return object && ((const struct object *)object)->type == type;
}

/* Up to 3.11 whatever makes a dictionary may collect garbage, and run finalizers. Returns whether
 * there is something to allow again. */
static bool forbid_collecting(void) {
    return gs_python.gc_disable && gs_python.gc_enable && gs_python.gc_disable();
}

static void allow_collecting(bool forbidden) {
    if (forbidden)
        gs_python.gc_enable();
    gs_python.err_clear();
}

/* An object's own dictionary, or NULL. */
static void *dictionary_of(void *object) {
    void **place = gs_python.dict_of(object);
    return place && is_a(*place, gs_python.dict_type) ? *place : NULL;
}

static bool is_key(void *key, const char *name, size_t length) {
    ptrdiff_t size = 0;
    const char *text = is_a(key, gs_python.string_type) ? gs_python.utf8(key, &size) : NULL;
    return text && (size_t)size == length && memcmp(text, name, length) == 0;
}

struct thread_says {
    void *name, *native_id; /* borrowed; NULL: it has none */
};

static struct thread_says what_thread_says(void *thread) {
    struct thread_says says = {NULL, NULL};
    void *own = dictionary_of(thread), *key, *value;
    for (ptrdiff_t at = 0; own && gs_python.dict_next(own, &at, &key, &value);) {
        if (is_a(value, gs_python.string_type) && is_key(key, "_name", 5))
            says.name = value;
        else if (is_a(value, gs_python.long_type) && is_key(key, "_native_id", 10))
            says.native_id = value;
        if (says.name && says.native_id)
            break;
    }
    return says;
}

static bool copy_text(void *string, char *out, size_t size) {
    ptrdiff_t length = 0;
    const char *text = string ? gs_python.utf8(string, &length) : NULL;
    if (!text || length <= 0)
        return false;
    gs_copy_name(out, size, text);
    return true;
}

static bool read_name(void *thread, char *out, size_t size) {
    return copy_text(what_thread_says(thread).name, out, size);
}

/* "Dummy-1" says less than what the kernel calls a thread that Python did not start. */
static bool is_dummy(const char *name) {
    return strncmp(name, "Dummy-", 6) == 0;
}

/* ---- threading's tables -----------------------------------------------------------------------
 */

/* What the threading module has, if that was imported: borrowed, or NULL. Not by
 * PyImport_GetModule: that would wait for an import that is under way. */
static void *threading_module(void) {
    void *modules = gs_python.sys_get_object("modules");
    void *module = is_a(modules, gs_python.dict_type)
                       ? gs_python.dict_get_item_string(modules, "threading")
                       : NULL;
    return module ? gs_python.module_get_dict(module) : NULL;
}

/* A dictionary of the threading module; borrowed, or NULL. */
static void *threading_dictionary(const char *name) {
    void *module = threading_module();
    void *found = module ? gs_python.dict_get_item_string(module, name) : NULL;
    return is_a(found, gs_python.dict_type) ? found : NULL;
}

static bool is_starting(const void *thread) {
    void *limbo = threading_dictionary("_limbo"), *key, *value;
    ptrdiff_t at = 0;
    for (unsigned i = 0; limbo && i < STARTING_MOST; i++) {
        if (!gs_python.dict_next(limbo, &at, &key, &value))
            break;
        if (value == thread)
            return true;
    }
    return false;
}

/* An RLock opens, up to 3.13, with the pointer to its semaphore; from 3.14 on with something else,
 * which is no semaphore's address. */
static void find_table_lock(void *module) {
    struct rlock {
        struct object object;
        const void *semaphore;
    } *lock = NULL;
    void *type = NULL;
    if (module) {
        lock = gs_python.dict_get_item_string(module, "_active_limbo_lock");
        type = gs_python.dict_get_item_string(module, "_CRLock");
    }
    gs_table_lock = type && is_a(lock, type) ? lock->semaphore : NULL;
}

/* ---- a new thread's ---------------------------------------------------------------------------
 */

static bool read_callback(const void *argument, struct callback *out) {
    return argument && gs_copy_safely(argument, out, sizeof *out) && out->function && out->boot &&
           (runs_callable ? out->function == runs_callable
                          : gs_python_owns((const void *)out->function));
}

/* What CPython is to call in the new thread; NULL where there is no object. */
static void *callable_of(const struct callback *callback) {
    void *boot[BOOT_WORDS];
    struct object callable;
    if (!gs_copy_safely(callback->boot, boot, sizeof boot))
        return NULL;
    void *object = boot[BOOT_FUNCTION];
    bool is_object = object && (uintptr_t)object % sizeof(void *) == 0 &&
                     gs_copy_safely(object, &callable, sizeof callable) && callable.references &&
                     gs_readable(callable.type, sizeof(struct object));
    return is_object ? object : NULL;
}

/* Debuggers hand to CPython an object that keeps the thread's bound method in an attribute. The
 * thread must be one that is being started: such an object may know others, too. */
static void *wrapped_thread(void *wrapper) {
    void *own = dictionary_of(wrapper), *key, *value;
    for (ptrdiff_t at = 0; own && gs_python.dict_next(own, &at, &key, &value);) {
        void *thread = is_a(value, gs_python.method_type) ? gs_python.method_self(value) : NULL;
        if (thread && is_starting(thread))
            return thread;
    }
    return NULL;
}

/* Until CPython's function is known, an object is believed only where it is a method of a Thread
 * that is being started: of one that is no object nothing is followed. */
static void *thread_of(const struct callback *callback) {
    void *callable = callable_of(callback);
    bool is_method = is_a(callable, gs_python.method_type);
    if (is_method && !runs_callable && is_starting(gs_python.method_self(callable)))
        runs_callable = callback->function;
    if (!callable || !runs_callable)
        return NULL;
    return is_method ? gs_python.method_self(callable) : wrapped_thread(callable);
}

bool gs_name_new_thread(const void *argument, char *out, size_t size) {
    struct callback callback;
    if (!can_read_names() || !read_callback(argument, &callback))
        return false;
    bool forbidden = forbid_collecting();
    void *thread = thread_of(&callback);
    bool found = thread && read_name(thread, out, size);
    allow_collecting(forbidden);
    return found;
}

/* ---- names that change ------------------------------------------------------------------------
 */

/* Only one thread at a time is in here. One that ends may be in the lists: the next look comes. */
static void rename_thread(uint32_t tid, const char *name) {
    if (!gs_enter_lists())
        return;
    struct gs_thread_page *page = gs_page_of_thread(tid);
    if (page && strncmp(page->name, name, sizeof page->name - 1) != 0) {
        gs_copy_name(page->name, sizeof page->name, name);
        page->from_python = 1;
    }
    gs_leave_lists();
}

static void refresh_some(void) {
    void *module = threading_module(), *key, *thread;
    find_table_lock(module);
    void *active = module ? gs_python.dict_get_item_string(module, "_active") : NULL;
    if (!is_a(active, gs_python.dict_type))
        return;
    if (active != look.table)
        look.position = 0;
    look.table = active;
    for (unsigned i = 0; i < AT_ONCE; i++) {
        if (!gs_python.dict_next(active, &look.position, &key, &thread)) {
            look.position = 0;
            break;
        }
        struct thread_says says = what_thread_says(thread);
        unsigned long tid = says.native_id ? gs_python.long_as_unsigned_long(says.native_id) : 0;
        char name[GS_NAME_BYTES];
        if (tid && tid <= UINT32_MAX && copy_text(says.name, name, sizeof name) && !is_dummy(name))
            rename_thread((uint32_t)tid, name);
    }
}

static int64_t now_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

void gs_refresh_names(void) {
    if (__atomic_exchange_n(&refreshing, 1, __ATOMIC_ACQUIRE))
        return; /* a thread under another GIL is at it */
    int64_t now = now_ns(CLOCK_MONOTONIC);
    if (now >= __atomic_load_n(&next_refresh_ns, __ATOMIC_RELAXED) && can_read_names()) {
        int64_t begin = now_ns(CLOCK_THREAD_CPUTIME_ID);
        bool forbidden = forbid_collecting();
        refresh_some();
        allow_collecting(forbidden);
        int64_t cost = now_ns(CLOCK_THREAD_CPUTIME_ID) - begin;
        __atomic_store_n(&next_refresh_ns, now + REFRESH_SHARE * cost, __ATOMIC_RELAXED);
    }
    __atomic_store_n(&refreshing, 0, __ATOMIC_RELEASE);
}

void gs_read_all_names(void) {
    if (__atomic_exchange_n(&refreshing, 1, __ATOMIC_ACQUIRE))
        return;
    if (can_read_names()) {
        bool forbidden = forbid_collecting();
        look.position = 0;
        do
            refresh_some();
        while (look.position);
        allow_collecting(forbidden);
    }
    __atomic_store_n(&refreshing, 0, __ATOMIC_RELEASE);
}

void gs_thread_named(uint32_t tid, const char *name) {
    if (__atomic_exchange_n(&refreshing, 1, __ATOMIC_ACQUIRE)) {
        __atomic_store_n(&next_refresh_ns, 0, __ATOMIC_RELAXED); /* the next look finds it */
        return;
    }
    rename_thread(tid, name);
    __atomic_store_n(&refreshing, 0, __ATOMIC_RELEASE);
}

/* Threading's table has each thread under the number that pthread_self gives it. */
static bool read_own_name(char *out, size_t size) {
    void *active = threading_dictionary("_active");
    void *key = active ? gs_python.long_from_unsigned_long((unsigned long)pthread_self()) : NULL;
    void *thread = key ? gs_python.dict_get_item(active, key) : NULL;
    bool found = thread && read_name(thread, out, size) && !is_dummy(out);
    if (key)
        gs_python.decref(key);
    return found;
}

void gs_refresh_own_name(void) {
    struct gs_thread_page *page = gs_writer.page;
    char name[GS_NAME_BYTES];
    if (!page || !gs_counting() || !can_read_names())
        return;
    bool forbidden = forbid_collecting();
    bool found = read_own_name(name, sizeof name);
    allow_collecting(forbidden);
    if (!found || strcmp(page->name, name) == 0)
        return;
    gs_copy_name(page->name, sizeof page->name, name);
    page->from_python = 1;
}

void gs_thread_names_itself(const char *name, bool by_python) {
    struct gs_thread_page *page = gs_writer.page;
    if (!page || !gs_counting())
        return;
    if (by_python) {
        if (strncmp(page->name, name, strlen(name)) != 0)
            gs_refresh_own_name();
    } else if (!page->from_python && !page->is_main) {
        gs_copy_name(page->name, sizeof page->name, name);
    }
}

void gs_names_after_fork(void) {
    refreshing = 0; /* by a thread of the parent, perhaps */
    next_refresh_ns = 0;
    look.table = NULL;
}

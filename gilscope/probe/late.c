#define _GNU_SOURCE
#include "late.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "find_gil.h"
#include "modules.h"
#include "names.h"
#include "policy.h"
#include "process.h"
#include "python.h"
#include "schedule.h"
#include "switches.h"
#include "waits.h"
#include "watched.h"
#include "wrapped.h"

struct gs_late gilscope_late = {.version = GS_LATE_VERSION, .epoch = &gs_process.epoch};

extern uint32_t gilscope_abi_version(void); /* _probe.c */

/* A library that was opened late has its names for itself; one that was preloaded, for everybody.
 */
__attribute__((constructor(101))) static void find_out(void) {
    void *everybody = dlopen(NULL, RTLD_LAZY); /* RTLD_DEFAULT would look here, too */
    if (!everybody || dlsym(everybody, "gilscope_abi_version") == (void *)gilscope_abi_version)
        gilscope_late.state = GS_LATE_PRELOADED;
}

/* ---- slots --------------------------------------------------------------------------------------
 */

/* The first ones are wanted beside an interpreter's own probe, too. */
static const struct gs_wrapped *const tables[] = {
    gs_wrapped_exec,  gs_wrapped_limits, gs_wrapped_exit,    gs_wrapped_loading,
    gs_wrapped_locks, gs_wrapped_sleeps, gs_wrapped_threads,
};
enum { TABLES = sizeof tables / sizeof *tables, TABLES_BESIDE = 4 };

/* The interpreter's own probe, by which it is recorded; NULL: it has none. */
static const struct gs_api *built_in;

/* Slots that are found, in the order in which they are written. */
struct found {
    unsigned n;
    bool all; /* there was room for all */
    const struct gs_wrapped *wrapped;
    struct {
        struct gs_late_slot slot;
        uintptr_t page; /* that has to be made writable; 0: it is */
        void **real;
    } slots[GS_LATE_SLOTS];
};

static void note(const struct gs_module *module, const char *name, void **at, void *box) {
    struct found *found = box;
    const struct gs_wrapped *its = found->wrapped;
    while (its->name && strcmp(its->name, name) != 0)
        its++;
    if (!its->name)
        return;
    if (found->n == GS_LATE_SLOTS) {
        found->all = false;
        return;
    }
    uintptr_t page_bytes = (uintptr_t)sysconf(_SC_PAGESIZE), where = (uintptr_t)at;
    uintptr_t original = (uintptr_t)*at;
    bool bound = original && (original < module->start || original >= module->end);
    bool protected = where >= module->relro && where < module->relro_end;
    found->slots[found->n].slot = (struct gs_late_slot){at, *at, its->wrapper};
    found->slots[found->n].page = protected ? where & ~(page_bytes - 1) : 0;
    found->slots[found->n].real = bound ? its->real : NULL;
    found->n++;
}

/* CPython's modules that call what exec.c and limits.c wrap. */
static bool starts_programs(const char *path) {
    const char *name = strrchr(path, '/');
    name = name ? name + 1 : path;
    return strncmp(name, "_posixsubprocess.", 17) == 0 || strncmp(name, "resource.", 9) == 0;
}

static bool is_pythons(const struct gs_module *module) {
    return (gs_python.start >= module->start && gs_python.start < module->end) ||
           starts_programs(module->path);
}

static bool find_in(const struct gs_module *module, void *box) {
    if (is_pythons(module))
        gs_module_imports(module, note, box);
    return true;
}

static bool has(const struct found *found, const char *name) {
    for (const struct gs_wrapped *its = gs_wrapped_threads; its->name; its++)
        for (unsigned i = 0; i < found->n; i++)
            if (strcmp(its->name, name) == 0 && found->slots[i].slot.wrapper == its->wrapper)
                return true;
    return false;
}

static void find_all(struct found *found) {
    found->n = 0;
    found->all = true;
    for (unsigned t = 0; t < (built_in ? TABLES_BESIDE : TABLES); t++) {
        found->wrapped = tables[t];
        gs_modules_each(find_in, found);
    }
}

static bool find_slots(struct found *found) {
    find_all(found);
    if (built_in)
        return found->all;
    return found->all && has(found, "pthread_cond_signal") &&
           has(found, "pthread_cond_timedwait") && has(found, "pthread_cond_wait") &&
           has(found, "pthread_cond_init");
}

static bool write_slot(void **at, void *value, uintptr_t page) {
    size_t bytes = (size_t)sysconf(_SC_PAGESIZE);
    if (page && mprotect((void *)page, bytes, PROT_READ | PROT_WRITE) != 0)
        return false;
    __atomic_store_n(at, value, __ATOMIC_RELEASE);
    if (page)
        mprotect((void *)page, bytes, PROT_READ);
    return true;
}

/* Where a slot was made read-only by the loader; kept beside gilscope_late.slots. */
static uintptr_t pages[GS_LATE_SLOTS];

/* From the last one back, so that nothing is half wrapped that the later ones need whole. */
static void restore_slots(void) {
    for (unsigned i = gilscope_late.n_slots; i-- > 0;) {
        const struct gs_late_slot *slot = &gilscope_late.slots[i];
        /* Not where somebody else came after us. */
        if (__atomic_load_n(slot->at, __ATOMIC_RELAXED) == slot->wrapper)
            write_slot(slot->at, slot->original, pages[i]);
    }
}

/* One more. It is noted first, so that whoever takes them out, from outside too, knows of it. */
static bool add_slot(const struct found *found, unsigned i) {
    unsigned n = gilscope_late.n_slots;
    if (n == GS_LATE_SLOTS)
        return false;
    if (found->slots[i].real)
        __atomic_store_n(found->slots[i].real, found->slots[i].slot.original, __ATOMIC_RELEASE);
    gilscope_late.slots[n] = found->slots[i].slot;
    pages[n] = found->slots[i].page;
    __atomic_store_n(&gilscope_late.n_slots, n + 1, __ATOMIC_SEQ_CST);
    return write_slot(found->slots[i].slot.at, found->slots[i].slot.wrapper, pages[n]);
}

static bool write_slots(const struct found *found) {
    gilscope_late.n_slots = 0;
    for (unsigned i = 0; i < found->n; i++)
        if (!add_slot(found, i)) {
            restore_slots();
            return false;
        }
    return true;
}

/* ---- modules that are loaded later --------------------------------------------------------------
 */

static void *(*real_dlopen)(const char *path, int flags);

static bool is_written(void **at) {
    for (unsigned i = 0; i < gilscope_late.n_slots; i++)
        if (gilscope_late.slots[i].at == at)
            return true;
    return false;
}

/* The caller imports a module, with a GIL held; another interpreter may have its own. */
static void wrap_what_is_new(void) {
    static struct found found;
    static bool busy;
    if (__atomic_exchange_n(&busy, true, __ATOMIC_ACQUIRE))
        return;
    find_all(&found);
    for (unsigned i = 0; i < found.n; i++)
        if (!is_written(found.slots[i].slot.at) && !add_slot(&found, i))
            break;
    /* From outside all may have been taken out meanwhile, but for these (process.py). */
    bool over = gilscope_late.records && !__atomic_load_n(gilscope_late.alive, __ATOMIC_SEQ_CST);
    if (over || !gs_late_is_in())
        restore_slots();
    __atomic_store_n(&busy, false, __ATOMIC_RELEASE);
}

__attribute__((noinline)) static void *open_and_wrap(const char *path, int flags) {
    void *library = real_dlopen(path, flags);
    int saved_errno = errno;
    if (library && gs_late_is_in())
        wrap_what_is_new();
    errno = saved_errno;
    return library;
}

/* What is no business of ours is opened by a jump, in the name of who called: the loader looks for
 * the library's own libraries where that one has its. */
static void *open_library(const char *path, int flags) {
    return path && starts_programs(path) ? open_and_wrap(path, flags) : real_dlopen(path, flags);
}

const struct gs_wrapped gs_wrapped_loading[] = {
    {"dlopen", (void *)open_library, (void **)&real_dlopen},
    {NULL, NULL, NULL},
};

/* ---- in -----------------------------------------------------------------------------------------
 */

static void begin_epoch(void) {
    __atomic_add_fetch(&gs_process.epoch, 1, __ATOMIC_SEQ_CST);
}

/* The caller holds this GIL. Who waits for it inside the C library comes back through a wrapper. */
static bool adopt(struct gs_gil_memory *memory) {
    pthread_mutex_lock(&memory->mutex);
    struct gs_watched *its = gs_watch_in_use(memory);
    if (its) {
        gs_on_acquire(&its->gil);
        if (its->scheduled)
            gs_schedule_acquired(gs_watched_slot(its));
        pthread_cond_broadcast(&memory->cond);
    }
    pthread_mutex_unlock(&memory->mutex);
    return its;
}

static char texts[GS_LATE_VARIABLES][GS_LATE_TEXT];
static const char *variables[GS_LATE_VARIABLES + 1];

static bool note_variables(const struct gs_late_request *request) {
    const struct {
        const char *name, *value;
    } all[GS_LATE_VARIABLES] = {{GS_RINGS_VARIABLE, request->rings},
                                {GS_STACKS_VARIABLE, request->stacks},
                                {"GILSCOPE_POLICY", request->policy},
                                {"GILSCOPE_GRACE_US", request->grace}};
    unsigned n = 0;
    for (unsigned i = 0; i < GS_LATE_VARIABLES; i++) {
        if (!*all[i].value)
            continue;
        if (strlen(all[i].name) + strlen(all[i].value) + 2 > GS_LATE_TEXT)
            return false;
        stpcpy(stpcpy(stpcpy(texts[n], all[i].name), "="), all[i].value);
        variables[n] = texts[n];
        n++;
    }
    variables[n] = NULL;
    return true;
}

/* The recording may be over by the time that a fork's child becomes a process of it. */
static void after_begin_in_child(void) {
    const struct gs_process *here = gs_process_here();
    const struct gs_file_header *header = here->ring.header;
    if (gs_late_is_in() && gilscope_late.records &&
        (!here->page || __atomic_load_n(&header->stop, __ATOMIC_SEQ_CST) == GS_STOP_ALL))
        gilscope_late_end(NULL);
}

static int open_here(const struct gs_late_request *request, struct gs_gil_memory *memory) {
    if (!note_variables(request))
        return ENAMETOOLONG;
    if (built_in)
        return built_in->begin_late(request->rings, request->stacks, memory, after_begin_in_child);
    int error = gs_process_begin_late(request->rings, request->stacks);
    if (!error)
        gs_process_describe("interposed", GS_GIL_FOUND | GS_LOCKS_TOLD | GS_BEGUN_LATE);
    return error;
}

static enum gs_late_error open_rings(const struct gs_late_request *request,
                                     struct gs_gil_memory *memory) {
    int error = gilscope_late.number = open_here(request, memory);
    if (error)
        return error == EEXIST ? GS_LATE_IS_IN : GS_LATE_NO_RINGS;
    gilscope_late.alive = gs_process_here()->alive;
    gilscope_late.records = 1;
    return GS_LATE_FINE;
}

static bool choose_policy(const struct gs_late_request *request) {
    if (!*request->policy)
        return true;
    if (!gs_policy_choose(request->policy, request->grace))
        return false;
    gs_schedule_start();
    gilscope_late.schedules = 1;
    return true;
}

static enum gs_late_error inspect(const struct gs_late_request *request) {
    if (!gs_python_begins(request->python))
        return GS_LATE_NO_PYTHON;
    if (gs_python.free_threaded)
        return GS_LATE_FREE_THREADED;
    if (!gs_interpreter_probe(&built_in))
        return GS_LATE_BUILT_IN;
    return built_in && *request->policy ? GS_LATE_OWN_POLICY : GS_LATE_FINE;
}

static enum gs_late_error come_in_beside(const struct gs_late_request *request,
                                         struct gs_gil_memory *memory, const struct found *found) {
    enum gs_late_error error = *request->rings ? open_rings(request, memory) : GS_LATE_FINE;
    return error || write_slots(found) ? error : GS_LATE_NO_SLOTS;
}

static enum gs_late_error come_in_between(const struct gs_late_request *request,
                                          struct gs_gil_memory *memory, const struct found *found) {
    enum gs_late_error error = GS_LATE_FINE;
    gs_waits_forget();
    gs_watched_begin_anew();
    begin_epoch();
    if (gs_process.page) /* of a recording that is over, in memory of nobody's */
        gs_process.page->n_gils = 0;
    if (*request->rings && (error = open_rings(request, memory)))
        return error;
    if (!choose_policy(request))
        error = GS_LATE_WRONG_POLICY;
    gs_feed_begins();
    if (!error && !write_slots(found))
        error = GS_LATE_NO_SLOTS;
    if (!error && !adopt(memory))
        error = GS_LATE_NO_GIL;
    if (!error)
        gs_process_interval_is(&memory->interval);
    return error;
}

/* All that can fail, but for memory, comes before anything is changed. */
static enum gs_late_error come_in(const struct gs_late_request *request) {
    static struct found found;
    enum gs_late_error error = inspect(request);
    if (error)
        return error;
    struct gs_gil_memory *memory = gs_find_gil_in_use();
    if (!memory)
        return GS_LATE_NO_GIL;
    if (!find_slots(&found))
        return GS_LATE_NO_SLOTS;
    gs_gave_way_to = built_in;
    gilscope_late.epoch = &gs_process_here()->epoch;
    return built_in ? come_in_beside(request, memory, &found)
                    : come_in_between(request, memory, &found);
}

static void go_out(void);

static enum gs_late_error begin(const struct gs_late_request *request) {
    struct gs_late *late = &gilscope_late;
    uint32_t state = __atomic_load_n(&late->state, __ATOMIC_ACQUIRE);
    if (state == GS_LATE_PRELOADED)
        return GS_LATE_IS_PRELOADED;
    if (state == GS_LATE_BUSY || state == GS_LATE_IN ||
        !__atomic_compare_exchange_n(&late->state, &state, GS_LATE_BUSY, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_RELAXED))
        return GS_LATE_IS_IN;
    enum gs_late_error error = come_in(request);
    if (error) {
        go_out();
        __atomic_store_n(&late->state, state, __ATOMIC_RELEASE);
    } else {
        __atomic_store_n(&late->state, GS_LATE_IN, __ATOMIC_RELEASE);
    }
    return error;
}

int gilscope_late_begin(const struct gs_late_request *request) {
    int saved_errno = errno;
    gilscope_late.error = begin(request);
    errno = saved_errno;
    return (int)gilscope_late.error;
}

struct gs_watched *gs_late_adopt(void *switch_cond, const void *caller) {
    if (!gs_python_owns(caller))
        return NULL;
    int saved_errno = errno;
    struct gs_gil_memory *memory = gs_find_gil_taken(switch_cond, caller);
    struct gs_watched *its = memory ? gs_watch_in_use(memory) : NULL;
    if (its)
        pthread_cond_broadcast(&memory->cond);
    errno = saved_errno;
    return its;
}

/* ---- out ----------------------------------------------------------------------------------------
 */

/* Who waits in a queue of ours goes back to CPython's own condition variable. */
static void end_scheduling(void) {
    for (unsigned i = 0; gilscope_late.schedules && i < gs_n_watched; i++)
        if (gs_watched_is_proved(&gs_watched[i]) && gs_watched[i].scheduled)
            gs_schedule_end(i);
    if (gilscope_late.schedules)
        gs_policy = GS_CLASSIC;
    gilscope_late.schedules = 0;
}

static void go_out_from_between(void) {
    gs_process_end_late();
    begin_epoch();
    restore_slots();
    end_scheduling();
    gs_watched_begin_anew();
    if (gilscope_late.records)
        gs_process_leave_rings();
}

static void go_out(void) {
    if (!built_in) {
        go_out_from_between();
    } else {
        restore_slots();
        if (gilscope_late.records)
            built_in->end_late();
    }
    gilscope_late.records = 0;
}

int gilscope_late_end(const struct gs_late_request *unused) {
    (void)unused;
    uint32_t state = __atomic_load_n(&gilscope_late.state, __ATOMIC_ACQUIRE);
    if ((state != GS_LATE_IN && state != GS_LATE_OUT) ||
        !__atomic_compare_exchange_n(&gilscope_late.state, &state, GS_LATE_BUSY, false,
                                     __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
        return 0;
    int saved_errno = errno;
    go_out();
    errno = saved_errno;
    __atomic_store_n(&gilscope_late.state, GS_LATE_OUT, __ATOMIC_RELEASE);
    return 0;
}

void gilscope_late_names(void) {
    int saved_errno = errno;
    if (gs_late_is_in() && built_in)
        built_in->read_names();
    else if (gs_late_is_in() && gs_recording())
        gs_read_all_names();
    errno = saved_errno;
}

int gilscope_late_change(const struct gs_late_request *request) {
    gilscope_late_end(NULL);
    return gilscope_late_begin(request);
}

const char *const *gs_late_variables(void) {
    return gs_late_is_in() && gilscope_late.records ? variables : NULL;
}

__attribute__((constructor)) static void load(void) {
    real_dlopen = dlopen;
    gs_after_begin_in_child = after_begin_in_child;
}

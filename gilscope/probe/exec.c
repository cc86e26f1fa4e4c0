/* What a traced program starts: hides the probe where it cannot be loaded, and counts the children
 * that go unrecorded because they cannot find the recording.
 *
 * The loader says on stderr when it cannot preload a library: for a 32-bit program, or inside a
 * chroot where the library is not. A program must not print more because it is recorded, so the
 * library's name is taken out of such a child's LD_PRELOAD.
 *
 * These wrappers run in vfork's children too, and on stacks of any size: they ask neither the
 * loader nor the allocator, and put nothing large on the stack. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "api.h"
#include "gil_condvar.h"
#include "late.h"
#include "process.h"
#include "slice.h"
#include "wrapped.h"

#define INTERPOSE __attribute__((visibility("default")))
#define PRELOAD   "LD_PRELOAD="
#define RINGS     GS_RINGS_VARIABLE "="

extern char **environ;

#if defined(__x86_64__)
#define OUR_MACHINE EM_X86_64
#elif defined(__aarch64__)
#define OUR_MACHINE EM_AARCH64
#endif

static char own[512]; /* the probe's path; "": too long to be known */

/* From a constructor. */
static void learn_own_path(void) {
    Dl_info info;
    if (dladdr((const void *)learn_own_path, &info) && strlen(info.dli_fname) < sizeof own)
        strcpy(own, info.dli_fname);
}

/* The first bytes of a program; follows one `#!` line. Returns their number. */
static ssize_t read_head(const char *path, char *head, size_t size, bool follow) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t n = read(fd, head, size - 1);
    close(fd);
    if (n < 2 || head[0] != '#' || head[1] != '!' || !follow)
        return n;
    head[n] = 0;
    char *interpreter = head + 2 + strspn(head + 2, " \t");
    interpreter[strcspn(interpreter, " \t\n")] = 0;
    char copy[256];
    if (strlen(interpreter) >= sizeof copy)
        return -1;
    return read_head(strcpy(copy, interpreter), head, size, false);
}

/* Whether the loader will find that the probe is not for this program. */
static bool cannot_load(const char *program) {
    if (access(own, R_OK) != 0)
        return true;
    char head[512];
    if (!program || !strchr(program, '/') ||
        read_head(program, head, sizeof head, true) < (ssize_t)sizeof(Elf32_Ehdr))
        return false;
    Elf32_Ehdr elf; /* up to e_machine the same as the 64-bit one */
    memcpy(&elf, head, sizeof elf);
    return memcmp(elf.e_ident, ELFMAG, SELFMAG) == 0 &&
           (elf.e_ident[EI_CLASS] != ELFCLASS64 || elf.e_machine != OUR_MACHINE);
}

/* `entry` without the probe's path in its list; `out` is as long as `entry`. */
static void strip(const char *entry, char *out) {
    size_t own_length = strlen(own);
    char *to = stpcpy(out, PRELOAD);
    bool first = true;
    for (const char *at = entry + strlen(PRELOAD); *at;) {
        size_t n = strcspn(at, ": ");
        if (n && !(n == own_length && memcmp(at, own, n) == 0)) {
            if (!first)
                *to++ = ':';
            to = mempcpy(to, at, n);
            first = false;
        }
        at += n + (at[n] != 0);
    }
    *to = 0;
}

struct child_environment {
    char *const *variables;
    size_t count;
    const char *preload; /* the LD_PRELOAD entry, or NULL */
    const char *rings;   /* the path of the recording that it names, or NULL */
};

static struct child_environment inspect(char *const *variables) {
    struct child_environment child = {.variables = variables};
    for (; variables && variables[child.count]; child.count++) {
        const char *entry = variables[child.count];
        if (strncmp(entry, PRELOAD, strlen(PRELOAD)) == 0)
            child.preload = entry;
        else if (strncmp(entry, RINGS, strlen(RINGS)) == 0)
            child.rings = entry + strlen(RINGS);
    }
    return child;
}

static bool recorded_here(void) {
    const struct gs_process *here = gs_process_here();
    return here->ring.header && here->ring.header->follow;
}

/* Whether the child will find the recording: it has the probe, is told where, and may open it there
 * (another user may not, and in a chroot there is none). */
static bool follows(const struct child_environment *child) {
    return child->rings && child->preload && strstr(child->preload, own) &&
           access(child->rings, R_OK | W_OK) == 0 && access(own, R_OK) == 0;
}

static void name_unfollowed(struct gs_file_header *header, const char *program) {
    const char *slash = strrchr(program, '/');
    if (!__atomic_exchange_n(&header->unfollowed_named, 1, __ATOMIC_RELAXED))
        strncpy(header->unfollowed_name, slash ? slash + 1 : program,
                sizeof header->unfollowed_name - 1);
}

/* A search through PATH tries many names: only what exists counts. */
static void count_unfollowed(const struct child_environment *child, const char *program) {
    struct gs_file_header *header = gs_process_here()->ring.header;
    if (!follows(child) && (!strchr(program, '/') || access(program, X_OK) == 0)) {
        name_unfollowed(header, program);
        __atomic_fetch_add(&header->unfollowed, 1, __ATOMIC_RELAXED);
    }
}

/* ---- a copy of the environment ----------------------------------------------------------------
 * As large as the program's, so it is no matter for the stack. A vfork's child cannot free what it
 * mapped, and its thread, whose memory it has, goes on: each thread keeps its copy for the next
 * time, up to its end. */

struct copy {
    size_t bytes; /* of the mapping */
    char *room[];
};

static pthread_key_t copies;
static bool copies_are_kept;

static void drop(void *copy) {
    munmap(copy, ((struct copy *)copy)->bytes);
}

/* Room for an environment and `text` bytes, or NULL. No lock, no allocation but a mapping. */
static struct copy *room_for(size_t variables, size_t text) {
    size_t bytes = sizeof(struct copy) + (variables + 1) * sizeof(char *) + text;
    struct copy *copy = copies_are_kept ? pthread_getspecific(copies) : NULL;
    if (copy && copy->bytes >= bytes)
        return copy;
    void *fresh = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fresh == MAP_FAILED)
        return NULL;
    if (copy)
        drop(copy);
    if (copies_are_kept)
        pthread_setspecific(copies, fresh);
    copy = fresh;
    copy->bytes = bytes;
    return copy;
}

/* The child's environment without us. */
static char *const *without_us(const struct child_environment *child) {
    struct copy *copy = room_for(child->count, strlen(child->preload) + 1);
    if (!copy)
        return child->variables; /* the loader will say that it cannot preload the probe */
    char *entry = (char *)(copy->room + child->count + 1);
    strip(child->preload, entry);
    size_t kept = 0;
    for (size_t i = 0; i < child->count; i++)
        if (child->variables[i] != child->preload)
            copy->room[kept++] = child->variables[i];
        else if (entry[strlen(PRELOAD)])
            copy->room[kept++] = entry;
    copy->room[kept] = NULL;
    return copy->room;
}

static bool is_of(const char *entry, const char *variable) {
    size_t name = (size_t)(strchr(variable, '=') - variable) + 1;
    return strncmp(entry, variable, name) == 0;
}

/* The same with us, for a child of a process in which the probe came late; its own environment
 * knows of nothing. */
static char *const *with_us(const struct child_environment *child, const char *const *variables) {
    const char *before = child->preload ? child->preload + strlen(PRELOAD) : "";
    struct copy *copy = room_for(child->count + 1 + GS_LATE_VARIABLES,
                                 strlen(PRELOAD) + strlen(own) + strlen(before) + 2);
    if (!copy)
        return child->variables; /* it counts as one that is not followed */
    char *entry = (char *)(copy->room + child->count + 2 + GS_LATE_VARIABLES);
    char *end = stpcpy(stpcpy(entry, PRELOAD), own);
    if (*before && !strstr(before, own))
        stpcpy(stpcpy(end, ":"), before);
    size_t kept = 0;
    for (size_t i = 0; i < child->count; i++) {
        bool ours = child->variables[i] == child->preload;
        for (const char *const *at = variables; *at; at++)
            ours |= is_of(child->variables[i], *at);
        if (!ours)
            copy->room[kept++] = child->variables[i];
    }
    copy->room[kept++] = entry;
    for (const char *const *at = variables; *at; at++)
        copy->room[kept++] = (char *)*at;
    copy->room[kept] = NULL;
    return copy->room;
}

/* The environment that the child shall have: `given`, or a copy with us or without. */
static char *const *child_environment(const char *program, char *const *given) {
    if (!recorded_here())
        return given;
    int saved_errno = errno;
    struct child_environment child = inspect(given);
    const char *const *variables = gs_late_variables();
    if (variables && *own && !strpbrk(own, " :") && !cannot_load(program)) {
        given = with_us(&child, variables);
        child = inspect(given);
    }
    count_unfollowed(&child, program);
    if (child.preload && strstr(child.preload, own) && cannot_load(program))
        given = without_us(&child);
    errno = saved_errno;
    return given;
}

typedef int exec_function(const char *, char *const *, char *const *);
typedef int spawn_function(pid_t *, const char *, const posix_spawn_file_actions_t *,
                           const posix_spawnattr_t *, char *const *, char *const *);

/* Resolved when the library is loaded: a fork's child may not ask the loader. */
static struct {
    exec_function *execve, *execvpe;
    spawn_function *posix_spawn, *posix_spawnp;
} real;

static void resolve(void) {
    *(void **)&real.execve = dlsym(RTLD_NEXT, "execve");
    *(void **)&real.execvpe = dlsym(RTLD_NEXT, "execvpe");
    *(void **)&real.posix_spawn = dlsym(RTLD_NEXT, "posix_spawn");
    *(void **)&real.posix_spawnp = dlsym(RTLD_NEXT, "posix_spawnp");
}

__attribute__((constructor)) static void load(void) {
    learn_own_path();
    resolve();
    copies_are_kept = pthread_key_create(&copies, drop) == 0;
}

static inline void ensure_resolved(void) {
    if (__builtin_expect(!real.posix_spawnp, 0))
        resolve();
}

/* What this process holds open, for its counters, ends here: the next program has a page of its
 * own. 0 where exec failed. Not in a vfork's child, which runs in its parent's memory. */
static void counts_end(uint64_t ticks) {
    const struct gs_process *here = gs_process_here();
    if (here->alive && *here->alive && here->pid == (uint32_t)getpid())
        __atomic_store_n(&here->page->gone.dead_ticks, ticks, __ATOMIC_RELAXED);
}

static int failed(int result) {
    int saved_errno = errno;
    counts_end(0);
    errno = saved_errno;
    return result;
}

INTERPOSE int execve(const char *path, char *const arguments[], char *const variables[]) {
    ensure_resolved();
    gs_slice_restore();
    char *const *environment = child_environment(path, variables);
    counts_end(gs_clock_now(gs_process_here()->clock));
    return failed(real.execve(path, arguments, environment));
}

INTERPOSE int execvpe(const char *file, char *const arguments[], char *const variables[]) {
    ensure_resolved();
    gs_slice_restore();
    char *const *environment = child_environment(file, variables);
    counts_end(gs_clock_now(gs_process_here()->clock));
    return failed(real.execvpe(file, arguments, environment));
}

GS_WRAPPER(execve);
GS_WRAPPER(execvpe);

INTERPOSE int execv(const char *path, char *const arguments[]) {
    return gs_wrapper_execve(path, arguments, environ);
}

INTERPOSE int execvp(const char *file, char *const arguments[]) {
    return gs_wrapper_execvpe(file, arguments, environ);
}

INTERPOSE int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                          const posix_spawnattr_t *attributes, char *const arguments[],
                          char *const variables[]) {
    ensure_resolved();
    gs_gil_thread_starts_another();
    return real.posix_spawn(pid, path, actions, attributes, arguments,
                            child_environment(path, variables));
}

INTERPOSE int posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions,
                           const posix_spawnattr_t *attributes, char *const arguments[],
                           char *const variables[]) {
    ensure_resolved();
    gs_gil_thread_starts_another();
    return real.posix_spawnp(pid, file, actions, attributes, arguments,
                             child_environment(file, variables));
}

GS_WRAPPER(execv);
GS_WRAPPER(execvp);
GS_WRAPPER(posix_spawn);
GS_WRAPPER(posix_spawnp);

const struct gs_wrapped gs_wrapped_exec[] = {
    GS_WRAPPED(execve, &real.execve),
    GS_WRAPPED(execvpe, &real.execvpe),
    GS_WRAPPED(execv, NULL),
    GS_WRAPPED(execvp, NULL),
    GS_WRAPPED(posix_spawn, &real.posix_spawn),
    GS_WRAPPED(posix_spawnp, &real.posix_spawnp),
    {NULL, NULL, NULL},
};

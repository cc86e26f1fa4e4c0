/* What a traced program starts: hides the probe where it cannot be loaded, and counts the children
 * that go unrecorded because they cannot find the recording.
 *
 * The loader says on stderr when it cannot preload a library: for a 32-bit program, or inside a
 * chroot where the library is not. A program must not print more because it is recorded, so the
 * library's name is taken out of such a child's LD_PRELOAD.
 *
 * These wrappers run in vfork's children too: they allocate on the stack alone. */
#define _GNU_SOURCE
#include <alloca.h>
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api.h"
#include "gil_condvar.h"
#include "process.h"
#include "slice.h"

#define INTERPOSE __attribute__((visibility("default")))
#define PRELOAD   "LD_PRELOAD="
#define RINGS     GS_RINGS_VARIABLE "="

extern char **environ;

#if defined(__x86_64__)
#define OUR_MACHINE EM_X86_64
#elif defined(__aarch64__)
#define OUR_MACHINE EM_AARCH64
#endif

static const char *own_path(void) {
    static char path[512];
    Dl_info info;
    if (!path[0] && dladdr((const void *)own_path, &info) && strlen(info.dli_fname) < sizeof path)
        strcpy(path, info.dli_fname);
    return path;
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
    if (access(own_path(), R_OK) != 0)
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
    const char *own = own_path();
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
    return child->rings && child->preload && strstr(child->preload, own_path()) &&
           access(child->rings, R_OK | W_OK) == 0 && access(own_path(), R_OK) == 0;
}

/* A search through PATH tries many names: only what exists counts. */
static void count_unfollowed(const struct child_environment *child, const char *program) {
    if (!follows(child) && (!strchr(program, '/') || access(program, X_OK) == 0))
        __atomic_fetch_add(&gs_process_here()->ring.header->unfollowed, 1, __ATOMIC_RELAXED);
}

/* The environment that the child shall have: `given`, or a copy on this stack frame without us. A
 * macro, because the copy must live until the child has been made. */
#define CHILD_ENVIRONMENT(program, given)                                                          \
    do {                                                                                           \
        if (!recorded_here())                                                                      \
            break;                                                                                 \
        int saved_errno = errno;                                                                   \
        struct child_environment child = inspect(given);                                           \
        count_unfollowed(&child, program);                                                         \
        if (child.preload && strstr(child.preload, own_path()) && cannot_load(program)) {          \
            char **copy = alloca((child.count + 1) * sizeof *copy);                                \
            char *entry = alloca(strlen(child.preload) + 1);                                       \
            strip(child.preload, entry);                                                           \
            size_t kept = 0;                                                                       \
            for (size_t i = 0; i < child.count; i++)                                               \
                if (child.variables[i] != child.preload)                                           \
                    copy[kept++] = child.variables[i];                                             \
                else if (entry[strlen(PRELOAD)])                                                   \
                    copy[kept++] = entry;                                                          \
            copy[kept] = NULL;                                                                     \
            given = copy;                                                                          \
        }                                                                                          \
        errno = saved_errno;                                                                       \
    } while (0)

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
    own_path();
    resolve();
}

static inline void ensure_resolved(void) {
    if (__builtin_expect(!real.posix_spawnp, 0))
        resolve();
}

INTERPOSE int execve(const char *path, char *const arguments[], char *const variables[]) {
    ensure_resolved();
    gs_slice_restore();
    CHILD_ENVIRONMENT(path, variables);
    return real.execve(path, arguments, variables);
}

INTERPOSE int execvpe(const char *file, char *const arguments[], char *const variables[]) {
    ensure_resolved();
    gs_slice_restore();
    CHILD_ENVIRONMENT(file, variables);
    return real.execvpe(file, arguments, variables);
}

INTERPOSE int execv(const char *path, char *const arguments[]) {
    return execve(path, arguments, environ);
}

INTERPOSE int execvp(const char *file, char *const arguments[]) {
    return execvpe(file, arguments, environ);
}

INTERPOSE int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                          const posix_spawnattr_t *attributes, char *const arguments[],
                          char *const variables[]) {
    ensure_resolved();
    gs_gil_thread_starts_another();
    CHILD_ENVIRONMENT(path, variables);
    return real.posix_spawn(pid, path, actions, attributes, arguments, variables);
}

INTERPOSE int posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions,
                           const posix_spawnattr_t *attributes, char *const arguments[],
                           char *const variables[]) {
    ensure_resolved();
    gs_gil_thread_starts_another();
    CHILD_ENVIRONMENT(file, variables);
    return real.posix_spawnp(pid, file, actions, attributes, arguments, variables);
}

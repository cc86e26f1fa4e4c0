"""Programs in C: children that are not Python, and hosts that embed it."""

from __future__ import annotations

import subprocess
from pathlib import Path

HELLO = r"""
#include <stdio.h>
int main(void) { return puts("hello from C") < 0; }
"""

# LIBPYTHON TIMES CODE HOME. Opens libpython as a plug-in would: late, and with symbols that nobody
# else can see. Starts it as often as told, each time with a program that runs threads.
EMBED = r"""
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    void *python = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (!python || argc != 5 || setenv("PYTHONHOME", argv[4], 1) != 0)
        return fprintf(stderr, "%s\n", dlerror()), 2;
    void (*initialize)(void) = (void (*)(void))dlsym(python, "Py_Initialize");
    int (*run)(const char *, void *) =
        (int (*)(const char *, void *))dlsym(python, "PyRun_SimpleStringFlags");
    int (*finalize)(void) = (int (*)(void))dlsym(python, "Py_FinalizeEx");
    for (int i = 0; i < atoi(argv[2]); i++) {
        initialize();
        if (run(argv[3], NULL) != 0 || finalize() != 0)
            return 3;
    }
    puts("embedded");
    return 0;
}
"""

# Makes GILs as CPython does, and takes and drops each once: N of them, KEPT or not. In a real
# interpreter a thousand take half a minute.
MAKE_BELIEVE = r"""
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct gil {
    unsigned long interval;
    void *last_holder;
    int locked;
    unsigned long switch_number;
    pthread_cond_t cond;
    pthread_mutex_t mutex;
    pthread_cond_t switch_cond;
    pthread_mutex_t switch_mutex;
};
struct { char head[512]; struct gil gil; char tail[512]; } _PyRuntime;

static void create(struct gil *gil) {
    pthread_condattr_t monotonic; // as CPython's, which have attributes
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    gil->interval = 5000;
    gil->locked = -1;
    pthread_mutex_init(&gil->mutex, NULL);
    pthread_mutex_init(&gil->switch_mutex, NULL);
    pthread_cond_init(&gil->cond, &monotonic);
    pthread_cond_init(&gil->switch_cond, &monotonic);
    gil->locked = 0;
}

static void use(struct gil *gil) {
    create(gil);
    pthread_mutex_lock(&gil->mutex);
    pthread_mutex_lock(&gil->switch_mutex);
    gil->locked = 1;
    gil->last_holder = &_PyRuntime;
    gil->switch_number++;
    pthread_cond_signal(&gil->switch_cond);
    pthread_mutex_unlock(&gil->switch_mutex);
    pthread_mutex_unlock(&gil->mutex);
    pthread_mutex_lock(&gil->mutex);
    gil->locked = 0;
    pthread_cond_signal(&gil->cond);
    pthread_mutex_unlock(&gil->mutex);
}

int main(int argc, char **argv) {
    int number = atoi(argv[1]), kept = argc > 2 && strcmp(argv[2], "kept") == 0;
    use(&_PyRuntime.gil);
    while (--number) {
        struct gil *gil = calloc(1, sizeof *gil);
        if (!gil)
            return 1;
        use(gil);
        if (kept)
            continue;
        pthread_cond_destroy(&gil->cond);
        pthread_cond_destroy(&gil->switch_cond);
        free(gil);
    }
    return 0;
}
"""

# A condition with one token, and nested atomic sections, that tell a probe in their process what
# happens, if there is one. Every call is to be made without the GIL (ctypes.CDLL).
PRODUCER = r"""
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>

enum { LOCK_WAIT = 8, COND_WAIT = 11, COND_WAKE, COND_NOTIFY, ATOMIC_ENTER = 20, ATOMIC_EXIT,
       ATOMIC_DEFERRED };
static struct {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    int tokens, waiting;
} it __attribute__((aligned(16))) = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0};

void tell(uint32_t kind, uint64_t argument) {
    void (*emit)(uint32_t, uint64_t) =
        (void (*)(uint32_t, uint64_t))dlsym(RTLD_DEFAULT, "gilscope_emit");
    if (emit)
        emit(kind, argument);
}

uint64_t object(void) { return (uint64_t)(uintptr_t)&it; } /* of a kind that nobody knows */

void take(void) {
    pthread_mutex_lock(&it.mutex);
    it.waiting++;
    tell(COND_WAIT, object());
    while (!it.tokens)
        pthread_cond_wait(&it.cond, &it.mutex);
    it.tokens--;
    it.waiting--;
    tell(COND_WAKE, object());
    pthread_mutex_unlock(&it.mutex);
}

/* Gives a token to whoever waits; 0: nobody does. */
int give(void) {
    pthread_mutex_lock(&it.mutex);
    int waits = it.waiting && !it.tokens;
    if (waits) {
        it.tokens++;
        tell(COND_NOTIFY, object() | (uint64_t)1 << 48);
        pthread_cond_signal(&it.cond);
    }
    pthread_mutex_unlock(&it.mutex);
    return waits;
}

void sections(void) {
    tell(ATOMIC_ENTER, 1);
    tell(ATOMIC_ENTER, 2);
    tell(ATOMIC_DEFERRED, 2);
    tell(ATOMIC_EXIT, 2);
    tell(ATOMIC_EXIT, 1);
}

/* What gilscope_emit has to ignore. */
void nonsense(void) {
    for (uint32_t kind = 0; kind < 64; kind++)
        if (kind < LOCK_WAIT || kind == 14 || kind == 15 || (kind >= 16 && kind < 20) || kind > 22)
            tell(kind, 1);
    tell(LOCK_WAIT, 15);                /* no kind of lock */
    tell(LOCK_WAIT, (uint64_t)1 << 48); /* a wait has no detail */
    tell(COND_WAKE, (uint64_t)2 << 48);
    tell(ATOMIC_ENTER, 0);
    tell(ATOMIC_ENTER, 65536);
    tell(UINT32_MAX, 0);
}
"""

# Opens a library whose constructor stays inside, with the loader's lock, until it may go on.
LOADER = r"""
#include <dlfcn.h>
#include <unistd.h>

static volatile int inside, may_go_on;

void constructor_runs(void) {
    inside = 1;
    while (!may_go_on)
        usleep(1000);
}

int open_library(const char *path) { return dlopen(path, RTLD_NOW) != 0; }
int is_inside(void) { return inside; }
void go_on(void) { may_go_on = 1; }
"""
LOADED = """
void constructor_runs(void);
__attribute__((constructor)) static void begin(void) { constructor_runs(); }
"""

# For ctypes.PyDLL: the slice of the processor, in ns, of the calling thread, and of one that it
# starts. 0 before Linux 6.12.
SLICES = r"""
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

struct attributes {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};

uint64_t own_slice(void) {
    struct attributes own = {0};
    return syscall(SYS_sched_getattr, 0, &own, sizeof own, 0) == 0 ? own.runtime : 0;
}

static void *tell(void *slice) {
    *(uint64_t *)slice = own_slice();
    return NULL;
}

uint64_t slice_of_another(void) {
    uint64_t slice = 1;
    pthread_t other;
    if (pthread_create(&other, NULL, tell, &slice) == 0)
        pthread_join(other, NULL);
    return slice;
}
"""


def slices(folder: Path) -> Path:
    """A library that tells of slices of the processor."""
    source = _source(folder, "slices.c", SLICES)
    return compiled(source, folder / "slices.so", "gcc", "-shared", "-fPIC", "-pthread")


def loader(folder: Path) -> tuple[Path, Path]:
    """A library for ctypes, with global symbols, and the one that it is to open."""
    options = ("gcc", "-shared", "-fPIC")
    return (
        compiled(_source(folder, "loader.c", LOADER), folder / "loader.so", *options),
        compiled(_source(folder, "loaded.c", LOADED), folder / "loaded.so", *options),
    )


def producer(folder: Path) -> Path:
    """The source of a library that tells the probe of a condition and of atomic sections."""
    return _source(folder, "producer.c", PRODUCER)


def hello(folder: Path) -> Path:
    """The source of a program that says hello."""
    return _source(folder, "hello.c", HELLO)


def embedded(folder: Path, python: Path, times: int, code: str) -> tuple[list[str | Path], str]:
    """The command that runs the code in this Python's libpython, started so often by a C program;
    and its version.
    """
    question = (
        "import platform, sysconfig as s; "
        "print(*map(s.get_config_var, ('LIBDIR', 'LDLIBRARY')), platform.python_version())"
    )
    answer = subprocess.run(
        [python, "-c", question], check=True, capture_output=True, text=True, timeout=60
    )
    home, name, version = answer.stdout.split()
    program = compiled(_source(folder, "embed.c", EMBED), folder / "embed")
    return [program, Path(home, name), str(times), code, Path(home).parent], version


def make_believe(folder: Path) -> Path:
    """The source of a program that makes GILs: NUMBER [kept]."""
    return _source(folder, "make_believe.c", MAKE_BELIEVE)


def compiled(source: Path, program: Path, compiler: str = "gcc", *options: str) -> Path:
    """Compile it; fails with what the compiler, or its absence, says."""
    command = [compiler, *options, "-o", str(program), str(source), "-ldl"]
    subprocess.run(command, check=True, timeout=120)
    return program


def _source(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path

"""Programs in C: children that are not Python, and hosts that embed it."""

from __future__ import annotations

import subprocess
from pathlib import Path

HELLO = r"""
#include <stdio.h>
int main(void) { return puts("hello from C") < 0; }
"""

# Opens libpython as a plug-in would: late, and with symbols that nobody else can see. Starts it
# as often as told, each time with a program that runs threads.
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

struct gil { pthread_cond_t cond, switch_cond; };
struct { char head[512]; struct gil gil; char tail[512]; } _PyRuntime;

static void use(struct gil *gil) {
    pthread_cond_init(&gil->cond, NULL);
    pthread_cond_init(&gil->switch_cond, NULL);
    pthread_cond_signal(&gil->switch_cond);
    pthread_cond_signal(&gil->cond);
}

int main(int argc, char **argv) {
    int number = atoi(argv[1]), kept = argc > 2 && strcmp(argv[2], "kept") == 0;
    use(&_PyRuntime.gil);
    while (--number) {
        struct gil *gil = malloc(sizeof *gil);
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


def hello(folder: Path) -> Path:
    """The source of a program that says hello."""
    return _source(folder, "hello.c", HELLO)


def embedding(folder: Path) -> Path:
    """The source of a program that embeds Python: LIBPYTHON TIMES CODE HOME."""
    return _source(folder, "embed.c", EMBED)


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

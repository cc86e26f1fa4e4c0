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
    if (!python || argc != 4)
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


def hello(folder: Path) -> Path:
    """The source of a program that says hello."""
    return _source(folder, "hello.c", HELLO)


def embedding(folder: Path) -> Path:
    """The source of a program that embeds Python: LIBPYTHON TIMES CODE."""
    return _source(folder, "embed.c", EMBED)


def compiled(source: Path, program: Path, compiler: str = "gcc", *options: str) -> Path:
    """Compile it; fails with what the compiler, or its absence, says."""
    command = [compiler, *options, "-o", str(program), str(source), "-ldl"]
    subprocess.run(command, check=True, timeout=120)
    return program


def _source(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path

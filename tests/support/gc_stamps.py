"""When a program's collections begin and end, by its own stamps.

A callback in Python would let the GIL go before it looks at the clock, where somebody has asked for
it. So the callback is a C function that keeps the GIL. It is called twice before a collection and
twice after it: from the first call to the second is what a call takes, there and then.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

_SOURCE = r"""
#include <time.h>
enum { MOST = 1 << 17 };
long long stamps[MOST];
int n_stamps;
void stamp(void *phase, void *info) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (n_stamps < MOST)
        stamps[n_stamps++] = now.tv_sec * 1000000000ll + now.tv_nsec;
    (void)phase, (void)info;
}
"""

# What a program has in front: `told()` gives [begin, end] of each collection so far, in ns, and
# `calls()` what the two calls around it took.
PRELUDE = """
import ctypes, gc, json, os, sys, threading, time
stamps = ctypes.PyDLL(sys.argv[1])
stamps.stamp.argtypes = [ctypes.py_object, ctypes.py_object]
stamps.stamp.restype = None
def four():
    n = ctypes.c_int.in_dll(stamps, "n_stamps").value
    times = list((ctypes.c_longlong * n).in_dll(stamps, "stamps"))
    return [times[i:i + 4] for i in range(0, n - 3, 4)]
def told():
    return [[begun, ended] for _, begun, ended, _ in four()]
def calls():
    return [begun - before + after - ended for before, begun, ended, after in four()]
gc.callbacks += [stamps.stamp, stamps.stamp]
"""


def build(folder: Path) -> Path:
    """The library that stamps."""
    source, library = folder / "stamps.c", folder / "stamps.so"
    source.write_text(_SOURCE)
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    return library

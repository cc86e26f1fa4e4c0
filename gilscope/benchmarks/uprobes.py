"""Counts of the kernel beside the others of `gilscope bench peers`: perf, by uprobes.

A uprobe is a trap at an instruction, here at the begin of CPython's own `take_gil` and `drop_gil`.
It needs root, a mounted tracefs and an interpreter with a symbol table.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gilscope.child import output_of
from gilscope.errors import InstallationError

GROUP = "gilscope_peers"
_FUNCTIONS = ("take_gil", "drop_gil")
_TRACEFS = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))
# The shared library that the interpreter runs in, or the program itself.
_IMAGE = """
with open("/proc/self/maps") as maps:
    paths = [line.split(None, 5)[5].strip() for line in maps if "/libpython" in line]
import os
print(paths[0] if paths else os.path.realpath("/proc/self/exe"))
"""


@contextmanager
def probes(python: Path) -> Iterator[None]:
    """While they are there. Raises InstallationError where they cannot be."""
    perf = shutil.which("perf")
    if perf is None:
        raise InstallationError("it needs perf; on Debian: apt-get install linux-perf")
    if os.geteuid() or not any((tracefs / "uprobe_events").exists() for tracefs in _TRACEFS):
        raise InstallationError("it needs root, and: mount -t tracefs nodev /sys/kernel/tracing")
    image = output_of([str(python), "-c", _IMAGE]).stdout.strip()
    _remove(perf)  # of a run that was broken off
    try:
        for function in _FUNCTIONS:
            made = output_of([perf, "probe", "-q", "-x", image, f"{GROUP}:{function}={function}"])
            if made.returncode:
                said = made.stderr.strip().splitlines()[-1:]
                raise InstallationError(f"no probe at {function}: {' '.join(said)}")
        yield
    finally:
        _remove(perf)


def _remove(perf: str) -> None:
    output_of([perf, "probe", "-q", "--del", f"{GROUP}:*"])


def command(python: Path, out: Path) -> list[str]:
    """Records each of them."""
    perf = ["perf", "record", "-q", "-m", "64M", "-o", str(out)]
    for function in _FUNCTIONS:
        perf += ["-e", f"{GROUP}:{function}"]
    return [*perf, "--", str(python)]


def events(out: Path) -> int:
    """In what perf recorded."""
    told = output_of(["perf", "script", "-i", str(out), "-F", "event"])
    return told.stdout.count(GROUP)

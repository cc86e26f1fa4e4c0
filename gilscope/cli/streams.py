"""Standard streams that cannot get in the way.

A command may be started with some of them closed, or with a standard error that takes nothing. What
gilscope opens must not become one of them, and what it cannot say must not change the exit code,
which is the recorded program's.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import Any, cast


def prepare() -> None:
    """Call it before anything is opened."""
    _fill_gaps()
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - for good
    if sys.stderr is None or sys.stderr is sys.__stderr__:
        sys.stderr = io.TextIOWrapper(
            io.BufferedWriter(cast(io.RawIOBase, _Lossy(2, "w", closefd=False))),
            encoding=getattr(sys.stderr, "encoding", "utf-8"),
            line_buffering=True,
        )
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that this locale cannot write
            stream.reconfigure(errors="backslashreplace")


def _fill_gaps() -> None:
    """Take the numbers of closed standard streams, in a way that using them still fails.

    An exec closes them again, so that a program finds closed what was closed.
    """
    for number, way in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_RDONLY)):
        try:
            os.fstat(number)
        except OSError:
            with suppress(OSError):  # no /dev here
                os.open(os.devnull, way)  # the lowest free number is this one


class _Lossy(io.FileIO):
    """Standard error. What it cannot write is lost, and no error."""

    def write(self, data: Any, /) -> int:
        """Write what can be written; the rest of a failed write counts as written."""
        size = memoryview(data).nbytes
        try:
            return super().write(data) or size
        except OSError:
            return size


def abandon_stdout() -> None:
    """Let the interpreter's last flush go nowhere instead of complaining."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())

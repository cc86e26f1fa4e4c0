"""`--sched`: the kernel's context switches of the program, kept beside the rings (switches.h).

Imports nothing heavy: it stands between the user's command and the program's start.
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

from gilscope import _native

SWITCHES = "switches"  # the file
RECORD_BYTES = 16
MOST_RECORDS = 1 << 22  # 64 MiB; what is older makes room
_PARANOID = "/proc/sys/kernel/perf_event_paranoid"
_USUAL_LEVEL = 2  # from which on the kernel tells unprivileged users their own programs alone


def why_forbidden() -> str | None:
    """Why the kernel lets this user record no context switches, in one line; None: it does."""
    number = int(_engine().gs_switches_try())
    return _explain(number) if number else None


class Switches:
    """Owner: the recorder's thread."""

    def __init__(self, directory: Path, room: int) -> None:
        """Of nobody yet: `add`. Keeps `room` bytes at most. Raises OSError."""
        engine, number = _engine(), ctypes.c_int()
        self._path = path = directory / SWITCHES
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o600)
        capacity = max(min(room // RECORD_BYTES, MOST_RECORDS), 1 << 12)
        self._switches = engine.gs_switches_open(self._fd, capacity, ctypes.byref(number))
        if not self._switches:
            os.close(self._fd)
            path.unlink()
            raise OSError(number.value, _explain(number.value))

    def add(self, tid: int, *, from_exec: bool = False) -> None:
        """Tell of this thread and of what it starts: from now on, or from its exec on. Raises
        OSError.
        """
        number = int(_engine().gs_switches_add(self._switches, tid, from_exec))
        if number:
            raise OSError(number, _explain(number))

    def tick(self) -> None:
        """Take what the kernel has written; every few milliseconds."""
        _engine().gs_switches_tick(self._switches)

    def close(self) -> None:
        """Take the rest and ask for no more. The file stays."""
        if self._switches:
            self.tick()
            _engine().gs_switches_close(self._switches)
            os.close(self._fd)
            self._switches = None

    def discard(self) -> None:
        """As if nothing had been asked for: the file goes."""
        self.close()
        self._path.unlink()

    @property
    def used_bytes(self) -> int:
        """Of the file."""
        return os.fstat(self._fd).st_blocks * 512


def _explain(number: int) -> str:
    if number in {errno.EACCES, errno.EPERM}:
        try:
            with open(_PARANOID, encoding="ascii") as file:
                level = int(file.read())
        except (OSError, ValueError):
            level = _USUAL_LEVEL
        if level > _USUAL_LEVEL:
            return (
                f"the kernel forbids perf_event_open (kernel.perf_event_paranoid is {level}; with"
                " `sysctl kernel.perf_event_paranoid=2` it does not)"
            )
        return "perf_event_open is forbidden here, as Docker's default seccomp profile does"
    if number in {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOENT}:
        return "this kernel has no perf events"
    return f"perf_event_open: {os.strerror(number)}"


def _engine() -> ctypes.CDLL:
    engine = _native.engine()
    pointer = ctypes.c_void_p
    engine.gs_switches_try.argtypes = []
    engine.gs_switches_open.argtypes = [ctypes.c_int, ctypes.c_uint64, pointer]
    engine.gs_switches_open.restype = pointer
    engine.gs_switches_add.argtypes = [pointer, ctypes.c_int, ctypes.c_int]
    engine.gs_switches_tick.argtypes = [pointer]
    engine.gs_switches_tick.restype = None
    engine.gs_switches_close.argtypes = [pointer]
    engine.gs_switches_close.restype = None
    return engine

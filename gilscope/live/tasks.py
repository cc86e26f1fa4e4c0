"""The threads of a process as the kernel knows them: /proc/PID/task."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

FUTEX = {"x86_64": 202, "aarch64": 98}.get(platform.machine(), -1)


@dataclass(frozen=True)
class Call:
    """The system call that a thread is in."""

    number: int
    arguments: tuple[int, ...]  # six
    stack: int  # the thread's stack pointer

    @property
    def is_futex(self) -> bool:
        """Whether it sleeps until a word changes; the word's address is the first argument."""
        return self.number == FUTEX


def tids(pid: int) -> dict[int, int]:
    """Number in the innermost pid namespace, which is what the process itself knows, → number
    here. Empty where the process is gone.
    """
    try:
        here = [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return {}
    if not is_elsewhere(pid):
        return {tid: tid for tid in here}
    return {names[-1]: tid for tid in here if (names := _names(pid, tid))}


def is_elsewhere(pid: int) -> bool:
    """Whether it is in a pid namespace of its own, where threads have other numbers than here."""
    return len(_names(pid, pid)) > 1


def call(pid: int, tid: int) -> Call | None:
    """None where the thread runs, is gone, or the kernel does not tell. `tid` as it is here."""
    words = _read(pid, tid, "syscall").split()
    if len(words) != 9:
        return None
    numbers = [int(word, 0) for word in words]
    return Call(numbers[0], tuple(numbers[1:7]), numbers[7])


def comm(pid: int, tid: int) -> str | None:
    """The kernel's name of the thread, at most 15 bytes."""
    return _read(pid, tid, "comm").rstrip("\n") or None


def state(pid: int, tid: int | None = None) -> str | None:
    """One letter: R runs or wants to, S sleeps, D sleeps deeply, T stopped, t by a debugger, Z is a
    zombie; of one thread, or of the main one. None: gone.
    """
    data = _read(pid, pid if tid is None else tid, "stat")
    return data.rpartition(")")[2].split()[0] if ")" in data else None


def _names(pid: int, tid: int) -> list[int]:
    """A thread's numbers, from this namespace's to its own; none where it is gone."""
    for line in _read(pid, tid, "status").splitlines():
        if line.startswith("NSpid:"):
            return [int(name) for name in line.split()[1:]]
    return []


def _read(pid: int, tid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/task/{tid}/{name}").read_text(errors="surrogateescape")
    except OSError:
        return ""

"""Which process here a recorded one is: its page tells the pid that it has in its own namespace."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def pid_here(pid: int, rings: str | os.PathLike[str]) -> int | None:
    """The pid, in this namespace, of the living process that writes these rings and calls itself
    `pid`; None where there is none. A process whose mappings may not be read is believed.
    """
    return pids_here((pid,), rings).get(pid)


def pids_here(pids: Iterable[int], rings: str | os.PathLike[str]) -> dict[int, int]:
    """The same of many: those that are found. It costs one look at all processes, at most."""
    found, elsewhere = {}, set()
    for pid in pids:
        if _maps(pid, rings) is False:
            elsewhere.add(pid)
        else:
            found[pid] = pid
    for other in filter(str.isdecimal, os.listdir("/proc") if elsewhere else ()):
        names = _names_of(int(other))
        if len(names) > 1 and names[-1] in elsewhere and _maps(int(other), rings):
            found[names[-1]] = int(other)
    return found


def _maps(pid: int, rings: str | os.PathLike[str]) -> bool | None:
    """Whether it has this file mapped; None where that is not to be seen. False of the dead."""
    file = os.stat(rings)
    mark = f" {os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x} {file.st_ino} "
    try:
        return mark in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace")
    except PermissionError:
        return None
    except OSError:
        return False


def _names_of(pid: int) -> list[int]:
    """Its pids, from this namespace's to its own."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as status:
            for line in status:
                if line.startswith("NSpid:"):
                    return [int(name) for name in line.split()[1:]]
    except OSError:
        pass
    return []

"""Whether a quota of its cgroup held the program back: what `cpu.stat` counts, before and after.

Imports nothing heavy: it stands between the user's command and the program's start.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_GROUPS = Path("/sys/fs/cgroup")
_EVERY_S = 1.0  # between two looks


class Throttled(NamedTuple):
    """So far, of a cgroup and of those above it: the largest."""

    times: int
    ns: int  # of all processors together


class Quota:
    """What held one process back since now, in whatever cgroups it is meanwhile (as `systemd-run
    --scope` makes one). Owner: one thread.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._group = group_of(pid)
        self._first = self._last = throttled(self._group)
        self._before = Throttled(0, 0)  # in the groups that it has left
        self._next = time.monotonic() + _EVERY_S

    def tick(self) -> None:
        """Look where the process is; once a second."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _EVERY_S
            self.look()

    def look(self) -> None:
        """The same at once. What was seen last holds where the process or its group is gone."""
        group = group_of(self._pid) or self._group
        count = throttled(group)
        if group != self._group:
            if total := self.total():
                self._before = total
            self._group, self._first, self._last = group, count, count
        elif count is not None:
            self._last = count

    def total(self) -> Throttled | None:
        """None: nobody counts there."""
        if self._first is None or self._last is None:
            return self._before if self._before.times else None
        first, last, before = self._first, self._last, self._before
        return Throttled(
            before.times + max(0, last.times - first.times), before.ns + max(0, last.ns - first.ns)
        )


def group_of(pid: int) -> str:
    """The lines of /proc/PID/cgroup; "" where there is no such process."""
    try:
        return Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8")
    except OSError:
        return ""


def throttled(group: str) -> Throttled | None:
    """Of the cgroups of these lines; None where nobody counts."""
    found = [stat for file in _files(group) if (stat := _read(file)) is not None]
    return max(found, key=lambda stat: stat.ns, default=None)


def _files(group: str) -> Iterator[Path]:
    for line in group.splitlines():
        _, controllers, path = line.split(":", 2)
        names = controllers.split(",") if controllers else []
        if names and "cpu" not in names:
            continue
        tops = [_GROUPS / controllers, _GROUPS / "cpu"] if names else [_GROUPS, _GROUPS / "unified"]
        relative = Path(path.lstrip("/"))
        for top in tops:
            for folder in (relative, *relative.parents):
                yield top / folder / "cpu.stat"


def _read(file: Path) -> Throttled | None:
    try:
        words = file.read_text(encoding="ascii").split()
        values = dict(zip(words[::2], map(int, words[1::2]), strict=True))
    except (OSError, ValueError):
        return None
    if "nr_throttled" not in values:
        return None
    ns = values.get("throttled_time", 1000 * values.get("throttled_usec", 0))  # version 1, 2
    return Throttled(values["nr_throttled"], ns)

"""Whether a quota of its cgroup held the program back: what `cpu.stat` counts, before and after.

Imports nothing heavy: it stands between the user's command and the program's start.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_GROUPS = Path("/sys/fs/cgroup")


class Throttled(NamedTuple):
    """So far, of the cgroup of a process and of those above it: the largest."""

    times: int
    ns: int  # of all processors together

    def since(self, before: Throttled) -> Throttled:
        """What has come since."""
        return Throttled(max(0, self.times - before.times), max(0, self.ns - before.ns))


def throttled(pid: int) -> Throttled | None:
    """Of that process; None where nobody counts."""
    found = [stat for file in _files(pid) if (stat := _read(file)) is not None]
    return max(found, key=lambda stat: stat.ns, default=None)


def _files(pid: int) -> Iterator[Path]:
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        names = controllers.split(",") if controllers else []
        if names and "cpu" not in names:
            continue
        tops = [_GROUPS / controllers, _GROUPS / "cpu"] if names else [_GROUPS, _GROUPS / "unified"]
        group = Path(path.lstrip("/"))
        for top in tops:
            for folder in (group, *group.parents):
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

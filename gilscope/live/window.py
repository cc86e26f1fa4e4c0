"""What `gilscope top` shows: the GILs and threads of some processes during the last window.

A source (sampler.py, exact.py) makes a picture each time it is asked; nothing here reads anything.
Text is as the program gave it: who shows it makes it harmless.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from gilscope.naming import group_of


@dataclass(frozen=True)
class GilPicture:
    """One GIL. Shares are of the window, 0 to 1; None: not known."""

    held: float
    contended: float  # held while another thread waited
    waiters: float | None  # how many waited, on average
    switches_per_s: float
    holder: str | None = None  # who has it now


@dataclass(frozen=True)
class ThreadPicture:
    """One thread, or a group of like ones (`count`), whose shares are sums."""

    tid: int | None
    name: str
    held: float
    waiting: float | None
    line: str | None = None  # where it holds the GIL, or held it last
    now: str = ""  # "holds", "waits"
    waited_s: float | None = None  # since the source began
    count: int = 1


@dataclass(frozen=True)
class ProcessPicture:
    """One process. `lines`: where the GIL was held while others waited, share of that, worst
    first."""

    pid: int
    command: str
    gils: tuple[GilPicture, ...]
    threads: tuple[ThreadPicture, ...]
    lines: tuple[tuple[str, float], ...] = ()
    error: str | None = None  # why it cannot be read


@dataclass(frozen=True)
class Picture:
    """All of it. `error`: of a share, half the interval that has the truth 19 times of 20; 0 where
    it is exact. None: not known."""

    source: str  # "sampled", "exact"
    window_s: float
    processes: tuple[ProcessPicture, ...]
    error: float | None = 0.0
    lateness_s: float | None = None  # of samples, on average


class Source(Protocol):
    """Who makes pictures."""

    def picture(self) -> Picture:
        """Of what was since the last one. Raises GilscopeError; ProcessGone at the end."""

    def close(self) -> None:
        """Let everything go."""


def as_json(picture: Picture) -> dict[str, Any]:
    """The form that `gilscope top --once --json` prints. Shares are 0 to 1 of the window."""
    return {
        "schema": 1,
        "source": picture.source,
        "window_s": picture.window_s,
        "error": picture.error,
        "lateness_s": picture.lateness_s,
        "processes": [
            {
                "pid": process.pid,
                "command": process.command,
                "gils": [
                    {
                        "held": gil.held,
                        "contended": gil.contended,
                        "waiters": gil.waiters,
                        "switches_per_s": gil.switches_per_s,
                    }
                    for gil in process.gils
                ],
                "threads": [
                    {
                        "tid": thread.tid,
                        "name": thread.name,
                        "held": thread.held,
                        "waiting": thread.waiting,
                        "line": thread.line,
                    }
                    for thread in process.threads
                ],
                "lines": [{"line": line, "share": share} for line, share in process.lines],
                "error": process.error,
            }
            for process in picture.processes
        ],
    }


def grouped(threads: tuple[ThreadPicture, ...]) -> tuple[ThreadPicture, ...]:
    """Threads whose names differ in numbers alone as one, with the sums of their shares."""
    groups: dict[str, list[ThreadPicture]] = {}
    for thread in threads:
        groups.setdefault(group_of(thread.name), []).append(thread)
    return tuple(
        members[0] if len(members) == 1 else _sum(name, members) for name, members in groups.items()
    )


def _sum(name: str, members: list[ThreadPicture]) -> ThreadPicture:
    doing = Counter(thread.now for thread in members if thread.now)
    lines = [thread.line for thread in sorted(members, key=lambda t: -t.held) if thread.line]
    return ThreadPicture(
        tid=None,
        name=name,
        held=sum(thread.held for thread in members),
        waiting=_total([thread.waiting for thread in members]),
        line=lines[0] if lines else None,
        now="holds" if doing["holds"] else f"{doing['waits']} wait" if doing["waits"] else "",
        waited_s=_total([thread.waited_s for thread in members]),
        count=len(members),
    )


def _total(values: list[float | None]) -> float | None:
    """None where one is not known."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


SORTS = ("held", "waiting", "waited", "name")


def sort_by(
    threads: tuple[ThreadPicture, ...], by: str, *, ascending: bool = False
) -> list[ThreadPicture]:
    """By one of SORTS, the largest first; names from A."""
    if by == "name":
        return sorted(threads, key=lambda thread: thread.name, reverse=ascending)
    return sorted(threads, key=lambda t: (_value(t, by), t.name), reverse=not ascending)


def _value(thread: ThreadPicture, by: str) -> float:
    values = {"held": thread.held, "waiting": thread.waiting, "waited": thread.waited_s}
    return values[by] or 0.0


@dataclass
class WaitedSoFar:
    """Adds up what threads waited in windows that are over."""

    seconds: defaultdict[Any, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, key: Any, thread: ThreadPicture, window_s: float) -> ThreadPicture:
        """The thread with its sum."""
        if thread.waiting is None:
            return thread
        self.seconds[key] += thread.waiting * window_s
        return replace(thread, waited_s=self.seconds[key])

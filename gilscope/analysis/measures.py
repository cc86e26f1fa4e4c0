"""What is compared between two runs: a figure for the run, each group of threads, line and lock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from gilscope.analysis.groups import group_of, root_of
from gilscope.analysis.places import spot

Row = dict[str, Any]


class Key(NamedTuple):
    """What a figure is of."""

    kind: str  # "run", "thread", "line", "lock"
    name: str  # of the group of threads, the line or the lock; "" of the run
    measure: str  # "duration", "waiting", "held", "lock_wait"


@dataclass(frozen=True)
class Run:
    """The figures of one trace, in ns; `threads` and `io_p99` by group."""

    name: str
    duration_ns: int
    whole: bool  # from the program's begin to its end
    unknown_ns: int  # of all its threads' lives
    started_ns: int  # CLOCK_REALTIME
    figures: dict[Key, int]
    threads: dict[str, int]
    io_p99: dict[str, int | None]


def run_of(name: str, summary: Row, started_ns: int) -> Run:
    """What a summary says, in the rows that are compared."""
    figures: Counter[Key] = Counter({Key("run", "", "duration"): summary["duration_ns"]})
    threads: Counter[str] = Counter()
    io_p99: dict[str, int | None] = {}
    root = root_of(summary["processes"])
    unknown = 0
    for process in summary["processes"]:
        behind = "" if process["id"] == root else " (children)"
        groups = {thread["id"]: group_of(thread["name"]) + behind for thread in process["threads"]}
        for thread in process["threads"]:
            group = groups[thread["id"]]
            threads[group] += 1
            figures[Key("thread", group, "waiting")] += thread["waiting_ns"]
            figures[Key("thread", group, "held")] += thread["held_ns"]
            io_p99[group] = max(io_p99.get(group) or 0, thread["io_wait_ns"]["p99"] or 0) or None
            unknown += thread["unknown_ns"]
        for row in process["blame"]:
            if row["holder_site"]:
                figures[Key("line", spot(row["holder_site"]), "waiting")] += row["wait_ns"]
        for row in _contended(process):
            if lock := _lock(row):
                figures[Key("lock", lock, "waiting")] += row["wait_ns"]["sum"]
            for part in row["blame"]:
                if part["waiter"] in groups:
                    key = Key("thread", groups[part["waiter"]], "lock_wait")
                    figures[key] += part["wait_ns"]
    return Run(
        name=name,
        duration_ns=summary["duration_ns"],
        whole=summary["exit_code"] is not None and not summary["stopped"],
        unknown_ns=unknown,
        started_ns=started_ns,
        figures=dict(figures),
        threads=dict(threads),
        io_p99=io_p99,
    )


def _contended(process: Row) -> Iterator[Row]:
    """Locks and conditions that others had; a wait for an event (an idle worker, a join) is none,
    as in the findings."""
    for kind in ("locks", "conditions"):
        for row in process[kind] or ():
            if row["waits_for"] == "lock" and row["wait_ns"]["sum"]:
                yield row


def _lock(row: Row) -> str | None:
    """What tells a lock from others in every run, as its address does not: the line that kept it
    longest, else what it is called. None: nothing does."""
    for part in row.get("blame") or ():
        if site := part.get("holder_site"):
            return spot(site)
    library = row.get("library")
    return str(library) if library else None

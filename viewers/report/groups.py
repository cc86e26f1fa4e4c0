"""Threads that do the same as one row: what a report shows, whatever the number of threads."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from gilscope.analysis.groups import group_of
from gilscope.analysis.names import names_of
from gilscope.analysis.units import escaped

if TYPE_CHECKING:
    from numpy.typing import NDArray

Row = dict[str, Any]

PARTS = ("held", "waiting", "outside", "unknown")
# With the kernel's side: what a thread did while it held the GIL, or while it did neither.
STATES = ("running_ns", "preempted_ns", "off_ns")


@dataclass(frozen=True)
class Group:
    """Threads of like names in like processes, of the whole trace."""

    label: str
    threads: list[Row]  # of the summary

    def sum(self, field: str) -> int:
        """Of one of their fields."""
        return sum(thread[field] for thread in self.threads)

    @cached_property
    def kinds(self) -> str:
        """What kinds of work they do: `io`, or `cpu, io`."""
        return ", ".join(sorted({thread["class"] for thread in self.threads}))

    @property
    def split(self) -> bool:
        """Whether it is known when all of them ran."""
        return all(
            (thread.get(side) or {}).get(state) is not None
            for thread in self.threads
            for side in ("held", "outside")
            for state in STATES
        )

    def parts(self) -> dict[str, int]:
        """Their lives in ns, by what they did."""
        if not self.split:
            return {part: self.sum(f"{part}_ns") for part in PARTS}
        parts = {}
        for side in ("held", "outside"):
            for state in STATES:
                label = f"{side}, {state.removesuffix('_ns')}"
                parts[label] = sum(thread[side][state] for thread in self.threads)
            if side == "held":
                parts["waiting"] = self.sum("waiting_ns")
            else:  # what of it the kernel's side does not cover
                rest = self.sum("outside_ns") - sum(parts[f"outside, {s[:-3]}"] for s in STATES)
                parts["outside"] = max(rest, 0)
        parts["unknown"] = self.sum("unknown_ns")
        return {part: ns for part, ns in parts.items() if ns or part in PARTS}


@dataclass(frozen=True)
class Groups:
    """The groups of a trace that used a GIL, those first that waited longest.

    `of_thread` is the index of each thread's group, -1 for one that never used a GIL.
    """

    table: list[Group]
    of_thread: NDArray[np.int64]
    quiet: int  # threads that never used a GIL

    def labels(self, most: int) -> list[str]:
        """The first `most` of them, and what stands for the others, if there are any."""
        labels = [group.label for group in self.table[:most]]
        rest = len(self.table) - most
        return [*labels, f"{rest:,} more groups"] if rest > 0 else labels


def groups_of(summary: Row) -> Groups:
    """The groups of a summary."""
    threads = [t for process in summary["processes"] for t in process["threads"]]
    names = names_of(threads)
    programs = {p["id"]: _program(p) for p in summary["processes"]}
    several = len({programs[p["id"]] for p in summary["processes"] if p["threads"]}) > 1
    found: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for process in summary["processes"]:
        for thread in process["threads"]:
            if thread["gil"] is not None:
                found[programs[process["id"]], group_of(thread["name"])].append(thread)
    table = []
    for (program, name), rows in found.items():
        label = names[rows[0]["id"]] if len(rows) == 1 else f"{escaped(name)} ({len(rows):,})"
        where = f" of {program}" if several and len(rows) > 1 else ""
        table.append(Group(label + where, rows))
    table.sort(key=lambda group: (-group.sum("waiting_ns"), -group.sum("held_ns")))
    of_thread = np.full(max((t["id"] for t in threads), default=-1) + 1, -1)
    for index, group in enumerate(table):
        of_thread[[thread["id"] for thread in group.threads]] = index
    return Groups(table, of_thread, len(threads) - sum(len(group.threads) for group in table))


def _program(process: Row) -> str:
    """What a process runs, without what only numbers tell apart."""
    words = [escaped(word.strip().partition("\n")[0])[:40] for word in process["command"][:4]]
    return group_of(" ".join(words)) or "a process"

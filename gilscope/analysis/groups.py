"""Threads that do the same under numbered names: `worker-1`, `worker-2` are `worker-*`.

A group has the threads of one kind of process (the one that was started, or those that came from
it) whose names differ in numbers alone and which are of one class.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gilscope.analysis.intervals import distribution
from gilscope.naming import group_of as group_of  # noqa: PLC0414 - analysis has it from here

if TYPE_CHECKING:
    from gilscope.trace.model import Trace

Row = dict[str, Any]

SUMS = ("life_ns", "shared_ns", "held_ns", "waiting_ns", "outside_ns", "unknown_ns")
WAITS = ("wait_ns", "io_wait_ns", "cpu_wait_ns")


def root_of(processes: Sequence[Row]) -> int | None:
    """The id of the process that the rest came from: the first one with threads."""
    return next((process["id"] for process in processes if process["threads"]), None)


def groups_of(trace: Trace, processes: Sequence[Row]) -> list[Row]:
    """A row for each group, the longest waiting first: sums of its threads, and distributions of
    all their waits together. A thread without equals is a group of its own, under its name.
    """
    root = root_of(processes)
    members: dict[tuple[str, bool, str], list[Row]] = defaultdict(list)
    in_processes: dict[tuple[str, bool, str], set[int]] = defaultdict(set)
    for process in processes:
        for thread in process["threads"]:
            key = (group_of(thread["name"]), process["id"] == root, thread["class"])
            members[key].append(thread)
            in_processes[key].add(process["id"])
    lengths = _Lengths(trace)
    rows = []
    for number, (key, threads) in enumerate(members.items()):
        lengths.of[[thread["id"] for thread in threads]] = number
        rows.append(
            {
                "name": key[0] if len(threads) > 1 else threads[0]["name"],
                "threads": [thread["id"] for thread in threads],
                "processes": len(in_processes[key]),
                "class": key[2],
                **{part: sum(thread[part] for thread in threads) for part in SUMS},
                **{part: threads[0][part] for part in WAITS},
            }
        )
    for number, row in enumerate(rows):
        if len(row["threads"]) > 1:
            row.update(lengths.distributions(number))
    return sorted(rows, key=lambda row: (-row["waiting_ns"], -row["held_ns"]))


class _Lengths:
    """How long the waits of each group took; `of` is the group of each thread."""

    def __init__(self, trace: Trace) -> None:
        self.of = np.zeros(len(trace.metadata.threads), np.uint32)
        self._waits = trace.waits
        self._order: Any = None

    def distributions(self, group: int) -> Row:
        """The distributions `WAITS` of one group."""
        if self._order is None:
            groups = self.of[self._waits["thread"]]
            self._order = np.argsort(groups, kind="stable")
            self._bounds = np.searchsorted(groups[self._order], np.arange(self.of.max() + 2))
        mine = self._waits[self._order[self._bounds[group] : self._bounds[group + 1]]]
        took, cpu = mine["end_ns"] - mine["start_ns"], mine["cpu"] != 0
        return {
            "wait_ns": distribution(took),
            "io_wait_ns": distribution(took[~cpu]),
            "cpu_wait_ns": distribution(took[cpu]),
        }

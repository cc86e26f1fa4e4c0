"""The GIL's flame: how long it was held, and how much waiting that caused, by stack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gilscope.analysis.caused import caused_ns

if TYPE_CHECKING:
    from gilscope.trace.model import Trace

NO_LEAF = -1


class StackTime(NamedTuple):
    """The holds of one thread that end in one stack. Times in ns."""

    thread: int  # Thread.id
    leaf: int  # Stack.id, or NO_LEAF: none was recorded
    exact: bool  # else the stack is where they ended: their time went there or before
    holds: int
    held_ns: int
    caused_ns: int  # that others waited meanwhile


@dataclass(frozen=True)
class Flame:
    """All holds of a trace; their times add up to all held time.

    `free_ns` is the waiting that no hold caused: the GIL was free, or nobody saw who held it. With
    it `caused_ns` adds up to all waiting.
    """

    rows: list[StackTime]  # by thread, then by stack
    free_ns: int

    @property
    def held_ns(self) -> int:
        """All held time."""
        return sum(row.held_ns for row in self.rows)

    @property
    def caused_ns(self) -> int:
        """All waiting that holds caused."""
        return sum(row.caused_ns for row in self.rows)


def flame_of(trace: Trace) -> Flame:
    """Hold time of `trace`, and the waiting that it caused, by stack."""
    holds = trace.holds
    mine = trace.stacks[trace.stacks["of_wait"] == 0]
    # One number a (thread, stack, exact); leaf 0 stands for none.
    keys = holds["thread"].astype(np.uint64) << np.uint64(33)
    keys[mine["interval"]] |= (mine["leaf"].astype(np.uint64) + 1) << np.uint64(1)
    keys[mine["interval"]] |= mine["seen"] != 0
    found, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    caused = caused_ns(trace)
    sums = []
    for values in (holds["end_ns"] - holds["start_ns"], caused):
        total = np.zeros(len(found), np.int64)
        np.add.at(total, inverse, values)
        sums.append(total.tolist())
    rows = [
        StackTime(key >> 33, (key >> 1 & 0xFFFFFFFF) - 1, bool(key & 1), holds, held, waited)
        for key, holds, held, waited in zip(found.tolist(), counts.tolist(), *sums, strict=True)
    ]
    waiting = int(trace.thread_stats["waiting_ns"].sum())
    return Flame(rows, waiting - int(caused.sum()))

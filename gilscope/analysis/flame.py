"""The GIL's flame: how long it was held, and how much waiting that caused, by stack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gilscope.analysis.caused import caused_ns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from gilscope.trace.model import Trace

NO_LEAF = -1
_PIECE = 1 << 20  # holds that are looked at together


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
    caused = caused_ns(trace)
    rows = sorted([*_covered(trace, caused), *_bare(trace, caused)])
    waiting = int(trace.thread_stats["waiting_ns"].sum())
    return Flame(rows, waiting - int(caused.sum()))


def _covered(trace: Trace, caused: NDArray[np.int64]) -> Iterator[StackTime]:
    """Of holds with a stack."""
    mine = trace.stacks[trace.stacks["of_wait"] == 0]
    at = mine["interval"]
    keys = np.stack((trace.holds["thread"][at], mine["leaf"], mine["seen"] != 0)).astype(np.int64)
    found, inverse, counts = np.unique(keys, axis=1, return_inverse=True, return_counts=True)
    lengths = trace.holds["end_ns"][at] - trace.holds["start_ns"][at]
    held, waited = np.zeros((2, len(counts)), np.int64)
    np.add.at(held, inverse.ravel(), lengths)
    np.add.at(waited, inverse.ravel(), caused[at])
    for thread, leaf, exact, *times in zip(
        *found.tolist(), counts.tolist(), held.tolist(), waited.tolist(), strict=True
    ):
        yield StackTime(thread, leaf, bool(exact), *times)


def _bare(trace: Trace, caused: NDArray[np.int64]) -> Iterator[StackTime]:
    """Of holds without, by thread."""
    holds = trace.holds
    bare = np.ones(len(holds), bool)
    bare[trace.stacks["interval"][trace.stacks["of_wait"] == 0]] = False
    counts, held, waited = np.zeros((3, len(trace.thread_stats)), np.int64)
    for first in range(0, len(holds), _PIECE):
        piece = slice(first, first + _PIECE)
        mine = bare[piece]
        threads = holds["thread"][piece][mine]
        np.add.at(counts, threads, 1)
        np.add.at(held, threads, (holds["end_ns"][piece] - holds["start_ns"][piece])[mine])
        np.add.at(waited, threads, caused[piece][mine])
    for thread in np.flatnonzero(counts).tolist():
        times = int(counts[thread]), int(held[thread]), int(waited[thread])
        yield StackTime(thread, NO_LEAF, False, *times)

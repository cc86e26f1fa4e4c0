"""Holds that went on long after their thread had been asked for the GIL, and why.

Python code lets the GIL go within microseconds of a request. Whoever does not has one of three
reasons, told by its CPU time since the request and by what was seen of it when it was asked again:

- it computed for a millisecond and more: C code that keeps the GIL;
- it slept: C code that keeps the GIL and waits for something;
- neither: it had no processor.

Traces from before that was recorded do not know; there one such hold says nothing, and several at
one line may be either.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gilscope.analysis.collections import mostly_collections
from gilscope.analysis.intervals import lasted_until
from gilscope.trace.story import HOLD_REQUESTED, NO_LOOKS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gilscope.analysis.sites import Site, Sites
    from gilscope.trace.model import Trace

KEPT_NS = 10_000_000  # after the request, from which a hold counts of which no more is known
TIMES = 3  # at one line, from which it is a habit
FREEZE_NS = 100_000_000  # after the request, from which a single one is told
COMPUTED_NS = 1_000_000  # of CPU time after the request, which is more than Python code needs
ASLEEP = 50  # percent of the looks, from which it slept

# Why, or None where that is not known.
COMPUTES, SLEEPS, NO_PROCESSOR = "computes", "sleeps", "no-processor"


@dataclass(frozen=True)
class Kept:
    """The holds of one thread that were kept at one line. Times in ns."""

    thread: int
    site: Site | None  # None: at several lines, one as well as another
    why: str | None
    times: int
    median_ns: int  # from the request to the end
    late_ns: int  # the same in all, of holds whose CPU time is known
    cpu_ns: int  # of that its thread was on a processor
    waited_by: dict[int, int]  # thread id: how long it waited during these holds

    @property
    def waited_ns(self) -> int:
        """Of all threads together."""
        return sum(self.waited_by.values())


@dataclass(frozen=True)
class _Late:
    """One hold."""

    index: int
    late_ns: int
    cpu_ns: int | None


def kept_gils(trace: Trace, sites: Sites) -> list[Kept]:
    """What kept the GIL, by thread, line and reason, the worst first.

    Only lines that are known; who had no processor had none at any line.
    """
    if sites.of_hold is None and not len(trace.kept):
        return []
    holds = trace.holds
    told = {int(row["hold"]): row for row in trace.kept}
    collected = mostly_collections(trace)
    found: dict[tuple[int, int, str | None], list[_Late]] = {}
    for index, late_ns in _late_holds(trace):
        if collected[index]:
            continue  # known for what it was
        row = told.get(index)
        why = None if row is None else _why(row)
        number = 0 if sites.of_hold is None else int(sites.of_hold[index])
        site = sites.table[number]
        if why == NO_PROCESSOR:
            number = 0
        elif (why is None and late_ns < KEPT_NS) or (
            late_ns < FREEZE_NS and (site is None or not site.exact)
        ):
            continue
        cpu_ns = None if row is None else int(row["cpu_ns"])
        key = (int(holds["thread"][index]), number, why)
        found.setdefault(key, []).append(_Late(index, late_ns, cpu_ns))
    rows = []
    for (thread, number, why), kept in found.items():
        if len(kept) < TIMES and max(hold.late_ns for hold in kept) < FREEZE_NS:
            continue
        lengths = sorted(hold.late_ns for hold in kept)
        known = [hold for hold in kept if hold.cpu_ns is not None]
        rows.append(
            Kept(
                thread,
                sites.table[number],
                why,
                len(kept),
                lengths[len(lengths) // 2],
                sum(hold.late_ns for hold in known),
                sum(hold.cpu_ns or 0 for hold in known),
                _waited_by(trace, holds[sorted(hold.index for hold in kept)]),
            )
        )
    return sorted(rows, key=lambda row: -row.waited_ns)


def _late_holds(trace: Trace) -> Iterator[tuple[int, int]]:
    """Index of each hold that was kept, and how long after the request it ended."""
    holds = trace.holds
    yield from zip(trace.kept["hold"].tolist(), trace.kept["late_ns"].tolist(), strict=True)
    long = (holds["flags"] & HOLD_REQUESTED != 0) & (holds["end_ns"] - holds["start_ns"] >= KEPT_NS)
    long[trace.kept["hold"]] = False
    requests = trace.requests[np.argsort(trace.requests["time_ns"], kind="stable")]
    for index in np.flatnonzero(long).tolist():
        hold = holds[index]
        begin, end = (
            int(np.searchsorted(requests["time_ns"], hold[side], side="left"))
            for side in ("start_ns", "end_ns")
        )
        mine = requests["time_ns"][begin:end][requests["gil"][begin:end] == hold["gil"]]
        if len(mine):
            yield index, int(hold["end_ns"]) - int(mine[0])


def _why(row: NDArray[np.void]) -> str:
    if row["cpu_ns"] >= COMPUTED_NS:
        return COMPUTES
    asleep = row["asleep"] != NO_LOOKS and row["asleep"] >= ASLEEP
    return SLEEPS if asleep else NO_PROCESSOR


def _waited_by(trace: Trace, kept: NDArray[np.void]) -> dict[int, int]:
    """How long each thread waited during the holds `kept`, which ascend in time."""
    waits = trace.waits
    waited = np.zeros(len(trace.thread_stats), np.int64)
    for gil in np.unique(kept["gil"]):
        mine = kept[kept["gil"] == gil]
        begin, end = mine["start_ns"][0], mine["end_ns"][-1]
        meanwhile = (waits["end_ns"] > begin) & (waits["start_ns"] < end)
        at = np.flatnonzero(meanwhile & (waits["gil"] == gil))
        before, until = (lasted_until(mine, waits[side][at]) for side in ("start_ns", "end_ns"))
        np.add.at(waited, waits["thread"][at], until - before)
    return {thread: int(waited[thread]) for thread in np.flatnonzero(waited).tolist()}

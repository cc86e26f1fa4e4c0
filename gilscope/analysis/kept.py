"""Holds that went on long after their thread had been asked for the GIL.

Python code lets the GIL go within microseconds of a request. Who does not, is in C code that keeps
it (or was not given a processor: that is why one such hold says nothing, and several at one line
do).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gilscope.analysis.intervals import lasted_until
from gilscope.trace.story import HOLD_REQUESTED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gilscope.analysis.sites import Site, Sites
    from gilscope.trace.model import Trace

KEPT_NS = 10_000_000  # after the request, from which a hold counts: two switch intervals
TIMES = 3  # at one line


@dataclass(frozen=True)
class Kept:
    """The holds of one thread that were kept at one line. Times in ns."""

    thread: int
    site: Site
    times: int
    median_ns: int  # from the request to the end
    waited_by: dict[int, int]  # thread id: how long it waited during these holds

    @property
    def waited_ns(self) -> int:
        """Of all threads together."""
        return sum(self.waited_by.values())


def kept_gils(trace: Trace, sites: Sites) -> list[Kept]:
    """What kept the GIL, by thread and line, the worst first; only lines that are known."""
    if sites.of_hold is None:
        return []
    holds = trace.holds
    candidates = np.flatnonzero(
        (holds["flags"] & HOLD_REQUESTED != 0)
        & (holds["end_ns"] - holds["start_ns"] >= KEPT_NS)
        & (sites.of_hold > 0)
    )
    requests = trace.requests[np.argsort(trace.requests["time_ns"], kind="stable")]
    found: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for index in candidates.tolist():
        hold = holds[index]
        number = int(sites.of_hold[index])
        site = sites.table[number]
        if site is None or not site.exact:
            continue
        begin, end = (
            int(np.searchsorted(requests["time_ns"], hold[side], side="left"))
            for side in ("start_ns", "end_ns")
        )
        mine = requests["time_ns"][begin:end][requests["gil"][begin:end] == hold["gil"]]
        late = int(hold["end_ns"]) - int(mine[0]) if len(mine) else 0
        if late >= KEPT_NS:
            found.setdefault((int(hold["thread"]), number), []).append((late, index))
    rows = []
    for (thread, number), kept in found.items():
        site = sites.table[number]
        if len(kept) >= TIMES and site is not None:
            late_ns = sorted(late for late, _ in kept)
            waited = _waited_by(trace, holds[[index for _, index in kept]])
            rows.append(Kept(thread, site, len(kept), late_ns[len(late_ns) // 2], waited))
    return sorted(rows, key=lambda row: -row.waited_ns)


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

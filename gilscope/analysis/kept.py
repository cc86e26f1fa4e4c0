"""Holds that went on long after their thread had been asked for the GIL.

Python code lets the GIL go within microseconds of a request. Who does not, is in C code that keeps
it (or was not given a processor: that is why one such hold says nothing, and several at one line
do).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

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
    waited_ns: int  # of all threads together, during these holds


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
    kept_waiting = KeptWaiting(trace)
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
            waited = sum(kept_waiting(holds[index]) for _, index in kept)
            rows.append(Kept(thread, site, len(kept), late_ns[len(late_ns) // 2], waited))
    return sorted(rows, key=lambda row: -row.waited_ns)


class KeptWaiting:
    """How long threads waited for a GIL during a stretch of time, all together, in ns.

    Waiting up to t is the sum of t - begin over the waits that have begun, less that of t - end
    over those that have ended. The sums wrap around; their differences do not.
    """

    def __init__(self, trace: Trace) -> None:
        self._waits = trace.waits
        self._sums: dict[int, tuple[_Sum, _Sum]] = {}

    def __call__(self, hold: np.void) -> int:
        """During a row of HOLD_DTYPE."""
        gil = int(hold["gil"])
        if gil not in self._sums:
            mine = self._waits[self._waits["gil"] == gil]
            self._sums[gil] = (_Sum(mine["start_ns"]), _Sum(mine["end_ns"]))
        begun, ended = self._sums[gil]
        at = [begun(int(hold[side])) - ended(int(hold[side])) for side in ("start_ns", "end_ns")]
        return (at[1] - at[0]) & _WRAP


_WRAP = (1 << 64) - 1


class _Sum:
    """The sum of t - x over the x before t."""

    def __init__(self, times: NDArray[np.int64]) -> None:
        self._times = np.sort(times)
        self._before = np.cumsum(self._times)

    def __call__(self, t: int) -> int:
        n = int(np.searchsorted(self._times, t))
        return n * t - (int(self._before[n - 1]) if n else 0)

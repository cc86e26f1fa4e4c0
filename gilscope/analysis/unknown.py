"""What of each thread's life nobody knows: the gaps of its GIL, but for waits seen inside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gilscope.trace.story import NO_GAP

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gilscope.trace.model import Trace


def unknown_ns(trace: Trace, lives: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of each thread; `lives` has a row (start_ns, end_ns) for each.

    A GIL's beginning is no such gap: nothing was lost there. A thread that used several GILs has
    the gaps of its first, as far as it was not seen to hold or to wait.
    """
    stats, gaps = trace.thread_stats, trace.gaps
    unknown = np.zeros(len(stats), np.int64)
    lost = gaps["lost"] != 0
    if not lost.any():
        return unknown
    for gil in np.unique(stats["gil"]):
        threads = np.flatnonzero(stats["gil"] == gil)
        mine = lost & (gaps["gil"] == gil)
        before = _Before(gaps["start_ns"][mine], gaps["end_ns"][mine])
        unknown[threads] = before(lives[threads, 1]) - before(lives[threads, 0])
    waits = trace.waits[trace.waits["gap"] != NO_GAP]
    waits = waits[gaps["lost"][waits["gap"]] != 0]
    waits = waits[waits["gil"] == stats["gil"][waits["thread"]]]
    seen = np.minimum(gaps["end_ns"][waits["gap"]], waits["end_ns"]) - waits["start_ns"]
    np.subtract.at(unknown, waits["thread"], seen)
    outside = lives[:, 1] - lives[:, 0] - stats["held_ns"] - stats["waiting_ns"]
    return np.clip(unknown, 0, outside)


class _Before:
    """How much of some stretches, which ascend and do not overlap, lies before a time."""

    def __init__(self, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> None:
        self._starts, self._ends = starts, ends
        self._sums = ends - starts
        np.cumsum(self._sums, out=self._sums)

    def __call__(self, times: NDArray[np.int64]) -> NDArray[np.int64]:
        before = np.zeros(len(times), np.int64)
        last = np.searchsorted(self._starts, times, side="right") - 1
        some = last >= 0
        last = last[some]
        before[some] = self._sums[last] - np.maximum(self._ends[last] - times[some], 0)
        return before

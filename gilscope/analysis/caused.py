"""How much waiting each hold caused: the time that others waited for its GIL while it lasted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gilscope.trace.model import Trace


def caused_ns(trace: Trace) -> NDArray[np.int64]:
    """Of each row of `trace.holds`: summed over all threads that waited. ns.

    It is what blame has as `held` by that thread, hold by hold. Waiting while the GIL was free, or
    while nobody saw who held it, is of no hold.
    """
    holds, waits = trace.holds, trace.waits
    caused = np.zeros(len(holds), np.int64)
    holds_of, waits_of = (_by_gil(rows["gil"], len(trace.gil_stats)) for rows in (holds, waits))
    origin = trace.metadata.start_ns
    for mine, theirs in zip(holds_of, waits_of, strict=True):
        if len(mine) and len(theirs):
            waited = _Waited(waits["start_ns"][theirs] - origin, waits["end_ns"][theirs] - origin)
            caused[mine] = waited(holds["end_ns"][mine] - origin)
            caused[mine] -= waited(holds["start_ns"][mine] - origin)
    return caused


def _by_gil(gils: NDArray[np.uint16], count: int) -> list[NDArray[np.intp]]:
    """The rows of each GIL, in their order."""
    order = np.argsort(gils, kind="stable")
    return np.split(order, np.searchsorted(gils[order], np.arange(1, count))) if count else []


class _Waited:
    """How long threads had waited, together, up to a time.

    Σ over begins before t of (t - begin), less Σ over ends before t of (t - end). The sums may
    leave 64 bits in a long trace; the difference of two answers does not, and wraps back.
    """

    def __init__(self, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> None:
        self._times = starts, np.sort(ends)  # waits are in the order of their begins
        self._sums = [np.concatenate(([0], np.cumsum(times))) for times in self._times]

    def __call__(self, at: NDArray[np.int64]) -> NDArray[np.int64]:
        begun, ended = (
            (count := np.searchsorted(times, at)) * at - sums[count]
            for times, sums in zip(self._times, self._sums, strict=True)
        )
        answer: NDArray[np.int64] = begun - ended
        return answer

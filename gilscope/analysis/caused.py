"""How much waiting each hold caused: the time that others waited for its GIL while it lasted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from gilscope.trace.model import Trace

_PIECE = 1 << 16  # holds that are looked at together: temporary arrays are no longer


def caused_ns(trace: Trace) -> NDArray[np.int64]:
    """Of each row of `trace.holds`: summed over all threads that waited. ns.

    It is what blame has as `held` by that thread, hold by hold. Waiting while the GIL was free, or
    while nobody saw who held it, is of no hold.
    """
    caused = np.zeros(len(trace.holds), np.int64)
    for holds, waits in _by_gil(trace):
        waited = _Waited(trace.waits["start_ns"][waits], np.sort(trace.waits["end_ns"][waits]))
        mine = caused[holds]
        for first in range(0, len(mine), _PIECE):
            piece = slice(first, first + _PIECE)
            # The holds of a GIL ascend and do not overlap, so all these times ascend.
            times = np.stack([trace.holds[side][holds][piece] for side in ("start_ns", "end_ns")])
            until = waited(times.T.ravel()).reshape(-1, 2)
            mine[piece] = until[:, 1] - until[:, 0]
        caused[holds] = mine
    return caused


_Rows = slice | np.ndarray  # of a table


def _by_gil(trace: Trace) -> Iterator[tuple[_Rows, _Rows]]:
    """The holds and the waits of each GIL that has both, in their order."""
    tables = trace.holds["gil"], trace.waits["gil"]
    count = len(trace.gil_stats)
    if count == 1:
        if all(len(gils) for gils in tables):
            yield slice(None), slice(None)
        return
    orders = [np.argsort(gils, kind="stable") for gils in tables]
    ends = [
        np.searchsorted(gils[order], np.arange(count + 1))
        for gils, order in zip(tables, orders, strict=True)
    ]
    for gil in range(count):
        holds, waits = (
            order[end[gil] : end[gil + 1]] for order, end in zip(orders, ends, strict=True)
        )
        if len(holds) and len(waits):
            yield holds, waits


class _Waited:
    """How long threads had waited, together, up to times that ascend from call to call.

    Σ over begins before t of (t - begin), less Σ over ends before t of (t - end). The sums may
    leave 64 bits in a long trace; the difference of two answers does not, and wraps back.
    """

    def __init__(self, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> None:
        self._times = starts, ends  # each ascends
        self._done = [0, 0]  # how many of them lie before the last time that was asked for
        self._sums = [np.int64(0), np.int64(0)]  # of these

    def __call__(self, at: NDArray[np.int64]) -> NDArray[np.int64]:
        begun, ended = (self._passed(side, at) for side in (0, 1))
        answer: NDArray[np.int64] = begun - ended
        return answer

    def _passed(self, side: int, at: NDArray[np.int64]) -> NDArray[np.int64]:
        times, done = self._times[side], self._done[side]
        until = done + int(np.searchsorted(times[done:], at[-1]))
        new = np.ascontiguousarray(times[done:until])
        sums = np.concatenate((self._sums[side : side + 1], new)).cumsum()
        count = np.searchsorted(new, at)
        self._done[side], self._sums[side] = until, sums[-1]
        passed: NDArray[np.int64] = (done + count) * at - sums[count]
        return passed

"""Who had a lock during the waits for it.

A lock that is waited for is had by whoever releases it next: in a queue the one who ends a wait has
often had it for a moment only, and the wait is due to those before. So a wait is cut at each
release of its lock, and each part is that of the thread which releases at its end. What came behind
the last known release is nobody's. A wait for a condition has one part, of whoever ended it; so has
a wait for a lock for which hundreds wait at a time: its parts grow with the square of their number.
A lock that few wait for, however often, is cut exactly: its parts grow with its waits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gilscope.trace.story import NOBODY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gilscope.trace.model import Trace

_AT_ONCE = 1_000_000  # parts
MOST_PARTS, MOST_A_WAIT = 200_000, 200  # of the waits for one lock; of one of them, on average


class Parts(NamedTuple):
    """Parts of waits, which add up to these exactly; all parts of a wait are in the same ones."""

    wait: NDArray[np.intp]  # its number in the trace
    start_ns: NDArray[np.int64]
    ns: NDArray[np.int64]
    notify: NDArray[np.int64]  # the release at its end, by its number in the trace; -1: not known


class Releases:
    """Those of a trace, by process, object and time."""

    def __init__(self, trace: Trace) -> None:
        self._waits, told = trace.sync_waits, trace.notifies
        self._process_of = np.array([t.process for t in trace.metadata.threads], np.int64)
        process = self._process_of[told["thread"]]
        self._order = np.lexsort((told["time_ns"], told["object"], process))
        self._rank = np.zeros(len(told) + 1, np.int64)  # the last is of none
        self._rank[self._order] = np.arange(len(told))
        self._process, self._object = process[self._order], told["object"][self._order]
        self._time = told["time_ns"][self._order]

    def whole(self, waits: NDArray[np.intp]) -> Parts:
        """One part a wait."""
        rows = self._waits[waits]
        lengths = rows["end_ns"] - rows["start_ns"]
        return Parts(waits, rows["start_ns"], lengths, _known(rows["notify"]))

    def cut(self, waits: NDArray[np.intp]) -> Iterator[Parts]:
        """The parts of waits of one process."""
        if not len(waits):
            return
        process = self._process_of[self._waits["thread"][waits[0]]]
        first, last = np.searchsorted(self._process, (process, process + 1))
        released = self._object[first:last]
        waited_for = self._waits["object"][waits]
        waits = waits[np.argsort(waited_for, kind="stable")]
        objects, begins = np.unique(np.sort(waited_for), return_index=True)
        for about, mine in zip(objects, np.split(waits, begins[1:]), strict=True):
            low, high = (np.searchsorted(released, about, side) for side in ("left", "right"))
            yield from self._cut(mine, int(first + low), int(first + high))

    def _cut(self, waits: NDArray[np.intp], low: int, high: int) -> Iterator[Parts]:
        """Of one lock, whose releases stand from `low` to `high`."""
        rows, times = self._waits[waits], self._time[low:high]
        notify = _known(rows["notify"])
        first = np.searchsorted(times, rows["start_ns"], "right")
        ended = np.searchsorted(times, rows["end_ns"], "right")
        last = np.where(notify < 0, ended, self._rank[notify] - low + 1)
        count = np.maximum(last - first, 0)
        if int(count.sum()) > max(MOST_PARTS, MOST_A_WAIT * len(waits)):
            yield self.whole(waits)
            return
        at = 0
        while at < len(waits):
            many = np.cumsum(count[at:] + 1)
            some = slice(at, at + max(int(np.searchsorted(many, _AT_ONCE, "right")), 1))
            at = some.stop
            yield self._pieces(
                waits[some], rows[some], low + first[some], count[some], notify[some]
            )

    def _pieces(
        self,
        waits: NDArray[np.intp],
        rows: NDArray[np.void],
        first: NDArray[np.int64],
        count: NDArray[np.int64],
        notify: NDArray[np.int64],
    ) -> Parts:
        """A part up to each release, and one behind the last; that one is empty but for waits whose
        end nobody is known to have caused."""
        wait = np.repeat(np.arange(len(waits)), count + 1)
        number = np.arange(len(wait)) - np.repeat(np.cumsum(count + 1) - (count + 1), count + 1)
        is_last = number == count[wait]
        release = np.minimum(first[wait] + number, max(len(self._time) - 1, 0))
        ends = np.where(is_last, rows["end_ns"][wait], 0)
        ends[~is_last] = self._time[release[~is_last]]
        begins = np.where(number == 0, rows["start_ns"][wait], 0)
        begins[1:][number[1:] > 0] = ends[:-1][number[1:] > 0]
        caused = np.where(is_last, notify[wait], -1)
        caused[~is_last] = self._order[release[~is_last]]
        return Parts(waits[wait], begins, ends - begins, caused)


def _known(numbers: NDArray[np.uint32]) -> NDArray[np.int64]:
    known: NDArray[np.int64] = np.where(numbers == NOBODY, -1, numbers.astype(np.int64))
    return known

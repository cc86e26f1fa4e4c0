"""A processor, or not: what the kernel told of each thread, beside its holds and waits.

From `gilscope record --sched`. At each moment a thread is *running*, *preempted* (it wants a
processor and has none), *off* (it blocks or sleeps, or was woken and waits for a processor: the
kernel's records have no wakeups), or nothing is known of it. Where the probe knows the wakeup, the
GIL's release before this thread took it, `off` behind that is waiting for a processor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gilscope.trace.story import ACQUIRED, PROCESSOR_STATES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gilscope.trace.model import Trace

Row = dict[str, Any]

_N = len(PROCESSOR_STATES)
_OFF, _PREEMPTED, _UNKNOWN, _RUNNING = range(_N)
NAMES = {"running_ns": _RUNNING, "preempted_ns": _PREEMPTED, "off_ns": _OFF}
NOTHING: Row = dict.fromkeys((*NAMES, "unknown_ns"))


class Processors:
    """Answers for the threads of a trace. Times are ns."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        rows = trace.processors
        order = np.lexsort((rows["time_ns"], rows["thread"]))
        self._rows = rows[order]
        n = len(trace.thread_stats)
        self._firsts = np.searchsorted(self._rows["thread"], np.arange(n + 1))
        if self.told:  # else there is nothing to find of any thread
            self._holds = _grouped(trace.holds["thread"], n)
            self._waits = _grouped(trace.waits["thread"], n)
            self._freed = _freed(trace)

    @property
    def told(self) -> bool:
        """Whether the kernel was asked."""
        return self._trace.metadata.switches

    def of_thread(self, thread: int, life: tuple[int, int], unknown_ns: int) -> Row:
        """`held`, `waiting`, `outside` and `wakeups` of the summary; None where it is not known.

        `unknown_ns` of its life nobody knows whether it had the GIL: then it is not known what of
        it was outside either.
        """
        first, end = self._firsts[thread], self._firsts[thread + 1]
        if not self.told or first == end:
            return {"held": NOTHING, "waiting": NOTHING, "outside": NOTHING, "wakeups": NOTHING}
        up_to = _UpTo(self._rows[first:end], life[1])
        trace = self._trace
        held = up_to.within(*_edges(trace.holds[self._holds[thread]]))
        waits = trace.waits[self._waits[thread]]
        waiting = up_to.within(*_edges(waits))
        outside = up_to.within(*(np.array([at], np.int64) for at in life)) - held - waiting
        acquired = waits["ending"] == ACQUIRED
        freed = self._freed[self._waits[thread]][acquired]
        wakeups = up_to.within(freed, waits["end_ns"][acquired])
        return {
            "held": _row(held),
            "waiting": _row(waiting),
            "outside": NOTHING if unknown_ns else _row(outside),
            "wakeups": _row(wakeups),
        }

    def without_processor(self, holds: NDArray[np.int64]) -> NDArray[np.int64]:
        """For how long the thread of each of these holds wanted a processor and had none."""
        rows = self._trace.holds[holds]
        found = np.zeros(len(holds), np.int64)
        for thread in np.unique(rows["thread"]).tolist():
            first, end = self._firsts[thread], self._firsts[thread + 1]
            mine = rows["thread"] == thread
            if first != end:
                up_to = _UpTo(self._rows[first:end], int(rows["end_ns"][mine].max()))
                begin, until = (up_to.at(rows[side][mine]) for side in ("start_ns", "end_ns"))
                found[mine] = until[:, _PREEMPTED] - begin[:, _PREEMPTED]
        return found


class _UpTo:
    """How long one thread had been in each state up to a time."""

    def __init__(self, rows: NDArray[np.void], end_ns: int) -> None:
        self._times = rows["time_ns"]
        self._states = rows["state"].astype(np.int64)
        ends = np.append(self._times[1:], max(end_ns, int(self._times[-1])))
        lengths = ends - self._times
        spent = np.zeros((len(rows) + 1, _N), np.int64)
        spent[np.arange(1, len(rows) + 1), self._states] = lengths
        self._before = np.cumsum(spent, axis=0)

    def at(self, times: NDArray[np.int64]) -> NDArray[np.int64]:
        """One row a time."""
        index = np.searchsorted(self._times, times, side="right") - 1
        known = index >= 0
        index = np.maximum(index, 0)
        found: NDArray[np.int64] = self._before[index].copy()
        rows = np.arange(len(times))
        found[rows, self._states[index]] += np.where(known, times - self._times[index], 0)
        found[~known] = 0
        return found

    def within(self, begins: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
        """In these intervals together; what no record tells is unknown."""
        found: NDArray[np.int64] = (self.at(ends) - self.at(begins)).sum(axis=0)
        found[_UNKNOWN] = int((ends - begins).sum()) - found[[*NAMES.values()]].sum()
        return found


def _row(found: NDArray[np.int64]) -> Row:
    row: Row = {name: int(found[state]) for name, state in NAMES.items()}
    return {**row, "unknown_ns": int(found[_UNKNOWN])}


def _edges(rows: NDArray[np.void]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return rows["start_ns"], rows["end_ns"]


def _freed(trace: Trace) -> NDArray[np.int64]:
    """For each wait since when the GIL had been free when its thread took it: it was woken then, or
    came later.
    """
    holds, waits = trace.holds, trace.waits
    since: NDArray[np.int64] = waits["end_ns"].copy()
    for gil in np.unique(holds["gil"]):
        mine = holds[holds["gil"] == gil]
        theirs = np.flatnonzero((waits["gil"] == gil) & (waits["ending"] == ACQUIRED))
        own = np.searchsorted(mine["start_ns"], waits["end_ns"][theirs], side="left")
        before = np.where(own > 0, mine["end_ns"][np.maximum(own - 1, 0)], 0)
        since[theirs] = np.clip(before, waits["start_ns"][theirs], waits["end_ns"][theirs])
    return since


def _grouped(threads: NDArray[np.uint32], n: int) -> list[NDArray[np.intp]]:
    """Indices of the rows of each thread."""
    order = np.argsort(threads, kind="stable")
    found: list[NDArray[np.intp]] = np.split(
        order, np.searchsorted(threads[order], np.arange(1, max(n, 1)))
    )
    return found

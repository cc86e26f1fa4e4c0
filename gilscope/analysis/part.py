"""A stretch of one process's time: what its threads did in it, and for whom they waited."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gilscope.analysis.intervals import distribution, lasted_until
from gilscope.trace.story import ACQUIRED, NO_GAP

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gilscope.analysis.sites import Sites
    from gilscope.trace.model import Trace

Row = dict[str, Any]


class Parts:
    """Answers for one trace; times in CLOCK_MONOTONIC ns."""

    def __init__(self, trace: Trace, sites: Sites) -> None:
        self._trace, self._sites = trace, sites
        n = len(trace.metadata.threads)
        self._waits = _by_thread(trace.waits, n)
        self._holds = _by_thread(trace.holds, n)

    def threads(self, pid: int, start_ns: int, end_ns: int) -> list[Row]:
        """A row for each thread of the processes `pid` that lived then: fields of a thread's JSON.

        Waits and holds count as far as they lie in the stretch; the distributions have those that
        end in it, whole.
        """
        metadata = self._trace.metadata
        processes = {process.id for process in metadata.processes if process.pid == pid}
        rows = []
        for thread in metadata.threads:
            begin, end = max(start_ns, thread.start_ns), min(end_ns, thread.end_ns)
            if thread.process in processes and begin < end:
                rows.append(self._row(thread.id, thread.name, begin, end))
        return rows

    def _row(self, thread: int, name: str, start_ns: int, end_ns: int) -> Row:
        waits, holds = self._mine(self._waits, thread), self._mine(self._holds, thread)
        of_waits, of_holds = self._trace.waits[waits], self._trace.holds[holds]
        waiting, held = (_within(rows, start_ns, end_ns) for rows in (of_waits, of_holds))
        life = end_ns - start_ns
        unknown = self._unknown(of_waits, start_ns, end_ns, int(self._gil(thread)))
        known = max(life - unknown, waiting + held)
        ended = of_waits[_ends_in(of_waits, start_ns, end_ns)]
        ended = ended[ended["ending"] == ACQUIRED]
        cpu = ended["cpu"] != 0
        lengths = ended["end_ns"] - ended["start_ns"]
        over = of_holds[_ends_in(of_holds, start_ns, end_ns)]
        return {
            "id": thread,
            "name": name,
            "life_ns": life,
            "held_ns": held,
            "waiting_ns": waiting,
            "outside_ns": known - held - waiting,
            "unknown_ns": life - known,
            "waiting_share": waiting / known if known else None,
            "acquires": int(
                ((of_holds["start_ns"] >= start_ns) & (of_holds["start_ns"] < end_ns)).sum()
            ),
            "contended_acquires": len(ended),
            "wait_ns": distribution(lengths),
            "io_wait_ns": distribution(lengths[~cpu]),
            "cpu_wait_ns": distribution(lengths[cpu]),
            "hold_ns": distribution(over["end_ns"] - over["start_ns"]),
        }

    def held_by(self, waiter: int, start_ns: int, end_ns: int) -> Counter[tuple[int, int]]:
        """For whom a thread waited in the stretch: ns by (thread, index into `Sites.table`)."""
        waits = self._trace.waits[self._mine(self._waits, waiter)]
        waits = waits[(waits["start_ns"] < end_ns) & (waits["end_ns"] > start_ns)]
        begins = np.maximum(waits["start_ns"], start_ns)
        ends = np.minimum(waits["end_ns"], end_ns)
        causes: Counter[tuple[int, int]] = Counter()
        process = self._trace.metadata.threads[waiter].process
        for thread in self._trace.metadata.threads:
            if thread.process != process or thread.id == waiter:
                continue
            mine = self._mine(self._holds, thread.id)
            holds = self._trace.holds[mine]
            near = (holds["start_ns"] < end_ns) & (holds["end_ns"] > start_ns)
            mine, holds = mine[near], holds[near]
            of_hold = self._sites.of_hold
            places = np.zeros(len(mine), np.uint32) if of_hold is None else of_hold[mine]
            for place in np.unique(places):
                some = holds[places == place]
                spent = (lasted_until(some, ends) - lasted_until(some, begins)).sum()
                if spent > 0:
                    causes[thread.id, int(place)] = int(spent)
        return causes

    def _gil(self, thread: int) -> int:
        gil: int = self._trace.thread_stats["gil"][thread]
        return gil

    def _unknown(self, waits: NDArray[np.void], start_ns: int, end_ns: int, gil: int) -> int:
        """What of the stretch lies in gaps of the thread's GIL, but for waits seen inside them."""
        gaps = self._trace.gaps
        gaps = gaps[(gaps["gil"] == gil) & (gaps["lost"] != 0)]
        inside = waits[waits["gap"] != NO_GAP]
        return max(_within(gaps, start_ns, end_ns) - _within(inside, start_ns, end_ns), 0)

    @staticmethod
    def _mine(grouped: tuple[NDArray[np.intp], NDArray[np.intp]], thread: int) -> NDArray[np.intp]:
        order, bounds = grouped
        return order[bounds[thread] : bounds[thread + 1]]


def _by_thread(rows: NDArray[np.void], n_threads: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    order = np.argsort(rows["thread"], kind="stable")
    return order, np.searchsorted(rows["thread"][order], np.arange(n_threads + 1))


def _within(rows: NDArray[np.void], start_ns: int, end_ns: int) -> int:
    """How long intervals that ascend and do not overlap lasted in the stretch."""
    if not len(rows):
        return 0
    before, until = lasted_until(rows, np.array([start_ns, end_ns], np.int64)).tolist()
    return int(until - before)


def _ends_in(rows: NDArray[np.void], start_ns: int, end_ns: int) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = (rows["end_ns"] > start_ns) & (rows["end_ns"] <= end_ns)
    return inside


def worst_waiter(rows: Sequence[Row]) -> Row | None:
    """The row that waited longest, None where nobody did."""
    worst = max(rows, key=lambda row: row["waiting_ns"], default=None)
    return worst if worst and worst["waiting_ns"] else None

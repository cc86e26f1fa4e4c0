"""Locks, conditions and atomic sections of each process: what the summary says of them.

A feed that does not see an object says nothing of it; `known` tells whether an empty answer means
that there was none. docs/analysis.md has the definitions.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from gilscope.analysis.intervals import distribution, lasted_until
from gilscope.analysis.lock_rows import MOST_ROWS, LockWaits
from gilscope.trace.schema import SYNC_KIND_MASK, SYNC_OBJECT_MASK, Process, SyncKind
from gilscope.trace.story import NEVER, OF_CONDITION, TIMED_OUT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gilscope.analysis.sites import Sites
    from gilscope.trace.model import Trace

Row = dict[str, Any]


class Sync:
    """Answers for each process of a trace; rows are ready for `json.dumps`, times are ns."""

    def __init__(self, trace: Trace, sites: Sites) -> None:
        self._trace = trace
        self._sites = sites
        self._came_back = _came_back(trace, sites)
        self._lock_waits = LockWaits(trace, sites)
        table = trace.metadata.threads
        self._process_of = np.array([thread.process for thread in table], np.int64)
        self._waits = self._by_process(trace.sync_waits)
        self._notifies = self._by_process(trace.notifies)
        self._sections = self._by_process(trace.sections)

    def conditions(self, process: Process) -> list[Row] | None:
        """A row a condition, the longest waits first; None: the feed sees none."""
        waits, notifies = self._of(process, of_condition=True)
        if not len(waits) and not len(notifies) and not _known(process):
            return None
        told = self._trace.notifies[notifies]
        rows = [
            {
                **_condition(name, kind, self._trace.sync_waits[mine], theirs),
                **self._first(self._trace.sync_waits[mine], theirs),
                **self._lock_waits.describe(mine, of_condition=True),
            }
            for name, kind, mine, theirs in self._each_object(waits, told)
        ]
        return sorted(rows, key=_longest)

    def locks(self, process: Process) -> list[Row] | None:
        """A row a lock that somebody had to wait for, the longest waits first; None as above.

        A release wakes a waiter of another sort too: only waits make a row.
        """
        waits, _ = self._of(process, of_condition=False)
        if not len(waits) and not _known(process) and not process.locks:
            return None
        groups = self._lock_waits.group(waits)
        by_object = self._each_object(groups.pop(None), self._trace.notifies[:0])
        parts: list[tuple[str | None, str, NDArray[np.intp]]] = [
            (name, kind, mine) for name, kind, mine, _ in by_object
        ]
        parts += [(None, self._kind(mine), mine) for mine in groups.values()]
        parts.sort(key=lambda part: -int(self._lock_waits.lengths[part[2]].sum()))
        rows = [self._lock(*part, others=0) for part in parts[:MOST_ROWS]]
        if rest := parts[MOST_ROWS:]:
            mine = np.concatenate([mine for *_, mine in rest])
            rows.append(self._lock(None, self._kind(mine), mine, others=len(rest)))
        return rows

    def thread_waits(self) -> list[Row]:
        """Of each thread of the trace, in its order: what it waited for locks, and for events."""
        for_locks, lengths = self._lock_waits.for_locks(), self._lock_waits.lengths
        rows = []
        for mine in _grouped(self._trace.sync_waits["thread"], len(self._process_of)):
            for_lock = for_locks[mine]
            rows.append(
                {
                    "lock_wait_ns": distribution(lengths[mine[for_lock]]),
                    "outside": {
                        "lock_ns": int(lengths[mine[for_lock]].sum()),
                        "condition_ns": int(lengths[mine[~for_lock]].sum()),
                    },
                }
            )
        return rows

    def _lock(self, name: str | None, kind: str, waits: NDArray[np.intp], *, others: int) -> Row:
        lengths = self._lock_waits.lengths[waits]
        return {
            "object": name,
            "kind": kind,
            "waits": len(waits),
            "timeouts": int((self._trace.sync_waits["ending"][waits] == TIMED_OUT).sum()),
            "wait_ns": distribution(lengths),
            "others": others,
            **self._lock_waits.describe(waits, of_condition=False),
        }

    def _kind(self, waits: NDArray[np.intp]) -> str:
        kinds = np.unique(self._trace.sync_waits["object"][waits] & np.uint64(SYNC_KIND_MASK))
        return SyncKind(int(kinds[0])).label if len(kinds) == 1 else SyncKind.UNKNOWN.label

    def atomic(self, process: Process) -> Row | None:
        """What the atomic sections did; None: the feed sees none."""
        indices = self._sections.get(process.id)
        if indices is None and not _known(process):
            return None
        sections = self._trace.sections[np.zeros(0, np.intp) if indices is None else indices]
        return {
            "sections": len(sections),
            "deferred_yields": int(sections["deferred"].sum()),
            "held_ns": distribution(sections["held_ns"]),
            "length_ns": distribution(sections["end_ns"] - sections["start_ns"]),
            "waiters": self._waiters(sections) if len(sections) else [],
        }

    def _by_process(self, rows: NDArray[np.void]) -> dict[int, NDArray[np.intp]]:
        """Indices of `rows`, by process."""
        if not len(rows):
            return {}
        process_of = self._process_of[rows["thread"]]
        return {
            int(number): np.flatnonzero(process_of == number) for number in np.unique(process_of)
        }

    def _of(
        self, process: Process, *, of_condition: bool
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Indices of the waits and of the notifies of a process, for locks or for conditions."""
        parts = []
        for indices, rows in (
            (self._waits, self._trace.sync_waits),
            (self._notifies, self._trace.notifies),
        ):
            mine = indices.get(process.id, np.zeros(0, np.intp))
            parts.append(mine[(rows["object"][mine] >= OF_CONDITION) == of_condition])
        return parts[0], parts[1]

    def _each_object(
        self, indices: NDArray[np.intp], notifies: NDArray[np.void]
    ) -> Iterator[tuple[str, str, NDArray[np.intp], NDArray[np.void]]]:
        """Name, kind, indices of the waits and the notifies of each object; names count in the
        order of first sight.
        """
        waits = self._trace.sync_waits[indices]
        objects, first = np.unique(
            np.concatenate((waits["object"], notifies["object"])), return_index=True
        )
        times = np.concatenate((waits["start_ns"], notifies["time_ns"]))
        waits_order, notifies_order = (
            np.argsort(rows["object"], kind="stable") for rows in (waits, notifies)
        )
        sorted_waits = waits["object"][waits_order]
        sorted_notifies = notifies["object"][notifies_order]
        for number, index in enumerate(np.lexsort((objects, times[first])), 1):
            about = objects[index]
            mine = indices[_span(sorted_waits, waits_order, about)]
            theirs = notifies[_span(sorted_notifies, notifies_order, about)]
            what = "condition" if int(about) >= OF_CONDITION else "lock"
            name = f"{what} {number} at {int(about) & SYNC_OBJECT_MASK:#x}"
            yield name, SyncKind(int(about) & SYNC_KIND_MASK).label, mine, theirs

    def _first(self, waits: NDArray[np.void], notifies: NDArray[np.void]) -> Row:
        """Who first waited and who first notified, and where one came back who waited for the GIL
        long enough to have a stack: what tells one condition from another.
        """
        waits_back = waits[np.isin(waits["running_ns"], list(self._came_back))]
        ends = zip(waits_back["running_ns"].tolist(), waits_back["thread"].tolist(), strict=True)
        places = (self._came_back[end].get(thread) for end, thread in ends)
        return {
            "waiter": int(waits["thread"][0]) if len(waits) else None,
            "notifier": int(notifies["thread"][0]) if len(notifies) else None,
            "waiter_site": self._sites.json(next(filter(None, places), 0)),
        }

    def _waiters(self, sections: NDArray[np.void]) -> list[Row]:
        """Who waited for a GIL while a section held it, the longest first."""
        pieces = self._held_pieces(sections)
        waits = self._trace.waits[np.isin(self._trace.waits["gil"], np.unique(pieces["gil"]))]
        rows = []
        for thread in np.unique(waits["thread"]).tolist():
            mine = waits[waits["thread"] == thread]
            waited = sum(
                int(lasted_until(of_gil, theirs["end_ns"]).sum())
                - int(lasted_until(of_gil, theirs["start_ns"]).sum())
                for of_gil, theirs in _each_gil(mine, pieces)
            )
            if waited:
                rows.append({"thread": thread, "wait_ns": waited})
        rows.sort(key=lambda row: -row["wait_ns"])
        return rows

    def _held_pieces(self, sections: NDArray[np.void]) -> NDArray[np.void]:
        """The holds of threads inside of their sections, cut to them: rows of HOLD_DTYPE."""
        pieces = []
        for thread in np.unique(sections["thread"]):
            mine = sections[sections["thread"] == thread]
            holds = self._trace.holds[self._trace.holds["thread"] == thread]
            first = np.searchsorted(holds["end_ns"], mine["start_ns"], side="right")
            last = np.searchsorted(holds["start_ns"], mine["end_ns"], side="left")
            count = np.maximum(last - first, 0)
            section = np.repeat(np.arange(len(mine)), count)
            offset = np.arange(len(section)) - np.repeat(np.cumsum(count) - count, count)
            cut = holds[first[section] + offset]
            cut["start_ns"] = np.maximum(cut["start_ns"], mine["start_ns"][section])
            cut["end_ns"] = np.minimum(cut["end_ns"], mine["end_ns"][section])
            pieces.append(cut)
        return np.concatenate(pieces)


def _came_back(trace: Trace, sites: Sites) -> dict[int, dict[int, int]]:
    """By the end of a wait for a GIL, and thread: its site, where it has one."""
    if sites.of_wait is None:
        return {}
    known = np.flatnonzero(sites.of_wait)
    waits, numbers = trace.waits[known], sites.of_wait[known].tolist()
    found: dict[int, dict[int, int]] = {}
    ends = zip(waits["end_ns"].tolist(), waits["thread"].tolist(), numbers, strict=True)
    for end, thread, number in ends:
        found.setdefault(end, {})[thread] = number
    return found


def _known(process: Process) -> bool:
    """Whether the feed sees every object of the interpreter, so that none seen means none."""
    return process.feed == "built-in"


def _each_gil(
    waits: NDArray[np.void], pieces: NDArray[np.void]
) -> Iterator[tuple[NDArray[np.void], NDArray[np.void]]]:
    for gil in np.unique(waits["gil"]):
        yield waits[waits["gil"] == gil], pieces[pieces["gil"] == gil]


def _span(
    ascending: NDArray[np.uint64], order: NDArray[np.int64], value: np.uint64
) -> NDArray[np.int64]:
    first, last = np.searchsorted(ascending, value), np.searchsorted(ascending, value, "right")
    return order[first:last]


def _grouped(numbers: NDArray[np.uint32], count: int) -> Iterator[NDArray[np.intp]]:
    """The indices of each number from 0 to before `count`."""
    order = np.argsort(numbers, kind="stable")
    bounds = np.searchsorted(numbers[order], np.arange(count + 1)).tolist()
    for first, last in pairwise(bounds):
        yield order[first:last]


def _longest(row: Row) -> int:
    return -(row["wait_ns"]["sum"] or 0)


def _condition(name: str, kind: str, waits: NDArray[np.void], notifies: NDArray[np.void]) -> Row:
    woken = waits[waits["woken_ns"] != NEVER]
    back = woken[woken["running_ns"] != NEVER]
    return {
        "object": name,
        "kind": kind,
        "waits": len(waits),
        "timeouts": int((waits["ending"] == TIMED_OUT).sum()),
        "notifies": len(notifies),
        "wait_ns": distribution(waits["end_ns"] - waits["start_ns"]),
        "wakeup_ns": distribution(woken["end_ns"] - woken["woken_ns"]),
        "gil_ns": distribution(back["running_ns"] - back["woken_ns"]),
    }

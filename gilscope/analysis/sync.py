"""Locks, conditions and atomic sections of each process: what the summary says of them.

A feed that does not see an object says nothing of it; `known` tells whether an empty answer means
that there was none. docs/analysis.md has the definitions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from gilscope.analysis.intervals import distribution, lasted_until
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
        table = trace.metadata.threads
        self._process_of = np.array([thread.process for thread in table], np.int64)
        self._waits = self._by_process(trace.sync_waits)
        self._notifies = self._by_process(trace.notifies)
        self._sections = self._by_process(trace.sections)

    def conditions(self, process: Process) -> list[Row] | None:
        """A row a condition, the longest waits first; None: the feed sees none."""
        return self._objects(process, of_condition=True)

    def locks(self, process: Process) -> list[Row] | None:
        """A row a lock that somebody had to wait for, the longest waits first; None as above."""
        return self._objects(process, of_condition=False)

    def atomic(self, process: Process) -> Row | None:
        """What the atomic sections did; None: the feed sees none."""
        sections = self._sections.get(process.id)
        if sections is None:
            if not _known(process):
                return None
            sections = self._trace.sections[:0]
        return {
            "sections": len(sections),
            "deferred_yields": int(sections["deferred"].sum()),
            "held_ns": distribution(sections["held_ns"]),
            "length_ns": distribution(sections["end_ns"] - sections["start_ns"]),
            "waiters": self._waiters(sections) if len(sections) else [],
        }

    def _by_process(self, rows: NDArray[np.void]) -> dict[int, NDArray[np.void]]:
        if not len(rows):
            return {}
        process_of = self._process_of[rows["thread"]]
        return {int(number): rows[process_of == number] for number in np.unique(process_of)}

    def _objects(self, process: Process, *, of_condition: bool) -> list[Row] | None:
        empty = self._trace.sync_waits[:0], self._trace.notifies[:0]
        parts = []
        for rows, none in zip((self._waits, self._notifies), empty, strict=True):
            mine = rows.get(process.id, none)
            parts.append(mine[(mine["object"] >= OF_CONDITION) == of_condition])
        waits, notifies = parts
        if not len(waits) and not len(notifies) and not _known(process):
            return None
        if of_condition:
            answer = [
                {**_condition(*of_object), **self._first(*of_object[2:])}
                for of_object in _each_object(waits, notifies)
            ]
        else:  # a release wakes a waiter of another sort too: only waits make a row
            answer = [_lock(*of_object) for of_object in _each_object(waits, notifies[:0])]
        answer.sort(key=lambda row: -(row["wait_ns"]["sum"] or 0))
        return answer

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


def _each_object(
    waits: NDArray[np.void], notifies: NDArray[np.void]
) -> Iterator[tuple[str, str, NDArray[np.void], NDArray[np.void]]]:
    """Name, kind, waits and notifies of each object; names count in the order of first sight."""
    objects, first = np.unique(
        np.concatenate((waits["object"], notifies["object"])), return_index=True
    )
    times = np.concatenate((waits["start_ns"], notifies["time_ns"]))
    waits_order, notifies_order = (
        np.argsort(rows["object"], kind="stable") for rows in (waits, notifies)
    )
    sorted_waits, sorted_notifies = waits["object"][waits_order], notifies["object"][notifies_order]
    for number, index in enumerate(np.lexsort((objects, times[first])), 1):
        about = objects[index]
        mine = waits[_span(sorted_waits, waits_order, about)]
        theirs = notifies[_span(sorted_notifies, notifies_order, about)]
        what = "condition" if int(about) >= OF_CONDITION else "lock"
        name = f"{what} {number} at {int(about) & SYNC_OBJECT_MASK:#x}"
        yield name, SyncKind(int(about) & SYNC_KIND_MASK).label, mine, theirs


def _span(
    ascending: NDArray[np.uint64], order: NDArray[np.int64], value: np.uint64
) -> NDArray[np.int64]:
    first, last = np.searchsorted(ascending, value), np.searchsorted(ascending, value, "right")
    return order[first:last]


def _lock(name: str, kind: str, waits: NDArray[np.void], _: NDArray[np.void]) -> Row:
    return {
        "object": name,
        "kind": kind,
        "waits": len(waits),
        "timeouts": int((waits["ending"] == TIMED_OUT).sum()),
        "wait_ns": distribution(waits["end_ns"] - waits["start_ns"]),
    }


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

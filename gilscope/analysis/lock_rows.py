"""The rows of locks and conditions in a summary: what was waited for, who had it, where.

A row is of one object where that is known, and of one thing to wait for where it is not: a wait of
threading.Condition is for a lock made anew each time, so such waits are one row by their name and
place. docs/analysis.md has the definitions.
"""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from gilscope.analysis.intervals import lasted_until
from gilscope.analysis.library import SEMAPHORE
from gilscope.analysis.lock_parts import Parts, Releases
from gilscope.trace.schema import SYNC_KIND_MASK, SyncKind
from gilscope.trace.story import NOBODY, OF_CONDITION

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gilscope.analysis.sites import Sites
    from gilscope.trace.model import Trace

Row = dict[str, Any]

MOST_ROWS = 64  # of locks of a process, and of the blame of one; the rest is added up

_KEY = np.dtype([(name, "<u4") for name in ("waiter", "holder", "waiter_site", "holder_site")])


def _counts(blame: list[Row]) -> bool:
    """Whether a semaphore counts what others have done, and is nothing that they had: of those who
    released it none has waited for it, and none did so by the end of a `with`.
    """
    waiters = {row["waiter"] for row in blame}
    sites = [row["holder_site"] for row in blame if row["holder_site"]]
    by_with = any((site["library"] or "").endswith("__exit__") for site in sites)
    return bool(sites) and not by_with and waiters.isdisjoint(row["holder"] for row in blame)


class LockWaits:
    """The waits for locks and conditions of a trace with what is known of each, one row a wait."""

    def __init__(self, trace: Trace, sites: Sites) -> None:
        waits = trace.sync_waits
        self._trace, self._sites = trace, sites
        self._releases = Releases(trace)
        self._thread = waits["thread"]
        self._site = _or_zeros(sites.of_sync_wait, len(waits))
        self._library = _or_zeros(sites.library, len(waits))
        # Behind the last of them what is said of no release at all.
        self._by = np.append(trace.notifies["thread"], np.uint32(NOBODY))
        self._from = np.append(_or_zeros(sites.of_notify, len(trace.notifies)), np.uint32(0))
        self._lengths = waits["end_ns"] - waits["start_ns"]
        self._of_condition = waits["object"] >= OF_CONDITION
        self._parked = waits["object"] & np.uint64(SYNC_KIND_MASK) == SyncKind.PARKED

    def group(self, waits: NDArray[np.intp]) -> dict[tuple[int, int] | None, NDArray[np.intp]]:
        """Waits that make one row together, though the objects are not the same.

        By library and place; None has those that are rows by their object.
        """
        made_anew = np.array([bool(kind and kind.made_anew) for kind in self._sites.libraries])
        by_name = made_anew[self._library[waits]] | self._parked[waits]
        groups: dict[tuple[int, int] | None, NDArray[np.intp]] = {None: waits[~by_name]}
        named = waits[by_name]
        places = self._site[named].astype(np.uint64)
        pairs = self._library[named].astype(np.uint64) << np.uint64(32) | places
        for pair in np.unique(pairs).tolist():
            groups[pair >> 32, pair & 0xFFFFFFFF] = named[pairs == pair]
        return groups

    def describe(self, waits: NDArray[np.intp], *, of_condition: bool) -> Row:
        """What a row of these waits has besides its counts."""
        time = Counter[int]()
        for number in np.unique(self._library[waits]).tolist():
            if number:
                time[number] = int(self._lengths[waits][self._library[waits] == number].sum())
        library = self._sites.libraries[time.most_common(1)[0][0]] if time else None
        of_event = library.of_event if library else None
        if of_event is None:
            of_event = of_condition
        blame = self.blame(waits)
        if library and library.name == SEMAPHORE:
            of_event = _counts(blame)
        return {
            "library": library.name if library else None,
            "waits_for": "event" if of_event else "lock",
            "blame": blame,
        }

    def blame(self, waits: NDArray[np.intp]) -> list[Row]:
        """Who waited, who had it meanwhile and where both were, the longest first; each with the
        number of waits in which it has a part, and for how long who had it waited for the GIL. The
        time adds up exactly. All are of one process.
        """
        keys, (spent, counts, for_gil) = self._sums(waits)
        order = np.argsort(-spent, kind="stable")
        rows = [
            {
                "waiter": waiter,
                "holder": None if holder == NOBODY else holder,
                "wait_ns": int(spent[index]),
                "gil_ns": int(for_gil[index]),
                "waits": int(counts[index]),
                "waiter_site": self._sites.json(waiter_site),
                "holder_site": self._sites.json(holder_site),
                "others": 0,
            }
            for index in order[:MOST_ROWS].tolist()
            for waiter, holder, waiter_site, holder_site in (keys[index].tolist(),)
        ]
        # What is left: by waiter, so that each thread's rows still add up.
        left = order[MOST_ROWS:]
        waiters, of_waiter = np.unique(keys["waiter"][left], return_inverse=True)
        rest = np.zeros((4, len(waiters)), np.int64)
        for total, values in zip(rest, (spent, for_gil, counts, np.ones_like(spent)), strict=True):
            np.add.at(total, of_waiter, values[left])
        rows += [
            {
                "waiter": int(waiters[index]),
                "holder": None,
                "wait_ns": wait_ns,
                "gil_ns": gil_ns,
                "waits": n,
                "waiter_site": None,
                "holder_site": None,
                "others": others,
            }
            for index in np.argsort(-rest[0], kind="stable").tolist()
            for wait_ns, gil_ns, n, others in (rest[:, index].tolist(),)
        ]
        return rows

    def _sums(self, waits: NDArray[np.intp]) -> tuple[NDArray[np.void], NDArray[np.int64]]:
        """Of each key in these waits: its time, in how many it has a part, and the GIL's time."""
        is_whole = self._parked[waits] | self._of_condition[waits]
        whole, cut = self._releases.whole(waits[is_whole]), self._releases.cut(waits[~is_whole])
        sums = [self._sum(parts) for parts in chain((whole,), cut) if len(parts.wait)]
        if not sums:
            return np.zeros(0, _KEY), np.zeros((3, 0), np.int64)
        keys, inverse = np.unique(np.concatenate([its for its, _ in sums]), return_inverse=True)
        totals = np.zeros((3, len(keys)), np.int64)
        for total, values in zip(totals, np.concatenate([of for _, of in sums], 1), strict=True):
            np.add.at(total, inverse, values)
        return keys, totals

    def _sum(self, parts: Parts) -> tuple[NDArray[np.void], NDArray[np.int64]]:
        is_last = np.append(parts.wait[1:] != parts.wait[:-1], True)
        told = (parts.notify >= 0) | (self._lengths[parts.wait] == 0)
        counts = (parts.ns > 0) | (is_last & told)
        wait, start, ns, notify = (column[counts] for column in parts)
        of_parts = np.zeros(len(wait), _KEY)
        of_parts["waiter"], of_parts["waiter_site"] = self._thread[wait], self._site[wait]
        of_parts["holder"], of_parts["holder_site"] = self._by[notify], self._from[notify]
        keys, inverse = np.unique(of_parts, return_inverse=True)
        totals = np.zeros((3, len(keys)), np.int64)
        np.add.at(totals[0], inverse, ns)
        pairs = np.unique(inverse.astype(np.int64) * (int(wait.max()) + 1) + wait)
        totals[1] = np.bincount(pairs // (int(wait.max()) + 1), minlength=len(keys))
        np.add.at(totals[2], inverse, self._for_gil(of_parts["holder"], start, start + ns))
        return keys, totals

    @cached_property
    def _gil_waits(self) -> NDArray[np.void]:
        """The waits for a GIL, thread by thread."""
        waits = self._trace.waits
        return waits[np.lexsort((waits["start_ns"], waits["thread"]))]

    def _for_gil(
        self, holders: NDArray[np.uint32], start: NDArray[np.int64], end: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """For how long each of these threads waited for the GIL from `start` to `end`."""
        waited = np.zeros(len(holders), np.int64)
        order = np.argsort(holders, kind="stable")
        threads, begins = np.unique(holders[order], return_index=True)
        waiters = np.ascontiguousarray(self._gil_waits["thread"])
        firsts, lasts = (np.searchsorted(waiters, threads, side) for side in ("left", "right"))
        ends = np.append(begins[1:], len(order))
        for begin, behind, first, last in zip(begins, ends, firsts, lasts, strict=True):
            mine, its = order[begin:behind], self._gil_waits[first:last]
            if len(its):
                waited[mine] = lasted_until(its, end[mine]) - lasted_until(its, start[mine])
        return waited

    def for_locks(self) -> NDArray[np.bool_]:
        """Of each wait, whether it is for a lock and not for an event."""
        kinds = [kind.of_event if kind else None for kind in self._sites.libraries]
        events, unknown = (np.array([kind is what for kind in kinds]) for what in (True, None))
        of_event = events[self._library] | (unknown[self._library] & self._of_condition)
        for_locks: NDArray[np.bool_] = ~of_event
        return for_locks

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Of each wait, in ns."""
        lengths: NDArray[np.int64] = self._lengths
        return lengths


def _or_zeros(numbers: NDArray[np.uint32] | None, length: int) -> NDArray[np.uint32]:
    return np.zeros(length, np.uint32) if numbers is None else numbers

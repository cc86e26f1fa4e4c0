"""The rows of locks and conditions in a summary: what was waited for, who ended the waits, where.

A row is of one object where that is known, and of one thing to wait for where it is not: a wait of
threading.Condition is for a lock made anew each time, so such waits are one row by their name and
place. docs/analysis.md has the definitions.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from gilscope.trace.schema import SYNC_KIND_MASK, SyncKind
from gilscope.trace.story import NOBODY, OF_CONDITION

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gilscope.analysis.sites import Sites
    from gilscope.trace.model import Trace

Row = dict[str, Any]

MOST_ROWS = 64  # of locks of a process, and of the blame of one; the rest is added up

_KEY = np.dtype([(name, "<u4") for name in ("waiter", "holder", "waiter_site", "holder_site")])


class LockWaits:
    """The waits for locks and conditions of a trace with what is known of each, one row a wait."""

    def __init__(self, trace: Trace, sites: Sites) -> None:
        waits = trace.sync_waits
        self._sites = sites
        nothing = np.zeros(len(waits), np.uint32)
        self._keys = np.zeros(len(waits), _KEY)
        self._keys["waiter"], self._keys["holder"] = waits["thread"], waits["waker"]
        self._library = nothing if sites.library is None else sites.library
        if sites.of_sync_wait is not None and sites.of_notify is not None:
            self._keys["waiter_site"] = sites.of_sync_wait
            known = waits["notify"] != NOBODY
            self._keys["holder_site"][known] = sites.of_notify[waits["notify"][known]]
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
        places = self._keys["waiter_site"][named].astype(np.uint64)
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
        return {
            "library": library.name if library else None,
            "waits_for": "event" if (of_condition if of_event is None else of_event) else "lock",
            "blame": self.blame(waits),
        }

    def blame(self, waits: NDArray[np.intp]) -> list[Row]:
        """Who waited, who ended it and where both were, the longest first; adds up exactly."""
        keys, inverse = np.unique(self._keys[waits], return_inverse=True)
        spent = np.zeros(len(keys), np.int64)
        np.add.at(spent, inverse, self._lengths[waits])
        counts = np.bincount(inverse, minlength=len(keys))
        order = np.argsort(-spent, kind="stable")
        rows = [
            {
                "waiter": waiter,
                "holder": None if holder == NOBODY else holder,
                "wait_ns": int(spent[index]),
                "waits": int(counts[index]),
                "waiter_site": self._sites.json(waiter_site),
                "holder_site": self._sites.json(holder_site),
                "others": 0,
            }
            for index in order[:MOST_ROWS].tolist()
            for waiter, holder, waiter_site, holder_site in (keys[index].tolist(),)
        ]
        # What is left: by waiter, so that each thread's rows still add up.
        rest: defaultdict[int, list[int]] = defaultdict(lambda: [0, 0, 0])
        for index in order[MOST_ROWS:].tolist():
            of_waiter = rest[int(keys["waiter"][index])]
            for part, value in enumerate((int(spent[index]), int(counts[index]), 1)):
                of_waiter[part] += value
        rows += [
            {
                "waiter": waiter,
                "holder": None,
                "wait_ns": wait_ns,
                "waits": n,
                "waiter_site": None,
                "holder_site": None,
                "others": others,
            }
            for waiter, (wait_ns, n, others) in sorted(rest.items(), key=lambda it: -it[1][0])
        ]
        return rows

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

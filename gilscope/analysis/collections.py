"""Garbage collections: how many, how long, and whose holds were nothing else.

Python Plus tells each exactly. On a stock interpreter they are counted, in holds of a millisecond
and more, and how long they took has bounds (gilscope/probe/collections.h).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gilscope.trace.model import Trace

Row = dict[str, Any]

WORTH_NS = 2_500_000  # half of what a waiter waits before it asks: less is not what it waited for


def mostly_collections(trace: Trace) -> NDArray[np.bool_]:
    """For each hold whether its time went to collections: at least half of what came after the
    first request, or of all where nobody asked. (Python code lets the GIL go when it is asked.)
    """
    rows = trace.collected
    mostly = (rows["least_ns"] >= WORTH_NS) & (2 * rows["least_ns"] >= rows["late_ns"])
    found = np.zeros(len(trace.holds), bool)
    found[rows["hold"][mostly]] = True
    return found


def collections_of(trace: Trace) -> dict[int, Row | None]:
    """By process id the summary's `gc`; None where nobody could tell.

    `held_ns` is how long they took, None where that is not known exactly; it was `held_least_ns`
    at the least and `held_most_ns` at the most.
    """
    rows = trace.collected
    owner = np.array([t.process for t in trace.metadata.threads], np.int64)
    n = len(trace.metadata.processes)
    of = owner[trace.holds["thread"][rows["hold"]]] if len(rows) else np.zeros(0, np.int64)
    sums = {}
    for name in ("count", "least_ns", "most_ns"):
        sums[name] = np.zeros(n, np.int64)
        np.add.at(sums[name], of, rows[name].astype(np.int64))
    found: dict[int, Row | None] = {}
    for process in trace.metadata.processes:
        count, least, most = (int(sums[name][process.id]) for name in sums)
        found[process.id] = None
        if process.collections:
            found[process.id] = {
                "collections": count,
                "held_ns": least if least == most else None,
                "held_least_ns": least,
                "held_most_ns": most,
            }
    return found

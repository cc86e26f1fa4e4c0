"""The longest single waits, each with its story: who waited where, for whom, and where that was."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any

import numpy as np

from gilscope.trace.story import ACQUIRED, NO_GAP

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gilscope.analysis.sites import Sites
    from gilscope.trace.model import Trace

MOST = 10
_PIECE = 1 << 14


def longest_waits(trace: Trace, sites: Sites, most: int = MOST) -> list[dict[str, Any]]:
    """The `most` longest waits of a trace, the longest first. Times in ns.

    `holder` is the thread whose hold took the largest part of the wait (`held_ns`, at
    `holder_site`), or None: the GIL was free, or nobody saw who held it. `others` counts the
    other holds that the wait overlapped; for `free_ns` of the wait the GIL was free.
    """
    holds_of: dict[int, NDArray[np.intp]] = {}
    rows = []
    for index in _longest(trace.waits, most):
        gil = int(trace.waits["gil"][index])
        if gil not in holds_of:
            alone = trace.gil_stats["holds"][gil] == len(trace.holds)
            all_of_it = np.arange(len(trace.holds)) if alone else trace.holds["gil"] == gil
            holds_of[gil] = all_of_it if alone else np.flatnonzero(all_of_it)
        rows.append(_story(trace, sites, index, holds_of[gil]))
    return rows


def _longest(waits: NDArray[np.void], count: int) -> list[int]:
    """By pieces: an array of all lengths takes longer to get than to look through."""
    picked: list[tuple[int, int]] = []  # length, negated, and index
    for first in range(0, len(waits), _PIECE):
        piece = waits[first : first + _PIECE]
        lengths = piece["end_ns"] - piece["start_ns"]
        floor = -picked[-1][0] if len(picked) == count else 0
        longer = np.flatnonzero(lengths >= floor)
        if len(longer) > count:
            longer = longer[np.argsort(-lengths[longer], kind="stable")[:count]]
        picked += ((-int(lengths[at]), first + at) for at in longer.tolist())
        picked = sorted(picked)[:count]
    return [index for _, index in picked]


def _story(trace: Trace, sites: Sites, index: int, holds: NDArray[np.intp]) -> dict[str, Any]:
    wait = trace.waits[index]
    start, end, thread = int(wait["start_ns"]), int(wait["end_ns"]), int(wait["thread"])
    first = int(wait["hold"])
    starts = trace.holds["start_ns"]
    last = bisect_right(holds, end, first, key=lambda hold: int(starts[hold]))
    meant = holds[first:last]
    begins, ends = (trace.holds[field][meant] for field in ("start_ns", "end_ns"))
    parts = np.minimum(ends, end) - np.maximum(begins, start)
    parts[trace.holds["thread"][meant] == thread] = 0
    largest = int(np.argmax(parts)) if len(parts) else -1
    held_ns = int(parts[largest]) if len(parts) else 0
    hold = int(meant[largest]) if held_ns > 0 else None
    known = start
    if (gap := int(wait["gap"])) != NO_GAP:
        known = min(max(int(trace.gaps["end_ns"][gap]), start), end)
    return {
        "at_ns": start - trace.metadata.start_ns,
        "wait_ns": end - start,
        "waiter": thread,
        "waiter_site": _site(sites, sites.of_wait, index),
        "holder": None if hold is None else int(trace.holds["thread"][hold]),
        "held_ns": max(held_ns, 0),
        "holder_site": None if hold is None else _site(sites, sites.of_hold, hold),
        "free_ns": end - known - int(parts[parts > 0].sum()),
        "others": max(int(np.count_nonzero(parts > 0)) - 1, 0),
        "acquired": bool(wait["ending"] == ACQUIRED),
    }


def _site(sites: Sites, numbers: NDArray[np.uint32] | None, index: int) -> dict[str, Any] | None:
    return None if numbers is None else sites.json(int(numbers[index]))

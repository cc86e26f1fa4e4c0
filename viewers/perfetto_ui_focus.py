"""Where Perfetto's UI should open: at the longest wait, on the hold that made it long.

A whole trace is a carpet of green and red; one bad wait and what surrounds it show who waited and
who held.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from gilscope.trace.model import Trace

VISIBLE_WAITS = 10  # length of the visible stretch, in longest waits


@dataclass(frozen=True)
class Focus:
    """The slice that the UI selects and the stretch that it shows.

    Times are CLOCK_MONOTONIC ns, which is the time of a gilscope trace in Perfetto. Selecting a
    slice makes the UI draw the flows that lead to it and on from it.
    """

    slice_start_ns: int
    slice_length_ns: int
    visible_start_ns: int
    visible_end_ns: int


def longest_wait(trace: Trace) -> Focus | None:
    """Find the longest wait, and the hold of its GIL that covers most of it.

    None where no thread waited, or nobody was seen to hold what it waited for.
    """
    if not len(trace.waits):
        return None
    lengths = trace.waits["end_ns"] - trace.waits["start_ns"]
    wait = trace.waits[np.argmax(lengths)]
    holds = trace.holds[trace.holds["gil"] == wait["gil"]]
    if not len(holds):
        return None
    ends = np.minimum(holds["end_ns"], wait["end_ns"])
    hold = holds[np.argmax(ends - np.maximum(holds["start_ns"], wait["start_ns"]))]
    start, end = int(hold["start_ns"]), int(hold["end_ns"])
    width = VISIBLE_WAITS * int(lengths.max())
    return _around(start, end, width, (trace.metadata.start_ns, trace.metadata.end_ns))


def _around(start: int, end: int, width: int, bounds: tuple[int, int]) -> Focus:
    """Show `width` ns with the slice in the middle, as far as `bounds` allow.

    When the UI scrolls to the selected slice it moves the visible stretch so that the slice is in
    its middle; where that moves nothing, it zooms in until the slice fills a fifth of it. A stretch
    that is off by one nanosecond is moved, and keeps its width.
    """
    low, high = bounds
    width = max(0, min(width, high - low - 2))
    left = max(low, min((start + end) // 2 - width // 2, high - width))
    left += 1 if left + width < high else -1
    return Focus(start, end - start, left, left + width)

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

    Where that hold is too long to be shown beside the wait, it is the waiter's own next hold, to
    which a flow leads. None where no thread waited, or nobody was seen to hold the GIL.
    """
    if not len(trace.waits):
        return None
    waits, holds = trace.waits, trace.holds
    lengths = waits["end_ns"] - waits["start_ns"]
    wait = waits[np.argmax(lengths)]
    width = VISIBLE_WAITS * int(lengths.max())
    near = (holds["start_ns"] <= wait["end_ns"]) & (holds["end_ns"] > wait["start_ns"])
    holds = holds[near & (holds["gil"] == wait["gil"])]
    if not len(holds):
        return None
    fitting = holds[holds["end_ns"] - holds["start_ns"] <= width // 2]
    holds = fitting if len(fitting) else holds
    ends = np.minimum(holds["end_ns"], wait["end_ns"])
    hold = holds[np.argmax(ends - np.maximum(holds["start_ns"], wait["start_ns"]))]
    bounds = (trace.metadata.start_ns, trace.metadata.end_ns)
    return _around(int(hold["start_ns"]), int(hold["end_ns"]), width, bounds)


def _around(start: int, end: int, width: int, bounds: tuple[int, int]) -> Focus:
    """Show `width` ns with the slice in the middle, as far as `bounds` allow.

    When the UI scrolls to the selected slice it moves the visible stretch so that the slice is in
    its middle. It gives up the width, and lets the slice fill a fifth, in two cases: where the
    slice is longer than half of it, and where it would move nothing. So the stretch is off by one
    nanosecond.
    """
    low, high = bounds
    width = max(0, min(width, high - low - 2))
    left = max(low, min((start + end) // 2 - width // 2, high - width))
    left += 1 if left + width < high else -1
    return Focus(start, end - start, left, left + width)

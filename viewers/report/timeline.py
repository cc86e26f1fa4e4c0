"""The timeline of a report: when each group held the GIL and when it waited.

All time is in slots (how much of each was held, or waited, by the group's threads). The longest
intervals are kept exactly beside that, and taken out of the slots, so the page can zoom into them;
of the shorter ones it shows the average.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np

from gilscope.viewers.report.groups import Groups

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gilscope.trace.model import Trace

STATES = ("held", "waiting")
LANES = 16
SLOTS = 1024
EXACT = 40_000  # intervals that are kept, in all
TABLE_SLOTS = 10
_PIECE = 1 << 20  # intervals that are looked at together


class Timeline:
    """Lanes of a trace, the groups that waited longest first. `share[state, lane, slot]`: of the
    group's threads, how many were in that state, on average (0 to 1)."""

    def __init__(self, trace: Trace, groups: Groups) -> None:
        self.start_ns = trace.metadata.start_ns
        self.span_ns = max(trace.metadata.end_ns - self.start_ns, 1)
        self.lanes = groups.labels(LANES)
        n_lanes = len(self.lanes)
        sizes = [len(group.threads) for group in groups.table]
        self.threads = [*sizes[:LANES], *([sum(sizes[LANES:])] if n_lanes > LANES else [])]
        lane_of = np.minimum(groups.of_thread, n_lanes - 1).astype(np.int8)
        kept_from = self._least(trace)
        edges = np.arange(SLOTS + 1) * self.span_ns // SLOTS
        shape = (len(STATES), n_lanes, SLOTS)
        self.share = np.zeros(shape)
        self._rest = np.zeros(shape)  # of intervals that are not kept
        self._exact: list[list[NDArray[np.int64]]] = []
        widths = np.maximum(np.diff(edges), 1)
        for state, rows in enumerate((trace.holds, trace.waits)):
            lanes = lane_of[rows["thread"]]
            order = np.argsort(lanes, kind="stable").astype(np.uint32)
            ends = np.searchsorted(lanes[order], np.arange(n_lanes + 1))
            for lane in range(n_lanes):
                mine = order[ends[lane] : ends[lane + 1]]
                begin = rows["start_ns"][mine] - self.start_ns
                end = rows["end_ns"][mine] - self.start_ns
                whole = widths * max(self.threads[lane], 1)
                self.share[state, lane] = _spent(begin, end, edges) / whole
                kept = end - begin >= kept_from
                self._exact.append([begin[kept], end[kept]])
                self._rest[state, lane] = _spent(begin[~kept], end[~kept], edges) / whole
        self.kept_from_ns = kept_from
        self.lost = [
            (int(gap["start_ns"]) - self.start_ns, int(gap["end_ns"]) - self.start_ns)
            for gap in trace.gaps[trace.gaps["lost"] != 0][:1000]
        ]

    @staticmethod
    def _least(trace: Trace) -> int:
        """The length from which an interval is kept; 1: all of them are."""
        longest = np.zeros(0, np.int64)
        for rows in (trace.holds, trace.waits):
            for first in range(0, len(rows), _PIECE):
                piece = rows[first : first + _PIECE]
                longest = np.concatenate((longest, piece["end_ns"] - piece["start_ns"]))
                if len(longest) > EXACT:
                    longest = np.partition(longest, -EXACT - 1)[-EXACT - 1 :]
        return int(longest.min()) + 1 if len(longest) > EXACT else 1

    def json(self) -> dict[str, Any]:
        """What the page's script draws from. Times are in units of `unit_ns`; arrays are base64:
        begins and lengths of 32 bits, state by state and lane by lane, and shares of 16 bits."""
        unit = (self.span_ns >> 32) + 1
        times = [np.concatenate([b // unit, (e - b) // unit]) for b, e in self._exact]
        flat = np.concatenate([np.zeros(0, np.int64), *times]).astype("<u4")
        rest = np.ceil(np.clip(self._rest, 0, 1) * 65535).astype("<u2")
        return {
            "lanes": self.lanes,
            "threads": self.threads,
            "states": list(STATES),
            "span_ns": self.span_ns,
            "unit_ns": unit,
            "slots": SLOTS,
            "counts": [len(begins) for begins, _ in self._exact],
            "times": base64.b64encode(flat.tobytes()).decode(),
            "rest": base64.b64encode(rest.tobytes()).decode(),
            "lost": self.lost,
        }

    def rows(self) -> list[tuple[str, list[tuple[float, float]]]]:
        """Each lane with its shares of held and waiting in TABLE_SLOTS parts of the recording."""
        parts = np.array_split(np.arange(SLOTS), TABLE_SLOTS)
        return [
            (
                label,
                [
                    (
                        float(self.share[0, lane, part].mean()),
                        float(self.share[1, lane, part].mean()),
                    )
                    for part in parts
                ],
            )
            for lane, label in enumerate(self.lanes)
        ]


def _spent(
    begin: NDArray[np.int64], end: NDArray[np.int64], edges: NDArray[np.int64]
) -> NDArray[np.int64]:
    """How much of the time between each two edges intervals take, together. Begins ascend."""
    until = np.zeros(len(edges), np.int64)
    for times, sign in ((begin, 1), (np.sort(end), -1)):
        count = np.searchsorted(times, edges)
        parts = [int(part.sum()) for part in np.split(times, count)]
        until += sign * (count * edges - np.cumsum(parts[:-1]))
    spent: NDArray[np.int64] = np.diff(until)
    return spent

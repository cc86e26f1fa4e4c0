"""The trace as intervals: who held a GIL, who waited for it, who asked for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gilscope.trace import story as _story
from gilscope.trace.schema import EventSource, Metadata, Totals

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Trace:
    """A recording as arrays of intervals, one row each, times in CLOCK_MONOTONIC ns.

    The fields of the rows are in `gilscope.trace.story`: HOLD_DTYPE, WAIT_DTYPE, REQUEST_DTYPE,
    GAP_DTYPE, SYNC_WAIT_DTYPE, NOTIFY_DTYPE, SECTION_DTYPE, and STACK_OF_DTYPE: where in Python
    the end of a hold or wait found its thread (`stacks`), or where a wait for a lock or condition,
    a release or a notify was (`sync_stacks`), if that was recorded. KEPT_DTYPE: holds that went on
    after somebody had asked; COLLECTED_DTYPE: holds that had garbage collections;
    PROCESSOR_DTYPE: when threads had a processor, where the kernel was asked. Rows are in the
    order of their begins (stacks: of those ends); the holds of one GIL never overlap. The three
    tables of counts have one row a thread, a GIL, a process of `metadata`, in its order; they cover
    every event, and a GIL's `held_ns` is counted apart from its threads'.
    """

    name: str
    metadata: Metadata
    totals: Totals
    holds: NDArray[np.void]
    waits: NDArray[np.void]
    requests: NDArray[np.void]
    gaps: NDArray[np.void]
    sync_waits: NDArray[np.void]
    notifies: NDArray[np.void]
    sections: NDArray[np.void]
    stacks: NDArray[np.void]
    sync_stacks: NDArray[np.void]
    kept: NDArray[np.void]
    collected: NDArray[np.void]
    processors: NDArray[np.void]
    thread_stats: NDArray[np.void]
    gil_stats: NDArray[np.void]
    process_stats: NDArray[np.void]

    @classmethod
    def from_source(cls, source: EventSource) -> Trace:
        """Read `source` to its end. Raises TraceError, or ImpossibleStory if it contradicts itself.

        The arrays are views of memory that grows in place while the source is read.
        """
        story = _story.tell(source)
        return cls.of_story(story, source.name, source.metadata, source.totals)

    @classmethod
    def of_story(cls, story: _story.Story, name: str, metadata: Metadata, totals: Totals) -> Trace:
        """What a story that is finished has made of its events."""
        return cls(
            name=name,
            metadata=metadata,
            totals=totals,
            holds=story.array(_story.HOLDS),
            waits=story.array(_story.WAITS),
            requests=story.array(_story.REQUESTS),
            gaps=story.array(_story.GAPS),
            sync_waits=story.array(_story.SYNC_WAITS),
            notifies=story.array(_story.NOTIFIES),
            sections=story.array(_story.SECTIONS),
            stacks=story.array(_story.STACKS),
            sync_stacks=story.array(_story.SYNC_STACKS),
            kept=story.array(_story.KEPT),
            collected=story.array(_story.COLLECTED),
            processors=story.array(_story.PROCESSORS),
            thread_stats=story.array(_story.THREAD_STATS),
            gil_stats=story.array(_story.GIL_STATS),
            process_stats=story.array(_story.PROCESS_STATS),
        )

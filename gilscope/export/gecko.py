"""A processed profile of the Firefox Profiler (https://profiler.firefox.com), version 70.

Threads with their stacks: a sample is a hold of the GIL with its length as weight (`tracing-ms`),
so the call tree shows where it was held. Holds without a stack are added up in slots of time, a
sample a slot, so the weights of a thread add up to its held time. Its markers are holds, waits for
the GIL, for locks and for conditions; of too many the longest are kept, and the profile says so.

Rejected: the format that Firefox itself sends ("Gecko"), which is a process a file, and whose
strings and stacks are a thread each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gilscope import __version__
from gilscope.analysis.units import counted, duration
from gilscope.export.frames import LET_GO, NO_STACK
from gilscope.safe_text import escaped
from gilscope.trace.stacks import where
from gilscope.trace.story import OF_CONDITION

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gilscope.trace.model import Trace
    from gilscope.trace.schema import Stack, Thread

Table = dict[str, Any]

VERSION = 70  # of the processed format
GECKO_VERSION = 36
MOST_MARKERS = 300_000  # in all: 50 MB, which the page still opens
SLOTS = 100_000  # in all, for holds without a stack
LEAST_SLOTS = 20  # of a thread
VISIBLE = 20  # threads that are shown at first, those that waited longest
INTERVAL = 1  # marker phase

CATEGORIES = (
    ("Other", "grey"),
    ("holds GIL", "green"),
    ("waiting for GIL after IO", "red"),
    ("waiting for GIL after a forced yield", "orange"),
    ("waiting for lock", "purple"),
    ("waiting for condition", "blue"),
)
HOLD, IO_WAIT, CPU_WAIT, LOCK, CONDITION = range(1, len(CATEGORIES))
_MARKER_DTYPE = np.dtype(
    [("start_ns", "<i8"), ("end_ns", "<i8"), ("thread", "<u4"), ("what", "<i4"), ("stack", "<i4")]
)


def gecko(trace: Trace) -> Table:
    """The profile as a dictionary, ready for `json.dumps`. Times are ms from its start."""
    shared = _Shared(trace.metadata.stacks)
    stack_of_hold, stack_of_wait = _stacks_of_intervals(trace, shared)
    samples = _Samples(trace, stack_of_hold, shared.no_stack)
    markers, dropped, least_ns = _markers(trace, stack_of_hold, stack_of_wait)
    by_thread = np.argsort(markers["thread"], kind="stable")
    ends = np.searchsorted(
        markers["thread"][by_thread], np.arange(len(trace.metadata.threads) + 1)
    ).tolist()
    order = np.argsort(-trace.thread_stats["waiting_ns"], kind="stable").tolist()
    threads = []
    for number in order:
        mine = markers[by_thread[ends[number] : ends[number + 1]]]
        thread = trace.metadata.threads[number]
        threads.append(
            {
                **_life(trace, thread),
                "samples": samples.of(number),
                "markers": _marker_table(trace, mine, shared),
            }
        )
    return {
        "meta": _meta(trace, len(threads), dropped, least_ns),
        "libs": [],
        "pages": [],
        "shared": shared.json(),
        "threads": threads,
    }


def _meta(trace: Trace, threads: int, dropped: int, least_ns: int) -> Table:
    metadata = trace.metadata
    notes = [
        ("Events", "integer", trace.totals.events),
        ("Events lost", "integer", metadata.lost_events),
        ("Times of samples", "string", "how long the GIL was held"),
    ]
    if dropped:
        text = f"{counted(dropped, 'interval')} of up to {duration(least_ns)} have no marker"
        notes.append(("Left out", "string", text))
    start_ms = (metadata.start_ns + metadata.realtime_offset_ns) / 1e6
    return {
        "interval": 1,
        "startTime": start_ms,
        "endTime": start_ms + (metadata.end_ns - metadata.start_ns) / 1e6,
        "startTimeAsClockMonotonicNanosecondsSinceBoot": metadata.start_ns,
        "processType": 0,
        "product": escaped(" ".join(metadata.command)) or "gilscope",
        "importedFrom": f"gilscope {__version__}",
        "stackwalk": 0,
        "debug": False,
        "version": GECKO_VERSION,
        "preprocessedProfileVersion": VERSION,
        "symbolicated": True,
        "symbolicationNotSupported": True,
        "usesOnlyOneStackType": True,
        "sourceCodeIsNotOnSearchfox": True,
        "keepProfileThreadOrder": True,
        "initialVisibleThreads": list(range(min(threads, VISIBLE))),
        "initialSelectedThreads": [0] if threads else [],
        "categories": [
            {"name": name, "color": colour, "subcategories": ["Other"]}
            for name, colour in CATEGORIES
        ],
        "markerSchema": [
            {
                "name": "Text",
                "tableLabel": "{marker.data.name}",
                "chartLabel": "{marker.data.name}",
                "display": ["marker-chart", "marker-table", "timeline-overview"],
                "fields": [{"key": "name", "label": "Ended at", "format": "string"}],
            }
        ],
        "extra": [
            {
                "label": "gilscope",
                "entries": [
                    {"label": label, "format": form, "value": value} for label, form, value in notes
                ],
            }
        ],
    }


class _Shared:
    """Strings, frames and stacks of all threads. A stack's number is its Stack.id."""

    def __init__(self, stacks: tuple[Stack, ...]) -> None:
        self._strings: dict[str, int] = {}
        self._funcs: dict[tuple[int, int | None], int] = {}  # name, source
        self._sources: dict[int, int] = {}  # by file name
        self._frames: dict[tuple[int, int | None], int] = {}  # func, line
        self.stacks: tuple[Stack, ...] = stacks
        self._frame_of = [self._frame(row.function or "?", row.file, row.line) for row in stacks]
        self._offset_of = [0 if row.parent is None else row.id - row.parent for row in stacks]
        self._places = [escaped(where(row, 1)) for row in stacks]
        self._let_go: dict[int, int] = {}
        self.no_stack = self._add(self._frame(NO_STACK, "", 0), None, NO_STACK)

    def let_go(self, leaf: int) -> int:
        """The stack whose last frame is marked as one that a hold let go at."""
        if leaf not in self._let_go:
            row = self.stacks[leaf]
            frame = self._frame(f"{row.function or '?'} {LET_GO}", row.file, row.line)
            self._let_go[leaf] = self._add(frame, row.parent, f"{self._places[leaf]} {LET_GO}")
        return self._let_go[leaf]

    def string(self, text: str) -> int:
        """Its number."""
        return self._strings.setdefault(escaped(text), len(self._strings))

    def payload(self, stack: int) -> Table:
        """What a marker says that ended in that stack."""
        return {"type": "Text", "name": self._places[stack], "cause": {"stack": stack}}

    def _add(self, frame: int, parent: int | None, place: str) -> int:
        number = len(self._frame_of)
        self._places.append(place)
        self._frame_of.append(frame)
        self._offset_of.append(0 if parent is None else number - parent)
        return number

    def _frame(self, function: str, file: str, line: int) -> int:
        source = None
        if file:
            source = self._sources.setdefault(self.string(file), len(self._sources))
        func = self._funcs.setdefault((self.string(function), source), len(self._funcs))
        return self._frames.setdefault((func, line or None), len(self._frames))

    def json(self) -> Table:
        """`profile.shared`."""
        frames, funcs, sources = len(self._frames), len(self._funcs), len(self._sources)
        return {
            "stackTable": {
                "frame": self._frame_of,
                "prefixOffset": self._offset_of,
                "length": len(self._frame_of),
            },
            "frameTable": {
                "address": [-1] * frames,
                "lib": [-1] * frames,
                "inlineDepth": [0] * frames,
                "category": [HOLD] * frames,
                "subcategory": [0] * frames,
                "func": [func for func, _ in self._frames],
                "nativeSymbol": [None] * frames,
                "innerWindowID": [0] * frames,
                "line": [line for _, line in self._frames],
                "column": [None] * frames,
                "originalLocation": [None] * frames,
                "length": frames,
            },
            "funcTable": {
                "name": [name for name, _ in self._funcs],
                "isJS": [False] * funcs,
                "relevantForJS": [False] * funcs,
                "resource": [-1] * funcs,
                "source": [source for _, source in self._funcs],
                "lineNumber": [None] * funcs,
                "columnNumber": [None] * funcs,
                "originalLocation": [None] * funcs,
                "length": funcs,
            },
            "resourceTable": {"name": [], "host": [], "type": [], "length": 0},
            "nativeSymbols": {
                "libIndex": [],
                "address": [],
                "name": [],
                "functionSize": [],
                "length": 0,
            },
            "sources": {
                "id": [None] * sources,
                "filename": list(self._sources),
                "startLine": [1] * sources,
                "startColumn": [1] * sources,
                "sourceMapURL": [None] * sources,
                "content": [None] * sources,
                "length": sources,
            },
            "sourceLocationTable": {"source": [], "line": [], "column": [], "length": 0},
            "stringArray": list(self._strings),
        }


def _stacks_of_intervals(
    trace: Trace, shared: _Shared
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The stack of each hold and of each wait, -1 where none was recorded."""
    of_hold, of_wait = (np.full(len(rows), -1, np.int32) for rows in (trace.holds, trace.waits))
    rows = trace.stacks
    waits, seen = rows["of_wait"] != 0, rows["seen"] != 0
    of_wait[rows["interval"][waits]] = rows["leaf"][waits]
    of_hold[rows["interval"][~waits & seen]] = rows["leaf"][~waits & seen]
    ended = rows[~waits & ~seen]
    leaves, inverse = np.unique(ended["leaf"], return_inverse=True)
    marked = np.array([shared.let_go(leaf) for leaf in leaves.tolist()], np.int32)
    if len(marked):
        of_hold[ended["interval"]] = marked[inverse]
    return of_hold, of_wait


class _Samples:
    """The samples of each thread."""

    def __init__(self, trace: Trace, stack_of_hold: NDArray[np.int32], no_stack: int) -> None:
        metadata, holds = trace.metadata, trace.holds
        count = max(len(metadata.threads), 1)
        slots = max(LEAST_SLOTS, SLOTS // count)
        self._no_stack = no_stack
        span = max(metadata.end_ns - metadata.start_ns, 1)
        starts = holds["start_ns"] - metadata.start_ns
        lengths = holds["end_ns"] - holds["start_ns"]
        bare = stack_of_hold < 0
        slot = np.clip(starts[bare] * slots // span, 0, slots - 1)
        sums = np.zeros(count * slots, np.int64)
        np.add.at(sums, holds["thread"][bare] * np.int64(slots) + slot, lengths[bare])
        used = np.flatnonzero(sums)
        threads = np.concatenate((holds["thread"][~bare].astype(np.int64), used // slots))
        times = np.concatenate((starts[~bare], used % slots * span // slots))
        stacks = np.concatenate((stack_of_hold[~bare], np.full(len(used), no_stack, np.int32)))
        weights = np.concatenate((lengths[~bare], sums[used]))
        order = np.lexsort((times, threads))
        self._ends = np.searchsorted(threads[order], np.arange(count + 1)).tolist()
        self._columns = stacks[order], times[order] / 1e6, weights[order] / 1e6

    def of(self, thread: int) -> Table:
        """`thread.samples`."""
        first, last = self._ends[thread], self._ends[thread + 1]
        stack, time, weight = (column[first:last].tolist() for column in self._columns)
        return {
            "stack": stack,
            "time": time,
            "weight": weight,
            "weightType": "tracing-ms",
            "length": last - first,
        }


def _markers(
    trace: Trace, stack_of_hold: NDArray[np.int32], stack_of_wait: NDArray[np.int32]
) -> tuple[NDArray[np.void], int, int]:
    """Rows of _MARKER_DTYPE, how many were left out, and the length of the longest of these."""
    sources = (
        (trace.holds, np.full(len(trace.holds), HOLD), stack_of_hold),
        (trace.waits, np.where(trace.waits["cpu"] != 0, CPU_WAIT, IO_WAIT), stack_of_wait),
        (
            trace.sync_waits,
            np.where(trace.sync_waits["object"] >= OF_CONDITION, CONDITION, LOCK),
            np.full(len(trace.sync_waits), -1, np.int32),
        ),
    )
    lengths = np.concatenate([rows["end_ns"] - rows["start_ns"] for rows, *_ in sources])
    dropped, least = max(len(lengths) - MOST_MARKERS, 0), -1
    if dropped:
        least = int(np.partition(lengths, dropped - 1)[dropped - 1])
    parts = []
    for rows, what, stack in sources:
        kept = rows["end_ns"] - rows["start_ns"] > least
        part = np.empty(int(kept.sum()), _MARKER_DTYPE)
        for field in ("start_ns", "end_ns", "thread"):
            part[field] = rows[field][kept]
        part["what"], part["stack"] = what[kept], stack[kept]
        parts.append(part)
    found = np.concatenate(parts)
    found = found[np.argsort(found["start_ns"], kind="stable")]
    return found, len(lengths) - len(found), least


def _life(trace: Trace, thread: Thread) -> Table:
    """Who a thread is, and what of it is not known: `pausedRanges`."""
    process = trace.metadata.processes[thread.process]
    start = trace.metadata.start_ns
    gaps = trace.gaps[
        (trace.gaps["lost"] != 0) & (trace.gaps["gil"] == trace.thread_stats["gil"][thread.id])
    ]
    return {
        "processType": "default",
        "processName": escaped(" ".join(process.command)) or f"process {process.pid}",
        "processStartupTime": (process.start_ns - start) / 1e6,
        "processShutdownTime": (process.end_ns - start) / 1e6,
        "registerTime": (thread.start_ns - start) / 1e6,
        "unregisterTime": (thread.end_ns - start) / 1e6,
        "pausedRanges": [
            {
                "startTime": (begin - start) / 1e6,
                "endTime": (end - start) / 1e6,
                "reason": "profiler-paused",
            }
            for begin, end in zip(gaps["start_ns"].tolist(), gaps["end_ns"].tolist(), strict=True)
        ],
        "showMarkersInTimeline": True,
        "name": escaped(thread.name),
        "isMainThread": thread.is_main,
        # Both may be used again in a recording; the page wants them unique.
        "pid": f"{process.pid}.{process.id}",
        "tid": f"{thread.tid}.{thread.id}",
    }


def _marker_table(trace: Trace, markers: NDArray[np.void], shared: _Shared) -> Table:
    what = markers["what"].tolist()
    names = [shared.string(name) for name, _ in CATEGORIES]
    start = trace.metadata.start_ns
    return {
        "data": [None if n < 0 else shared.payload(n) for n in markers["stack"].tolist()],
        "name": [names[number] for number in what],
        "startTime": ((markers["start_ns"] - start) / 1e6).tolist(),
        "endTime": ((markers["end_ns"] - start) / 1e6).tolist(),
        "phase": [INTERVAL] * len(markers),
        "category": what,
        "length": len(markers),
    }

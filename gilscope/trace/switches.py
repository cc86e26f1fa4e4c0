"""Context switches beside the rings (recorder/switches.h) as events of the trace's threads.

The kernel tells tids, and of every thread of the program; the trace has threads that touched a GIL.
A switch is the thread's that has this tid and began last before it. Of each thread the events
alternate, begin where it began if it was running then, and end with it.

They are a stream of their own beside the rings' events: each thread's ascend in time, and where
they stand among the others says nothing.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gilscope.errors import TraceError
from gilscope.recorder.switches import RECORD_BYTES, SWITCHES
from gilscope.trace.schema import (
    EVENT_DTYPE,
    NO_GIL,
    PREEMPTED,
    PROCESSOR_MASK,
    PROCESSOR_WHY_SHIFT,
    UNSEEN,
    WENT_OFF,
    EventKind,
    Metadata,
    Thread,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

_RECORD = np.dtype([("time_ns", "<u8"), ("tid", "<u4"), ("cpu", "<u2"), ("flags", "<u2")])
_HEAD = struct.Struct("<QQQQQ")
_MAGIC = 0x3148435449575331
_AT = 4096
_IN, _PREEMPTED, _LOST = 1, 2, 4
_MOST_CAPACITY = 1 << 26
_ON, _OFF = int(EventKind.PROCESSOR_ON), int(EventKind.PROCESSOR_OFF)
SETTLE_NS = 2_000_000_000  # a thread is in the tables so much after its begin


class Switches:
    """Reads one recording's file, while it grows or after. Owner: one thread."""

    def __init__(self, directory: Path) -> None:
        """There may be none: then nothing is ever given. Raises TraceError."""
        self._read = 0  # records
        self._pending = np.zeros(0, _RECORD)
        self._threads = _Threads()
        self._overrun = 0
        self.given_until_ns = 0  # all before this time was given
        try:
            with open(directory / SWITCHES, "rb") as file:
                self._map: mmap.mmap | None = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
                self._fd = os.dup(file.fileno())
        except (FileNotFoundError, ValueError):
            self._map = None
            return
        magic, self._capacity, *_ = _HEAD.unpack_from(self._map)
        if magic != _MAGIC or not 0 < self._capacity <= _MOST_CAPACITY:
            raise TraceError(f"{directory / SWITCHES}: no context switches of gilscope's")

    @property
    def told(self) -> bool:
        """Whether there are any."""
        return self._map is not None

    @property
    def lost(self) -> int:
        """Records that the kernel had no room for, or that nobody read in time."""
        if self._map is None:
            return 0
        _, _, written, _, lost = _HEAD.unpack_from(self._map)
        return int(lost + self._overrun + max(0, written - self._capacity - self._read))

    def described(self, metadata: Metadata) -> Metadata:
        """`metadata` with what it says of them."""
        return replace(metadata, switches=self.told, lost_switches=self.lost)

    def close(self) -> None:
        """Let the file go."""
        if self._map is not None:
            self._map.close()
            os.close(self._fd)
            self._map = None

    def settled(self, threads: Sequence[Thread]) -> NDArray[np.void]:
        """Events of what is old enough for its thread to be in this table. While it grows."""
        if self._map is None:
            return np.zeros(0, EVENT_DTYPE)
        self._fetch()
        until = _HEAD.unpack_from(self._map)[3]
        self.given_until_ns = max(0, until - SETTLE_NS)
        ready = self._pending["time_ns"] < self.given_until_ns
        records, self._pending = self._pending[ready], self._pending[~ready]
        return self._threads.events_of(records, threads)

    def rest(self, metadata: Metadata) -> NDArray[np.void]:
        """Events of all that is left. The recording is over, and the table of threads whole."""
        if self._map is None:
            return np.zeros(0, EVENT_DTYPE)
        self._fetch()
        records, self._pending = self._pending, np.zeros(0, _RECORD)
        events = self._threads.events_of(records, metadata.threads)
        return np.concatenate([events, self._threads.ends_of(metadata.threads)])

    def _fetch(self) -> None:
        assert self._map is not None
        written = _HEAD.unpack_from(self._map)[2]
        first = max(self._read, written - self._capacity)
        lost = first - self._read
        parts = [self._pending]
        while first < written:
            at = first % self._capacity
            n = min(written - first, self._capacity - at)
            data = os.pread(self._fd, n * RECORD_BYTES, _AT + at * RECORD_BYTES)
            parts.append(np.frombuffer(data, _RECORD))
            first += n
        # What was written over while it was read is not what it was.
        over = _HEAD.unpack_from(self._map)[2] - self._capacity
        records = np.concatenate(parts)
        if over > max(self._read, written - self._capacity):
            gone = over - max(self._read, written - self._capacity)
            gone = min(gone, len(records) - len(self._pending))
            records = np.delete(records, slice(len(self._pending), len(self._pending) + gone))
            lost += gone
        self._read = written
        if lost:
            self._overrun += lost
            at_ns = records["time_ns"][len(self._pending) :].min(initial=np.iinfo(np.int64).max)
            gap = np.array([(at_ns, min(lost, 0xFFFFFFFF), 0, _LOST)], _RECORD)
            records = np.concatenate([records, gap])
        self._pending = records


class _Threads:
    """Which thread a tid is when, and whether it is running as far as its events told."""

    def __init__(self) -> None:
        self._running: dict[int, int] = {}  # thread id: its processor, while it runs
        self._told: dict[int, int] = {}  # thread id: time of its last event
        self._before: dict[int, tuple[bool, int, int]] = {}  # tid: on, processor, why of the last

    def events_of(self, records: NDArray[np.void], threads: Sequence[Thread]) -> NDArray[np.void]:
        """In the order of their times."""
        given = dict(self._told)
        gaps = records[records["flags"] & _LOST != 0]
        records = records[records["flags"] & _LOST == 0]
        rows_of: dict[int, list[Thread]] = {}
        for thread in threads:
            rows_of.setdefault(thread.tid, []).append(thread)
        order = np.lexsort((records["time_ns"], records["tid"]))
        records = records[order]
        tids, firsts = np.unique(records["tid"], return_index=True)
        ends = [*firsts[1:].tolist(), len(records)][: len(tids)]
        parts = []
        for tid, first, end in zip(tids.tolist(), firsts.tolist(), ends, strict=True):
            mine = records[first:end]
            rows = sorted(rows_of.get(tid, ()), key=lambda row: row.start_ns)
            starts = np.array([row.start_ns for row in rows], np.int64)
            which = np.searchsorted(starts, mine["time_ns"].astype(np.int64), side="right") - 1
            for number in np.unique(which).tolist():
                of_it = mine[which == number]
                if number >= 0:
                    parts.append(self._events(rows[number], of_it))
                last = of_it[-1]
                why = PREEMPTED if last["flags"] & _PREEMPTED else WENT_OFF
                self._before[tid] = bool(last["flags"] & _IN), int(last["cpu"]), why
        parts += self._unseen(gaps, given)
        if not parts:
            return np.zeros(0, EVENT_DTYPE)
        events = np.concatenate(parts)
        return events[np.argsort(events["time_ns"], kind="stable")]

    def _events(self, thread: Thread, records: NDArray[np.void]) -> NDArray[np.void]:
        on = records["flags"] & _IN != 0
        why = np.where(records["flags"] & _PREEMPTED != 0, PREEMPTED, WENT_OFF).astype(np.uint64)
        events = np.zeros(len(records), EVENT_DTYPE)
        events["time_ns"] = records["time_ns"]
        events["thread"], events["gil"] = thread.id, NO_GIL
        events["kind"] = np.where(on, _ON, _OFF)
        events["arg"] = records["cpu"] | np.where(on, 0, why << PROCESSOR_WHY_SHIFT).astype(
            np.uint64
        )
        if thread.id not in self._told:
            events = np.concatenate([self._begin(thread, records[0]), events])
        if on[-1]:
            self._running[thread.id] = int(records["cpu"][-1])
        else:
            self._running.pop(thread.id, None)
        self._told[thread.id] = int(events["time_ns"][-1])
        return events

    def _begin(self, thread: Thread, first: NDArray[np.void]) -> NDArray[np.void]:
        """What it did when it began (or what is kept did), as its records before that tell. One
        that leaves a processor first had it from the begin on.
        """
        on, processor, why = self._before.get(thread.tid, (False, 0, WENT_OFF))
        leaves = not first["flags"] & _IN
        if leaves and not on:
            on, processor = True, int(first["cpu"])
        elif thread.tid not in self._before:
            return np.zeros(0, EVENT_DTYPE)
        argument = processor if on else processor | why << PROCESSOR_WHY_SHIFT
        row = (thread.start_ns, argument, thread.id, NO_GIL, _ON if on else _OFF, 0)
        return np.array([row], EVENT_DTYPE)

    def _unseen(self, gaps: NDArray[np.void], given: dict[int, int]) -> list[NDArray[np.void]]:
        """From a loss on nothing is known of anybody, up to the next event of each. `given`: up to
        when each thread's events are given already.
        """
        parts = []
        for gap in gaps:
            events = np.zeros(len(self._told), EVENT_DTYPE)
            events["thread"] = list(self._told)
            after = np.array([given.get(number, 0) for number in self._told], np.int64)
            events["time_ns"] = np.maximum(after, np.int64(gap["time_ns"]))
            events["gil"], events["kind"] = NO_GIL, _OFF
            events["arg"] = int(gap["cpu"]) | UNSEEN << PROCESSOR_WHY_SHIFT
            parts.append(events)
        return parts

    def ends_of(self, threads: Sequence[Thread]) -> NDArray[np.void]:
        """A thread that was running when it ended is not known to run from there on."""
        rows = [
            (
                max(threads[number].end_ns, self._told[number]),
                processor & PROCESSOR_MASK | UNSEEN << PROCESSOR_WHY_SHIFT,
                number,
                NO_GIL,
                _OFF,
                0,
            )
            for number, processor in self._running.items()
        ]
        return np.array(sorted(rows), EVENT_DTYPE)


def merged(
    batches: Iterator[NDArray[np.void]], switches: NDArray[np.void]
) -> Iterator[NDArray[np.void]]:
    """Batches of the rings' events with these among them, by time as far as theirs goes."""
    at = 0
    for batch in batches:
        latest = np.maximum.accumulate(batch["time_ns"])
        end = (
            int(np.searchsorted(switches["time_ns"], latest[-1], side="left")) if len(batch) else at
        )
        places = np.searchsorted(latest, switches["time_ns"][at:end], side="left")
        yield np.insert(batch, places, switches[at:end]) if end > at else batch
        at = end
    if at < len(switches):
        yield switches[at:]

"""Reads the rings of a recording: a directory that holds `rings` and `recording.json`."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gilscope import _native
from gilscope.errors import TraceError
from gilscope.recorder.notes import MAX_SIZE, RINGS, SNAPSHOT, Notes
from gilscope.trace import redact, stacks
from gilscope.trace.looks import with_looks
from gilscope.trace.ring_pages import UNIT, Pages, process_row
from gilscope.trace.schema import (
    EVENT_DTYPE,
    PROCESSOR_EVENTS,
    Gil,
    Metadata,
    Policy,
    Process,
    Stack,
    Thread,
    Totals,
)
from gilscope.trace.switches import Switches, merged

if TYPE_CHECKING:
    from numpy.typing import NDArray

BATCH_EVENTS = 1 << 16


class RingSource:
    """The events of a recording's rings, in order. Read once; `close` it or use it in `with`."""

    def __init__(self, directory: Path) -> None:
        """Open the rings. Raises TraceError when they cannot be read."""
        self._directory = directory
        self._path = directory / RINGS
        self.notes = Notes.read(directory)
        try:
            with open(self._path, "rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise TraceError(f"{self._path}: cannot be read ({error})") from error
        if len(self._map) < UNIT:
            raise TraceError(f"{self._path}: not a ring file of gilscope")
        self._file = Pages(self._map, str(self._path))
        self._bytes = np.frombuffer(self._map, dtype=np.uint8)
        self._order = self._open()
        self._switches = Switches(directory)
        self._of_switches: NDArray[np.void] | None = None
        self._totals: Totals | None = None
        self.metadata = self._read_metadata()

    @property
    def name(self) -> str:
        """Path of the ring file."""
        return str(self._path)

    @property
    def totals(self) -> Totals:
        """Raises RuntimeError before `batches` has ended."""
        if self._totals is None:
            raise RuntimeError("totals are known when all events have been read")
        return self._totals

    def batches(self) -> Iterator[NDArray[np.void]]:
        """Yield events in order, at most `BATCH_EVENTS` at a time. Raises TraceError."""
        events = 0
        for batch in merged(self._of_rings(), self._events_of_switches()):
            events += len(batch)
            yield batch
        self._totals = Totals(events=events, clamped=self._counts(self._order)[3])

    def _of_rings(self) -> Iterator[NDArray[np.void]]:
        self._begin(self._order)
        batch = np.empty(BATCH_EVENTS, dtype=EVENT_DTYPE)
        while n := self._next(self._order, batch, None):
            yield batch[:n]

    def _events_of_switches(self) -> NDArray[np.void]:
        if self._of_switches is None:
            self._of_switches = self._switches.rest(self.metadata)
        return self._of_switches

    def locate(self, index: int) -> int:
        """Byte offset in the ring file of the event with this running number. (Of a context switch,
        which lies in another file, that of an event beside it.)"""
        if self._switches.told:
            index = self._number_in_rings(index)
        order = self._open()
        try:
            self._begin(order)
            batch = np.empty(BATCH_EVENTS, dtype=EVENT_DTYPE)
            offsets = np.empty(BATCH_EVENTS, dtype=np.uint64)
            while n := self._next(order, batch, offsets):
                if index < n:
                    return int(offsets[index])
                index -= n
        finally:
            _engine().gs_order_close(order)
        raise IndexError(index)

    def _number_in_rings(self, index: int) -> int:
        before = 0
        with RingSource(self._directory) as again:
            for batch in again.batches():
                own = batch["kind"][: max(index, 0)]
                before += int((~np.isin(own, PROCESSOR_EVENTS)).sum())
                index -= len(batch)
                if index < 0:
                    break
        return before

    def close(self) -> None:
        """Let the file go."""
        self._switches.close()
        if self._order is not None:
            _engine().gs_order_close(self._order)
            self._order = None
            del self._bytes
            self._map.close()

    def __enter__(self) -> RingSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- the C side -----------------------------------------------------------------------

    def _open(self) -> Any:
        order = _engine().gs_order_open(self._bytes.ctypes.data, len(self._map))
        if not order:
            raise MemoryError
        self._check(order)
        return order

    def _check(self, order: Any) -> None:
        message = _engine().gs_order_error(order).decode()
        if message:
            raise TraceError(f"{self._path}: {message}")

    def _begin(self, order: Any) -> None:
        ends = np.array(self._ends, dtype=np.int64)
        unclean = np.array(self._unclean, dtype=np.uint8)
        if self._incomplete and _engine().gs_order_survey(order):
            raise MemoryError
        if self.metadata.stopped_ns is not None:
            _engine().gs_order_stopped(order, self.metadata.stopped_ns)
        if _engine().gs_order_name_stacks(order, self._stack_ids.ctypes.data):
            raise MemoryError
        if _engine().gs_order_begin(order, ends.ctypes.data, unclean.ctypes.data) < 0:
            self._check(order)

    def _next(self, order: Any, batch: NDArray[np.void], offsets: NDArray[Any] | None) -> int:
        n: int = _engine().gs_order_next(
            order, batch.ctypes.data, len(batch), None if offsets is None else offsets.ctypes.data
        )
        if n < 0:
            self._check(order)
        return n

    def _counts(self, order: Any) -> tuple[int, ...]:
        counts = (ctypes.c_uint64 * 5)()
        _engine().gs_order_counts(order, counts)
        return tuple(counts)

    # ---- tables ---------------------------------------------------------------------------

    def _to_ns(self, ticks: int) -> int:
        return int(_engine().gs_order_to_ns(self._order, ticks))

    def _read_metadata(self) -> Metadata:
        n_processes, n_threads, *_ = self._counts(self._order)
        header = self._file.header
        self.left_out = header.left_out
        self._cut_ns = self._time_of(_engine().gs_order_cut(self._order))
        self._until_ns = self._time_of(header.until)
        threads = [self._thread(i) for i in range(n_threads)]
        # Not their ends: a thread counts on, and says that it ends, when nothing is recorded.
        last_record = max([header.start_ns, *(self._place(i)[2] for i in range(n_threads))])
        processes, gils = self._processes(n_processes, threads)
        threads = [self._with_end(t, processes[t.process]) for t in threads]
        self._ends = [p.end_ns for p in processes]
        processes, threads, gils = _left_out(self._passed, processes, threads, gils)
        end = max([p.end_ns for p in processes], default=header.start_ns)
        lost = header.lost_unattached + sum(t.lost_events for t in threads)
        # A recorder that did not come to its end may have met a program that still writes.
        self._incomplete = lost > 0 or self.notes.exit_code is None
        stopped = self.notes.stopped or (
            (self.notes.limit or MAX_SIZE) if header.stop and self.notes.exit_code is None else None
        )
        if self._until_ns is not None:
            stopped, last_record = SNAPSHOT, self._until_ns
        metadata = Metadata(
            command=redact.secrets(self.notes.command),
            start_ns=header.start_ns if self._cut_ns is None else self._cut_ns,
            end_ns=max(end, self.notes.root_end_ns or 0),
            realtime_offset_ns=header.realtime_ns - header.start_ns,
            boottime_offset_ns=header.boottime_ns - header.start_ns,
            clock_source=header.clock_source,
            lost_events=lost,
            stopped=stopped,
            stopped_ns=last_record if stopped else None,
            exit_code=self.notes.exit_code,
            gilscope=self.notes.gilscope,
            policy=replace(
                Policy(**(self.notes.policy or {})), switch_interval_ns=self._switch_interval_ns
            ),
            processes=tuple(processes),
            threads=tuple(threads),
            gils=tuple(gils),
            stacks=self._stacks(),
            kept_from_ns=self._cut_ns,
            switches=self._switches.told,
            lost_switches=self._switches.lost,
            throttled=self.notes.throttled,
            throttled_ns=self.notes.throttled_ns,
        )
        return with_looks(metadata, self._directory)

    def _time_of(self, ticks: int) -> int | None:
        return self._to_ns(ticks) if ticks else None

    def _since_cut(self, ns: int) -> int:
        """A time of what may have begun before what is kept."""
        return ns if self._cut_ns is None else max(ns, self._cut_ns)

    def _stacks(self) -> tuple[Stack, ...]:
        rows = ctypes.c_void_p()
        n = _engine().gs_order_stacks(self._order, ctypes.byref(rows))
        size = n * stacks.ROW_DTYPE.itemsize
        memory = (ctypes.c_char * size).from_address(rows.value) if rows.value else b""
        table, self._stack_ids = stacks.table(
            np.frombuffer(memory, stacks.ROW_DTYPE), memoryview(self._map)
        )
        return tuple(table)

    def _place(self, index: int) -> tuple[int, int, int]:
        """Where a thread's page is, its process, and the time of its last record."""
        page, process, last = ctypes.c_uint64(), ctypes.c_uint64(), ctypes.c_int64()
        _engine().gs_order_thread(
            self._order, index, ctypes.byref(page), ctypes.byref(process), ctypes.byref(last)
        )
        return page.value, process.value, last.value

    def _thread(self, index: int) -> Thread:
        page, process, last = self._place(index)
        known = Thread(index, process, 0, "", False, 0, 0, 0)
        row = self._file.thread(page, known, self._to_ns, last)
        if self._cut_ns is not None:
            row = replace(row, short_sleeps=None)  # some of them are older than what is kept
        return replace(row, start_ns=self._since_cut(row.start_ns))

    @staticmethod
    def _with_end(thread: Thread, process: Process) -> Thread:
        if thread.end_ns > 0:
            return thread
        return replace(thread, end_ns=process.end_ns)

    def _processes(self, n: int, threads: list[Thread]) -> tuple[list[Process], list[Gil]]:
        last = [0] * n
        lost = [0] * n
        for thread in threads:
            last[thread.process] = max(last[thread.process], abs(thread.end_ns))
            lost[thread.process] += thread.lost_events
        pages = [self._process_page(index) for index in range(n)]
        id_of_name = {page["name"]: index for index, page in enumerate(pages)}
        intervals = (page["switch_interval_ns"] for page in pages)
        self._switch_interval_ns = next((ns for ns in intervals if ns), None)
        processes: list[Process] = []
        gils: list[Gil] = []
        self._unclean: list[bool] = []
        used = {thread.process for thread in threads}
        later: set[int] = set()  # pids
        # What a process was, without Python, before it became another program: to its user
        # `#!/usr/bin/env python3` is one process.
        self._passed: set[int] = set()
        for index, page in reversed([*enumerate(pages)]):
            if page["pid"] in later and not (page["end_ticks"] or page["n_gils"] or index in used):
                self._passed.add(index)
            if not page["parent"]:
                later.add(page["pid"])
            end = page["end_ticks"] and self._to_ns(page["end_ticks"])
            if end and index not in used and self._since_cut(end) != end:
                self._passed.add(index)  # it was over before what is kept begins
        for index, page in enumerate(pages):
            end, unclean = self._process_end(index, pages, last[index])
            self._unclean.append(unclean)
            gils += [Gil(id=len(gils) + i, process=index) for i in range(page["n_gils"])]
            processes.append(
                process_row(
                    {**page, "start_ns": self._since_cut(page["start_ns"])},
                    id=index,
                    parent=id_of_name.get(page["parent"]) if page["parent"] else None,
                    end_ns=self._since_cut(end),
                    lost_events=lost[index],
                    late=False,
                )
            )
        return processes, gils

    def _process_page(self, index: int) -> dict[str, Any]:
        page, n_gils = ctypes.c_uint64(), ctypes.c_uint64()
        _engine().gs_order_process(self._order, index, ctypes.byref(page), ctypes.byref(n_gils))
        its = self._file.process(page.value)
        return {**its, "n_gils": n_gils.value, "start_ns": self._to_ns(its["start_ticks"])}

    def _process_end(self, index: int, pages: list[dict[str, Any]], last: int) -> tuple[int, bool]:
        """When a process ended, and whether it ended without saying so (killed)."""
        page = pages[index]
        floor = max(last, page["start_ns"])
        if page["end_ticks"]:
            return max(floor, self._to_ns(page["end_ticks"])), False
        # An exec into the next program leaves a page of the same pid behind. (A fork's child may
        # have it too, in a namespace of its own.)
        successors = [
            p["start_ns"] for p in pages[index + 1 :] if p["pid"] == page["pid"] and not p["parent"]
        ]
        if successors:
            return max(floor, min(successors)), False
        if page["pid"] == self.notes.root_pid and self.notes.root_end_ns:
            return max(floor, self.notes.root_end_ns), True
        if self._until_ns is not None:  # it lives; what follows the copy's end is not known
            return max(floor, self._until_ns + 1), False
        return floor, True


def _left_out(
    passed: set[int], processes: list[Process], threads: list[Thread], gils: list[Gil]
) -> tuple[list[Process], list[Thread], list[Gil]]:
    """The tables without the processes `passed`, which have no threads and no GILs."""
    kept = [p for p in processes if p.id not in passed]
    ids = {p.id: number for number, p in enumerate(kept)}
    return (
        [
            replace(p, id=ids[p.id], parent=None if p.parent is None else ids.get(p.parent))
            for p in kept
        ],
        [replace(t, process=ids[t.process]) for t in threads],
        [replace(g, process=ids[g.process]) for g in gils],
    )


def open_rings(directory: str | os.PathLike[str]) -> RingSource:
    """Open the rings of a recording. Raises TraceError where there are none or they are broken."""
    path = Path(directory)
    try:
        found = (path / RINGS).is_file()
    except OSError as error:  # up to Python 3.13: not to be looked into
        raise TraceError(f"{path}: {error.strerror}") from error
    if not found:
        raise TraceError(f"{path}: no rings of a recording in it")
    return RingSource(path)


def _engine() -> ctypes.CDLL:
    engine = _native.engine()
    if engine.gs_order_open.restype is not ctypes.c_void_p:
        pointer, u64 = ctypes.c_void_p, ctypes.c_uint64
        engine.gs_order_close.argtypes = [pointer]
        engine.gs_order_error.argtypes = [pointer]
        engine.gs_order_error.restype = ctypes.c_char_p
        engine.gs_order_counts.argtypes = [pointer, pointer]
        engine.gs_order_process.argtypes = [pointer, u64, pointer, pointer]
        engine.gs_order_thread.argtypes = [pointer, u64, pointer, pointer, pointer]
        engine.gs_order_cut.argtypes = [pointer]
        engine.gs_order_cut.restype = u64
        engine.gs_order_to_ns.argtypes = [pointer, u64]
        engine.gs_order_to_ns.restype = ctypes.c_int64
        engine.gs_order_survey.argtypes = [pointer]
        engine.gs_order_stopped.argtypes = [pointer, ctypes.c_int64]
        engine.gs_order_stopped.restype = None
        engine.gs_order_begin.argtypes = [pointer, pointer, pointer]
        engine.gs_order_next.argtypes = [pointer, pointer, ctypes.c_int64, pointer]
        engine.gs_order_next.restype = ctypes.c_int64
        engine.gs_order_stacks.argtypes = [pointer, pointer]
        engine.gs_order_stacks.restype = u64
        engine.gs_order_name_stacks.argtypes = [pointer, pointer]
        engine.gs_order_open.argtypes = [pointer, u64]
        engine.gs_order_open.restype = ctypes.c_void_p
    return engine

"""Reads the rings of a recording while it runs: `Following` calls follow.c by ctypes.

    following = Following(directory, notes)
    while recording:
        following.poll()                      # what was stored since
        for batch in following.batches(): …   # events that are certain, in order
    following.finish(Notes.read(directory))   # nothing more is stored
    for batch in following.batches(): …

What is not certain yet is given later: what is newer than the poll before, a release that may
still be corrected to a yield, and what comes behind it on its GIL. `metadata` is what is known so
far: its tables only grow, their rows may still change up to the end.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gilscope import _native
from gilscope.errors import TraceError
from gilscope.recorder.notes import MAX_SIZE, RINGS, Notes
from gilscope.trace import redact, stacks
from gilscope.trace.looks import with_looks
from gilscope.trace.ring_pages import LeftOut, Pages, process_row
from gilscope.trace.schema import EVENT_DTYPE, Gil, Metadata, Policy, Process, Stack, Thread, Totals

if TYPE_CHECKING:
    from numpy.typing import NDArray

BATCH_EVENTS = 1 << 15
_STATE_BYTES = (56, 64, 24)  # struct gs_follow_thread_state, _process_state, _gil_state


class Following:
    """The events of a recording that runs. Owner: one thread; `close` it."""

    def __init__(self, directory: Path, notes: Notes) -> None:
        """Open the rings. Raises TraceError where they cannot be read."""
        self.path = directory / RINGS
        self._notes = notes
        try:
            with open(self.path, "rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise TraceError(f"{self.path}: cannot be read ({error})") from error
        self._file = Pages(self._map, str(self.path))
        self._bytes = np.frombuffer(self._map, dtype=np.uint8)
        self._library = _declared(_native.engine())
        self._follow = self._library.gs_follow_open(self._bytes.ctypes.data, len(self._map))
        if not self._follow:
            raise MemoryError
        self._check()
        self._batch = np.empty(BATCH_EVENTS, dtype=EVENT_DTYPE)
        self._pages: list[dict[str, Any]] = []  # processes by the number that follow.c has for them
        self._ids: list[int | None] = []  # Process.id of each
        self._processes: list[int] = []  # the number of each Process.id
        self._threads: list[Thread] = []
        self._living: list[int] = []  # threads that may still change
        self._changed: set[int] = set()  # since `rows` told them
        self._told_pages: dict[int, dict[str, Any]] = {}
        self._told_processes = self._told_stacks = 0
        self._gils: list[Gil] = []
        self._stacks: list[Stack] = []
        self._stack_table = stacks.Table()
        self._ends: list[int] = []
        self._final = False
        self._events = 0
        self._stopped: str | None = None
        self._metadata: Metadata | None = None

    @property
    def name(self) -> str:
        """Path of the ring file."""
        return str(self.path)

    def close(self) -> None:
        """Let the file go."""
        if self._follow:
            self._library.gs_follow_close(self._follow)
            self._follow = None
            del self._bytes
            self._map.close()

    def __enter__(self) -> Following:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- events ---------------------------------------------------------------------------

    def poll(self) -> None:
        """Look at what was stored since the last poll. Raises TraceError, MemoryError."""
        if self._library.gs_follow_poll(self._follow):
            self._check()
        self._take_in()

    def finish(self, notes: Notes) -> None:
        """What is stored now is all; `notes` are those of the end. Raises TraceError."""
        self._notes = notes
        header = self._file.header
        self._stopped = notes.stopped or (
            (notes.limit or MAX_SIZE) if header.stop and notes.exit_code is None else None
        )
        self._final = True
        if self._library.gs_follow_finish(self._follow):
            self._check()
        self._take_in()
        self.refresh()
        last = [self._thread_place(i)[2] for i in range(self._counts()[1])]
        self._stop_ns = max(last, default=header.start_ns) if self._stopped else None
        if self._stop_ns is not None:
            self._library.gs_follow_stopped(self._follow, self._stop_ns)
        for number, page in enumerate(self._pages):
            end_ns, unclean = self._end_of(number, last)
            page["end_ns"] = end_ns
            if self._library.gs_follow_over(self._follow, number, end_ns, int(unclean)):
                self._check()
        self._metadata = None

    def batches(self) -> Iterator[NDArray[np.void]]:
        """Yield the events that are certain, in order; each array is valid until the next."""
        while n := int(
            self._library.gs_follow_next(self._follow, self._batch.ctypes.data, len(self._batch))
        ):
            if n < 0:
                self._check()
            self._events += n
            yield self._batch[:n]

    @property
    def totals(self) -> Totals:
        """Of what was given so far."""
        return Totals(events=self._events, clamped=self._counts()[4])

    def locate(self, index: int) -> int:
        """Where the records were is not kept: they are the file's, so its begin."""
        return 0

    @property
    def given_before(self) -> int:
        """Stamp, in ticks, before which every record that was stored has been given."""
        return self._counts()[7]

    # ---- tables ---------------------------------------------------------------------------

    @property
    def metadata(self) -> Metadata:
        """What is known of the recording."""
        if self._metadata is None:
            self._metadata = self._read_metadata()
        return self._metadata

    @property
    def taken_back(self) -> bool:
        """Whether the rings have not everything any more."""
        return bool(self._file.header.kept_from)

    @property
    def left_out(self) -> LeftOut:
        """What ran and is not in the recording."""
        return self._file.header.left_out

    def refresh(self) -> None:
        """Read pages anew: names may have changed, threads may have ended."""
        living = []
        for thread in self._living:
            self._read_thread(thread)
            if self._threads[thread].end_ns <= 0:
                living.append(thread)
        self._living = living
        for number in range(len(self._pages)):
            self._read_page(number)
        self._metadata = None

    # ---- going on where another was killed --------------------------------------------------

    def rows(self) -> Iterator[list[Any]]:
        """Rows that are new or have changed since the last call, for `resume`."""
        for number, page in enumerate(self._pages):
            if self._told_pages.get(number) != page:
                self._told_pages[number] = dict(page)
                yield ["process", number, page]
        for number in self._processes[self._told_processes :]:
            yield ["id", number]
        self._told_processes = len(self._processes)
        for stack in self._stacks[self._told_stacks :]:
            yield ["stack", stack.parent, stack.file, stack.function, stack.line]
        self._told_stacks = len(self._stacks)
        for number in sorted(self._changed):
            yield ["thread", number, asdict(self._threads[number])]
        self._changed.clear()

    def state(self) -> list[bytes]:
        """What was read, for `resume`."""
        n_processes, n_threads, n_gils, *_ = self._counts()
        state = [
            np.zeros(n * size, np.uint8)
            for n, size in zip((n_threads, n_processes, n_gils), _STATE_BYTES, strict=True)
        ]
        self._library.gs_follow_save(self._follow, *(part.ctypes.data for part in state))
        return [part.tobytes() for part in state]

    def resume(self, rows: Iterator[list[Any]], state: list[bytes]) -> None:
        """Go on behind what another has read. Raises TraceError where it does not fit."""
        arrays = [np.frombuffer(part, np.uint8).copy() for part in state]
        counts = [len(a) // size for a, size in zip(arrays, _STATE_BYTES, strict=True)]
        pairs = zip((a.ctypes.data for a in arrays), counts, strict=True)
        if self._library.gs_follow_resume(self._follow, *(part for pair in pairs for part in pair)):
            self._check()
        n_threads, n_processes, n_gils = counts
        threads: dict[int, Thread] = {}
        for kind, *values in rows:
            if kind == "process":
                number, page = values
                page["command"] = tuple(page["command"])
                self._pages += [{}] * (number + 1 - len(self._pages))
                self._pages[number] = page
            elif kind == "id":
                self._processes.append(values[0])
            elif kind == "stack":
                self._stack_table.know(*values)
            else:
                threads[values[0]] = Thread(**values[1])
        self._ids = [None] * len(self._pages)
        for place, number in enumerate(self._processes):
            self._ids[number] = place
        self._threads = [threads[number] for number in range(n_threads)]
        self._living = list(range(n_threads))
        self._stacks = self._stack_table.stacks
        if len(self._pages) < n_processes:
            raise TraceError(f"{self.path}: what was read of it does not fit")
        for _ in range(n_gils):
            owner = self._library.gs_follow_gil(self._follow, len(self._gils))
            self._gils.append(Gil(len(self._gils), self._id(owner)))

    def _check(self) -> None:
        message = self._library.gs_follow_error(self._follow).decode()
        if message == "out of memory":
            raise MemoryError(f"{self.path}: no memory to follow it")
        if message:
            raise TraceError(f"{self.path}: {message}")

    def _counts(self) -> list[int]:
        counts = (ctypes.c_uint64 * 8)()
        self._library.gs_follow_counts(self._follow, counts)
        return list(counts)

    def _take_in(self) -> None:
        """Rows for what follow.c has found."""
        n_processes, n_threads, n_gils, n_nodes, *_ = self._counts()
        before = (len(self._pages), len(self._threads), len(self._gils), len(self._stacks))
        for number in range(len(self._pages), n_processes):
            self._pages.append({})
            self._ids.append(None)
            self._read_page(number)
        owners = [self._thread_place(i)[1] for i in range(len(self._threads), n_threads)]
        gil_owners = [
            self._library.gs_follow_gil(self._follow, i) for i in range(len(self._gils), n_gils)
        ]
        for number in sorted({*owners, *gil_owners}):
            self._give_id(number)
        if self._final:
            self._give_ids_up_to(n_processes)
        for number in owners:
            self._threads.append(
                Thread(len(self._threads), self._id(number), 0, "", False, 0, 0, 0)
            )
            self._living.append(len(self._threads) - 1)
            self._read_thread(len(self._threads) - 1)
        for number in gil_owners:
            self._gils.append(Gil(len(self._gils), self._id(number)))
        self._take_in_nodes(n_nodes)
        after = (len(self._pages), len(self._threads), len(self._gils), len(self._stacks))
        if before != after or self._final:
            self._metadata = None

    def _id(self, number: int) -> int:
        known = self._ids[number]
        assert known is not None
        return known

    def _give_id(self, number: int) -> None:
        """A process that has a thread or a GIL gets its id, behind all that began before."""
        if self._ids[number] is None:
            self._give_ids_up_to(number)
            self._ids[number] = len(self._processes)
            self._processes.append(number)

    def _give_ids_up_to(self, end: int) -> None:
        """The same of processes without any, but for what became another program: to its user
        `#!/usr/bin/env python3` is one process."""
        for number in range(end):
            if self._ids[number] is None and not self._passed(number):
                self._ids[number] = len(self._processes)
                self._processes.append(number)

    def _next_programs(self, number: int) -> list[int]:
        """When the programs began that this one became: an exec leaves a page of the same pid
        behind. (A fork's child may have it too, in a namespace of its own.)"""
        pid = self._pages[number]["pid"]
        later = self._pages[number + 1 :]
        return [page["start_ns"] for page in later if page["pid"] == pid and not page["parent"]]

    def _passed(self, number: int) -> bool:
        page = self._pages[number]
        return bool(self._next_programs(number)) and not page["end_ticks"]

    def _read_page(self, number: int) -> None:
        """The page of a process, unless it is another's by now."""
        page, first, start, last = (
            ctypes.c_uint64(),
            ctypes.c_uint32(),
            ctypes.c_int64(),
            ctypes.c_int64(),
        )
        self._library.gs_follow_process(
            self._follow,
            number,
            *(ctypes.byref(part) for part in (page, first, start, last)),
        )
        its = self._pages[number]
        its["start_ns"] = start.value
        if page.value:
            its.update(self._file.process(page.value))
        its["last_ns"] = last.value

    def _thread_place(self, number: int) -> tuple[int, int, int]:
        page, process, last = ctypes.c_uint64(), ctypes.c_uint64(), ctypes.c_int64()
        self._library.gs_follow_thread(
            self._follow, number, ctypes.byref(page), ctypes.byref(process), ctypes.byref(last)
        )
        return page.value, process.value, last.value

    def _read_thread(self, number: int) -> None:
        page, _, last = self._thread_place(number)
        known = self._threads[number]
        if page:
            row = self._file.thread(page, known, self._to_ns, last)
        else:
            row = replace(known, end_ns=known.end_ns or -last)
        if row != known:
            self._threads[number] = row
            self._changed.add(number)

    def _take_in_nodes(self, n_nodes: int) -> None:
        rows = ctypes.c_void_p()
        self._library.gs_follow_nodes(self._follow, ctypes.byref(rows))
        first = self._stack_table.n_nodes
        if n_nodes == first:
            return
        size = stacks.ROW_DTYPE.itemsize
        memory = memoryview(
            (ctypes.c_char * ((n_nodes - first) * size)).from_address(
                (rows.value or 0) + first * size
            )
        )
        ids = self._stack_table.add(np.frombuffer(memory, stacks.ROW_DTYPE), memoryview(self._map))
        self._stacks = self._stack_table.stacks
        if self._library.gs_follow_name_nodes(self._follow, ids.ctypes.data, len(ids)):
            self._check()

    def _to_ns(self, ticks: int) -> int:
        return int(self._library.gs_follow_to_ns(self._follow, ticks))

    def _end_of(self, number: int, last: list[int]) -> tuple[int, bool]:
        """When a process ended, and whether it ended without saying so (killed)."""
        page = self._pages[number]
        own = [at for at, thread in zip(last, self._threads, strict=True)
               if thread.process == self._ids[number]]  # fmt: skip
        floor = max([page["start_ns"], page["last_ns"], *own])
        if page["end_ticks"]:
            return max(floor, self._to_ns(page["end_ticks"])), False
        if successors := self._next_programs(number):
            return max(floor, min(successors)), False
        if page["pid"] == self._notes.root_pid and self._notes.root_end_ns:
            return max(floor, self._notes.root_end_ns), True
        return floor, True

    def _read_metadata(self) -> Metadata:
        header = self._file.header
        threads = self._threads
        lost_of: dict[int, int] = {}
        for thread in threads:
            lost_of[thread.process] = lost_of.get(thread.process, 0) + thread.lost_events
        processes = [self._row(i, n, lost_of.get(i, 0)) for i, n in enumerate(self._processes)]
        intervals = (page["switch_interval_ns"] for page in self._pages)
        notes = self._notes
        ended = [
            replace(t, end_ns=processes[t.process].end_ns if t.end_ns <= 0 else t.end_ns)
            for t in threads
        ]
        metadata = Metadata(
            command=redact.secrets(notes.command),
            start_ns=header.start_ns,
            end_ns=max([p.end_ns for p in processes], default=header.start_ns)
            if not notes.root_end_ns
            else max([notes.root_end_ns, *(p.end_ns for p in processes)]),
            realtime_offset_ns=header.realtime_ns - header.start_ns,
            boottime_offset_ns=header.boottime_ns - header.start_ns,
            clock_source=header.clock_source,
            lost_events=header.lost_unattached + sum(t.lost_events for t in threads),
            stopped=self._stopped,
            stopped_ns=self._stop_ns if self._stopped else None,
            exit_code=notes.exit_code,
            gilscope=notes.gilscope,
            policy=replace(
                Policy(**(notes.policy or {})),
                switch_interval_ns=next((ns for ns in intervals if ns), None),
            ),
            processes=tuple(processes),
            threads=tuple(ended),
            gils=tuple(self._gils),
            stacks=tuple(self._stacks),
            throttled=notes.throttled,
            throttled_ns=notes.throttled_ns,
        )
        return with_looks(metadata, self.path.parent) if self._final else metadata

    def _row(self, number: int, place: int, lost: int) -> Process:
        page = self._pages[place]
        parent = next((i for i, p in enumerate(self._pages) if p["name"] == page["parent"]), None)
        return process_row(
            page,
            id=number,
            parent=None if parent is None or not page["parent"] else self._ids[parent],
            end_ns=page.get("end_ns", max(page["start_ns"], page["last_ns"])),
            lost_events=lost,
            late=self._counts()[6] > 0,
        )


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    pointer, u64, i64 = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_int64
    library.gs_follow_open.argtypes = [pointer, u64]
    library.gs_follow_open.restype = pointer
    library.gs_follow_close.argtypes = [pointer]
    library.gs_follow_close.restype = None
    library.gs_follow_error.argtypes = [pointer]
    library.gs_follow_error.restype = ctypes.c_char_p
    library.gs_follow_poll.argtypes = [pointer]
    library.gs_follow_finish.argtypes = [pointer]
    library.gs_follow_stopped.argtypes = [pointer, i64]
    library.gs_follow_stopped.restype = None
    library.gs_follow_over.argtypes = [pointer, u64, i64, ctypes.c_int]
    library.gs_follow_next.argtypes = [pointer, pointer, i64]
    library.gs_follow_next.restype = i64
    library.gs_follow_counts.argtypes = [pointer, pointer]
    library.gs_follow_counts.restype = None
    library.gs_follow_process.argtypes = [pointer, u64, *[pointer] * 4]
    library.gs_follow_process.restype = None
    library.gs_follow_thread.argtypes = [pointer, u64, *[pointer] * 3]
    library.gs_follow_thread.restype = None
    library.gs_follow_gil.argtypes = [pointer, u64]
    library.gs_follow_gil.restype = ctypes.c_uint32
    library.gs_follow_save.argtypes = [pointer] * 4
    library.gs_follow_save.restype = None
    library.gs_follow_resume.argtypes = [pointer, pointer, u64, pointer, u64, pointer, u64]
    library.gs_follow_to_ns.argtypes = [pointer, u64]
    library.gs_follow_to_ns.restype = i64
    library.gs_follow_nodes.argtypes = [pointer, pointer]
    library.gs_follow_nodes.restype = u64
    library.gs_follow_name_nodes.argtypes = [pointer, pointer, u64]
    return library

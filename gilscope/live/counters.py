"""The counters of a recording that runs: what each thread held and waited so far.

They are read from the ring file (gilscope/live/counters.c): nobody is stopped, and no record is
read. Imports nothing heavy: a program may read its own.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from gilscope import _native
from gilscope.errors import RecordingError

_UNIT = 4096
_MAGIC = 0x31474E4952534731
_ABI_VERSION = 4
_RECORDER_OFFSET, _CLOCK_HZ_OFFSET = 16, 48
_HEADER = struct.Struct("=QI")
_STOP_ALL = 2  # enum gs_stop
_COMMAND_BYTES = 512
_ROOM = 64  # rows at first


class _Sums(ctypes.Structure):
    _fields_ = (
        ("held", ctypes.c_uint64),
        ("waited", ctypes.c_uint64 * 2),
        ("made_wait", ctypes.c_uint64),
        ("acquires", ctypes.c_uint64),
        ("contended", ctypes.c_uint64),
        ("hand_overs", ctypes.c_uint64),
    )


class _Thread(ctypes.Structure):
    _fields_ = (
        ("start", ctypes.c_uint64),
        ("sums", _Sums),
        ("longest", ctypes.c_uint64),
        ("unit", ctypes.c_uint32),
        ("process", ctypes.c_uint32),
        ("tid", ctypes.c_uint32),
        ("gil", ctypes.c_uint16),
        ("is_main", ctypes.c_uint8),
        ("over", ctypes.c_uint8),
        ("holds", ctypes.c_uint8),
        ("waits", ctypes.c_uint8),
        ("pad", ctypes.c_uint8 * 6),
        ("name", ctypes.c_char * 200),
    )


class _Process(ctypes.Structure):
    _fields_ = (
        ("gone", _Sums),
        ("start", ctypes.c_uint64),
        ("unit", ctypes.c_uint32),
        ("serial", ctypes.c_uint32),
        ("parent", ctypes.c_uint32),
        ("pid", ctypes.c_uint32),
        ("dead", ctypes.c_uint32),
        ("command_bytes", ctypes.c_uint32),
        ("command", ctypes.c_ubyte * _COMMAND_BYTES),
    )


class _Counted(ctypes.Structure):
    _fields_ = (
        ("now", ctypes.c_uint64),
        ("gone", _Sums),
        ("stop", ctypes.c_uint32),
        ("reading", ctypes.c_uint32),
        ("n_threads", ctypes.c_uint32),
        ("n_processes", ctypes.c_uint32),
    )


@dataclass
class Sums:
    """Of one thread or of several. Times are ns; none of them ever falls."""

    held_ns: int = 0
    io_wait_ns: int = 0
    cpu_wait_ns: int = 0
    made_wait_ns: int = 0  # of holds that are over, the time in which another thread waited
    acquires: int = 0
    contended: int = 0  # acquires for which it had to wait
    hand_overs: int = 0  # acquires where another thread had that GIL before

    def __add__(self, other: Sums) -> Sums:
        return Sums(*(getattr(self, name) + getattr(other, name) for name in NAMES))

    def __sub__(self, other: Sums) -> Sums:
        """Never below zero."""
        return Sums(*(max(getattr(self, name) - getattr(other, name), 0) for name in NAMES))

    def at_least(self, other: Sums) -> Sums:
        """The greater of each: clocks of two processors differ by some cycles."""
        return Sums(*(max(getattr(self, name), getattr(other, name)) for name in NAMES))


NAMES = tuple(each.name for each in fields(Sums))


@dataclass(frozen=True)
class ThreadCount:
    """One thread that has a page. Text is as the program gave it."""

    key: tuple[int, int]  # no other thread of the recording has it
    process: int  # serial
    tid: int
    name: str
    is_main: bool
    gil: int  # index in its process, of the GIL that it had last
    over: bool
    holds: bool
    waits: str | None  # "io", "cpu"
    sums: Sums
    longest_wait_ns: int  # of those that ended since the last reading; 0: none did


@dataclass(frozen=True)
class ProcessCount:
    """One process that has a page: a program between two execs."""

    serial: int  # no other process of the recording has it
    parent: int  # serial of the one that forked it, 0: none
    pid: int  # in its own namespace
    command: tuple[str, ...]
    dead: bool
    gone: Sums  # of its threads that have no page any more


@dataclass(frozen=True)
class Reading:
    """All counters at one moment."""

    at_ns: int  # on a clock of its own
    processes: tuple[ProcessCount, ...]
    threads: tuple[ThreadCount, ...]
    gone: Sums = field(default_factory=Sums)  # of processes that have no page any more
    goes_on: bool = True  # the recorder has not ended it


class Counters:
    """The counters in a ring file. One reader, one thread; `close` it."""

    def __init__(self, rings: Path) -> None:
        """Raises RecordingError where there are none that this gilscope can read."""
        self._engine = _engine()
        self._path = rings
        try:
            with open(self._path, "r+b") as file:
                self._map = mmap.mmap(file.fileno(), 0)
        except (OSError, ValueError) as error:
            raise RecordingError(f"{self._path}: cannot be read ({error})") from error
        magic, version = _HEADER.unpack_from(self._map)
        if magic != _MAGIC or version != _ABI_VERSION:
            self._map.close()
            raise RecordingError(f"{self._path}: written by another version of gilscope")
        self._pointer = ctypes.c_char.from_buffer(self._map)
        self._header = ctypes.addressof(self._pointer)
        self._hz = self._clock_hz()
        self._processes = (_Process * _ROOM)()
        self._threads = (_Thread * _ROOM)()
        self._counted = _Counted()
        self._reading = self._engine.gs_counters_next_reading(self._header)
        self._last, self._taken = Reading(0, (), (), goes_on=False), False

    @property
    def inode(self) -> int:
        """Of the ring file: a recording that is over, and one that has its name, differ."""
        return os.stat(self._path).st_ino

    def read(self, take_longest: bool = True) -> Reading:
        """All counters now. `take_longest`: the next reading's longest waits begin here; who else
        reads these counters finds only what came later. When the recording is over and its rings
        are given back: the last reading once more, which is then empty if there was none. Raises
        RecordingError.
        """
        since = self._reading
        if take_longest:
            self._reading = self._engine.gs_counters_next_reading(self._header)
        counted = self._counted
        while True:
            failed = self._engine.gs_counters_read(
                self._header,
                len(self._map) // _UNIT,
                ctypes.byref(counted),
                self._processes,
                len(self._processes),
                self._threads,
                len(self._threads),
                since,
            )
            if failed > 0:
                return self._last_again(take_longest)
            if failed:
                raise RecordingError("the gilscope that kept these counters was killed")
            if counted.n_processes > len(self._processes):
                self._processes = (_Process * (2 * counted.n_processes))()
            elif counted.n_threads > len(self._threads):
                self._threads = (_Thread * (2 * counted.n_threads))()
            else:
                break
        rows = self._processes[: counted.n_processes]
        serials = {row.unit: row.serial for row in rows}
        reading = Reading(
            at_ns=self._ns(counted.now),
            processes=tuple(self._process(row) for row in rows),
            threads=tuple(
                self._thread(row, serials[row.process])
                for row in self._threads[: counted.n_threads]
                if row.process in serials
            ),
            gone=self._sums(counted.gone),
            goes_on=counted.stop < _STOP_ALL,
        )
        self._last, self._taken = reading, take_longest
        return reading

    def _last_again(self, take_longest: bool) -> Reading:
        threads = self._last.threads
        if self._taken:
            threads = tuple(replace(thread, longest_wait_ns=0) for thread in threads)
        self._taken = self._taken or take_longest
        return replace(self._last, threads=threads, goes_on=False)

    @property
    def goes_on(self) -> bool:
        """Whether somebody keeps them."""
        recorder, stop = struct.unpack_from("=I8xI", self._map, _RECORDER_OFFSET)
        magic, _ = _HEADER.unpack_from(self._map)
        if stop >= _STOP_ALL or magic != _MAGIC:  # or it is over, and its file given back
            return False
        try:
            os.kill(recorder, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return True

    def close(self) -> None:
        """Let the file go."""
        if self._map.closed:
            return
        del self._pointer
        self._map.close()

    # ---- rows -----------------------------------------------------------------------------

    def _ns(self, ticks: int) -> int:
        return ticks * 1_000_000_000 // self._hz

    def _sums(self, its: _Sums) -> Sums:
        return Sums(
            self._ns(its.held),
            self._ns(its.waited[0]),
            self._ns(its.waited[1]),
            self._ns(its.made_wait),
            its.acquires,
            its.contended,
            its.hand_overs,
        )

    def _thread(self, row: _Thread, process: int) -> ThreadCount:
        name = row.name.decode("utf-8", "replace")
        return ThreadCount(
            key=(row.unit, row.start),
            process=process,
            tid=row.tid,
            name=name or ("MainThread" if row.is_main else "thread"),
            is_main=bool(row.is_main),
            gil=row.gil,
            over=bool(row.over),
            holds=bool(row.holds),
            waits=(None, "io", "cpu")[row.waits],
            sums=self._sums(row.sums),
            longest_wait_ns=self._ns(row.longest),
        )

    def _process(self, row: _Process) -> ProcessCount:
        words = bytes(row.command[: row.command_bytes]).split(b"\0")
        return ProcessCount(
            serial=row.serial,
            parent=row.parent,
            pid=row.pid,
            command=tuple(os.fsdecode(word) for word in words if word),
            dead=bool(row.dead),
            gone=self._sums(row.gone),
        )

    def _clock_hz(self) -> int:
        """Fixed for all readings: a rate that is measured anew would let a sum fall."""
        (rate,) = struct.unpack_from("=Q", self._map, _CLOCK_HZ_OFFSET)
        return int(rate) or 1_000_000_000


def _engine() -> ctypes.CDLL:
    engine = _native.engine()
    pointer, u32, u64 = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64
    engine.gs_counters_read.argtypes = [pointer, u64, pointer, pointer, u32, pointer, u32, u32]
    engine.gs_counters_read.restype = ctypes.c_int
    engine.gs_counters_next_reading.argtypes = [pointer]
    engine.gs_counters_next_reading.restype = u32
    return engine

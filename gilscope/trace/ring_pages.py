"""What the pages of a ring file tell: structures of event_abi.h as rows of the trace's tables."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import replace
from mmap import mmap
from typing import Any, NamedTuple

from gilscope.errors import TraceError
from gilscope.safe_text import escaped
from gilscope.trace import redact
from gilscope.trace.schema import Process, Thread

# struct gs_file_header, _process_page and _thread_page of event_abi.h; a test compares the sizes.
_CLOCKS = {0: "monotonic", 1: "tsc", 2: "cntvct"}
_INTERPRETERS = {0: "none", 1: "gil", 2: "free-threaded"}
_HEADER = struct.Struct("<QIIIIII")
_SNAPSHOT = struct.Struct("<QQQQ")
_KEPT_FROM_OFFSET, _UNTIL_OFFSET, _LOST_OFFSET, SAFE_OFFSET, _CLOCKS_OFFSET = 72, 80, 136, 168, 256
_PROGRAM = struct.Struct("<56s")
_PROGRAM_OFFSET = 2440
_PROCESS_PAGE = struct.Struct("<12xIIIII32sQ56sQ16sII")
_THREAD_PAGE = struct.Struct("<16xIH2xQQQ200s")
_SHORT_SLEEPS_OFFSET = 336
UNIT = 4096
LONGEST_NS = 1 << 62
_MOST_LOST = 1 << 40  # by one thread; what damaged pages tell must still be a number when added up
_PIDS = 1 << 22  # Linux's limit, of tids as well
_YIELDS_TOLD = 0x100
_LOCKS_TOLD = 0x800
_BEGUN_LATE = 0x4000
_COLLECTIONS = ((0x2000, "told"), (0x1000, "counted"))
_STACKS = ((0x400, "unknown"), (0x200, "told"))


class LeftOut(NamedTuple):
    """What ran and is not in the recording."""

    processes: int  # there was no room for a page of theirs
    programs: int  # started in a way that they could not find the recording
    gils: int  # past those that one process's records can name
    program: str  # the name of the first of these programs; "": not known


class Header(NamedTuple):
    """Of struct gs_file_header what a reader needs. Times are ns."""

    clock_source: str
    stop: bool
    kept_from: int  # ticks; 0: nothing was taken back
    until: int  # ticks, of a copy: what was recorded later is not in it; 0: to the end
    lost_unattached: int
    left_out: LeftOut
    start_ns: int
    boottime_ns: int
    realtime_ns: int


class Pages:
    """The pages of one ring file, as they are at each call."""

    def __init__(self, data: mmap, name: str) -> None:
        """`name` is the file's, for errors."""
        self._data = data
        self._name = name

    @property
    def header(self) -> Header:
        """Raises TraceError for impossible times."""
        data = self._data
        _, _, clock, _, _, _, stop = _HEADER.unpack_from(data)
        lost, processes, programs, gils = struct.unpack_from("<QQQQ", data, _LOST_OFFSET)
        (program,) = _PROGRAM.unpack_from(data, _PROGRAM_OFFSET)
        _, monotonic, boottime, realtime = _SNAPSHOT.unpack_from(data, _CLOCKS_OFFSET)
        if max(monotonic, boottime, realtime) >= LONGEST_NS:
            raise TraceError(f"{self._name}: offset 0x{_CLOCKS_OFFSET:x}: impossible times")
        return Header(
            _CLOCKS.get(clock, "unknown"),
            bool(stop),
            struct.unpack_from("<Q", data, _KEPT_FROM_OFFSET)[0],
            struct.unpack_from("<Q", data, _UNTIL_OFFSET)[0],
            min(lost, _MOST_LOST),
            LeftOut(processes, programs, gils, _text(program)),
            monotonic,
            boottime,
            realtime,
        )

    def process(self, at: int) -> dict[str, Any]:
        """The page of a process at this offset. Times are ticks."""
        data = self._data
        serial, pid, parent, interpreter, _, start, end, python, interval_us, feed, lost, size = (
            _PROCESS_PAGE.unpack_from(data, at)
        )
        begin = at + _PROCESS_PAGE.size
        command = data[begin : min(begin + size, at + UNIT)]
        interval_ns = interval_us * 1000
        return {
            "name": serial or at // UNIT,
            "pid": self._id(pid, at),
            "parent": parent,
            "interpreter": interpreter,
            "lost_stacks": lost,
            "switch_interval_ns": interval_ns if interval_ns < LONGEST_NS else 0,
            "start_ticks": _SNAPSHOT.unpack(start)[0],
            "end_ticks": end,
            "python": _text(python),
            "feed": _text(feed),
            "command": redact.secrets(
                os.fsdecode(command).encode("utf-8", "replace").decode().split("\0")[:-1]
            ),
        }

    def thread(self, at: int, known: Thread, to_ns: Callable[[int], int], last_ns: int) -> Thread:
        """`known` with what its page at this offset tells. Its end is negative, the last sign of
        it, where it did not say."""
        tid, is_main, start, end, lost, name = _THREAD_PAGE.unpack_from(self._data, at)
        text = name.split(b"\0", 1)[0].decode("utf-8", "replace")
        (short_sleeps,) = struct.unpack_from("<Q", self._data, at + _SHORT_SLEEPS_OFFSET)
        return replace(
            known,
            tid=self._id(tid, at),
            name=text or ("MainThread" if is_main else f"thread {tid}"),
            is_main=bool(is_main),
            start_ns=to_ns(start),
            end_ns=to_ns(end) if end else -last_ns,
            lost_events=min(lost, _MOST_LOST),
            short_sleeps=min(short_sleeps, _MOST_LOST),
        )

    def _id(self, number: int, at: int) -> int:
        """The kernel's id of a process or thread, in a page at this offset. Raises TraceError."""
        if number >= _PIDS:
            raise TraceError(f"{self._name}: offset 0x{at:x}: {number} is no id of a process")
        return number


def _text(field: bytes) -> str:
    """Of a field that ends with a NUL, made harmless."""
    return escaped(field.split(b"\0", 1)[0].decode("ascii", "replace"))


def process_row(
    page: dict[str, Any],
    *,
    id: int,
    parent: int | None,
    end_ns: int,
    lost_events: int,
    late: bool,
) -> Process:
    """A row of the trace's table. `late`: some of its releases were yields, as showed too late."""
    interpreter = page["interpreter"]
    return Process(
        id=id,
        pid=page["pid"],
        parent=parent,
        command=page["command"],
        python=page["python"] or None,
        feed=page["feed"] or None,
        interpreter=_INTERPRETERS.get(interpreter & 0xFF, "none"),
        start_ns=page["start_ns"],
        end_ns=end_ns,
        lost_events=lost_events,
        yields_inferred=late or not interpreter & _YIELDS_TOLD,
        stacks=next((s for bit, s in _STACKS if interpreter & bit), None),
        lost_stacks=page["lost_stacks"],
        locks=bool(interpreter & _LOCKS_TOLD),
        collections=next((how for bit, how in _COLLECTIONS if interpreter & bit), None),
        attached=bool(interpreter & _BEGUN_LATE),
    )

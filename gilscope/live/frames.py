"""The Python frames of a thread that may run meanwhile.

Frames are read leaf first, twice, until two readings agree; what changed under every reading is
given as it was seen last and marked as uncertain. A pointer that leads nowhere ends the walk.
"""

from __future__ import annotations

from dataclasses import dataclass

from gilscope.live.layouts import Layout
from gilscope.live.lines import line_at
from gilscope.live.memory import Memory
from gilscope.live.objects import Objects

DEPTH = 200  # frames of a stack that are read, from the leaf on
_FOREIGN = 4096  # frames that are passed over: C code's
_READINGS = 4
_TAGS = 7


@dataclass(frozen=True)
class RawFrame:
    """Where a frame lies; enough to see whether it is still the same."""

    address: int
    code: int
    at: int  # bytes of the instruction that it is in, from the code's begin


@dataclass(frozen=True)
class Frame:
    """A Python frame as people know it."""

    file: str
    line: int | None
    function: str  # the qualified name from 3.11 on
    raw: RawFrame


@dataclass(frozen=True)
class Stack:
    """The frames of a thread, leaf first."""

    frames: tuple[Frame, ...]
    certain: bool  # two readings agreed; else it was running
    whole: bool  # it ends where the thread's Python begins; else it is cut at DEPTH or at a hole


@dataclass(frozen=True)
class Code:
    """A code object."""

    file: str
    function: str
    first_line: int
    lines: bytes
    exceptions: bytes | None  # from 3.11 on
    n_locals: int
    stack_size: int


class Frames:
    """Reads stacks of one interpreter. What is known of code objects is kept for as long as this
    is: make a new one for each look at a process.
    """

    def __init__(self, memory: Memory, layout: Layout, objects: Objects) -> None:
        self._memory = memory
        self._layout = layout
        self._objects = objects
        self._codes: dict[int, Code | None] = {}

    def stack(self, state: int) -> Stack:
        """The frames of the thread state at this address."""
        before, whole = self._walk(state)
        certain = False
        for _ in range(_READINGS - 1):
            now, whole = self._walk(state)
            certain = now == before
            if certain:
                break
            before = now
        frames = []
        for raw in before:
            code = self.code(raw.code)
            if code is None:
                certain = whole = False
                break
            if code.first_line == 0 and code.file == code.function:
                continue  # the interpreter's own, between a class's call and its __init__ (3.13 on)
            line = line_at(self._layout.line_table, code.lines, code.first_line, raw.at)
            frames.append(Frame(code.file, line, code.function, raw))
        return Stack(tuple(frames), certain, whole)

    def is_current(self, state: int, raw: RawFrame) -> bool:
        """Whether this is still the leaf."""
        now, _ = self._walk(state, 1)
        return now == [raw]

    def code(self, at: int) -> Code | None:
        """None where no code object is there."""
        if at not in self._codes:
            self._codes[at] = self._read_code(at)
        return self._codes[at]

    def _walk(self, state: int, most: int = DEPTH) -> tuple[list[RawFrame], bool]:
        """The frames, and whether they are all."""
        layout, memory = self._layout, self._memory
        places = [layout.previous, layout.code, layout.at, layout.owner or 0]
        size = max(places) + 8
        at = memory.pointer(state + layout.frame)
        if at and layout.frame_in_cframe is not None:
            at = memory.pointer(at + layout.frame_in_cframe)
        found: list[RawFrame] = []
        for _ in range(_FOREIGN):
            if not at:
                return found, at == 0
            if len(found) == most:
                return found, False
            data = memory.read(at, size)
            if data is None:
                return found, False
            previous, code = _word(data, layout.previous), _word(data, layout.code) & ~_TAGS
            if layout.owner is None or data[layout.owner] < layout.owner_c:
                found.append(RawFrame(at, code, self._instruction(data, code)))
            at = previous
        return found, False

    def _instruction(self, frame: bytes, code: int) -> int:
        layout = self._layout
        if layout.at_unit:
            at = int.from_bytes(frame[layout.at : layout.at + 4], "little", signed=True)
            at *= layout.at_unit
        else:
            at = _word(frame, layout.at) - (code + layout.instructions)
        return at if 0 <= at < 1 << 31 else 0

    def _read_code(self, at: int) -> Code | None:
        layout, memory = self._layout, self._memory
        if self._objects.type_name(at) != "code":
            return None
        first = memory.word(at + layout.first_line)
        count = memory.word(at + layout.n_locals)
        size = memory.word(at + layout.stack_size)
        file = self._objects.text(memory.pointer(at + layout.file))
        function = self._objects.text(memory.pointer(at + layout.function))
        lines = self._objects.bytes_(memory.pointer(at + layout.lines))
        exceptions = None
        if layout.exceptions is not None:
            exceptions = self._objects.bytes_(memory.pointer(at + layout.exceptions))
        if file is None or function is None or lines is None:
            return None
        if first is None or count is None or size is None:
            return None
        return Code(file, function, first, lines, exceptions, count, size)


def _word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "little")

"""Where things lie in an interpreter's memory, version by version.

From 3.13 on CPython publishes most of it (_Py_DebugOffsets, at the beginning of _PyRuntime); before
that it stands in a table. The numbers of frames and code objects are those of `probe/frames.c`; a
test holds the two equal. All offsets are in bytes.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass

from gilscope.errors import Unsupported
from gilscope.live.memory import Memory
from gilscope.live.modules import Python

# In objects of every version (builds with a GIL).
TYPE = 8
SIZE = 16  # of what has a variable size: its length
BYTES = 32  # where a bytes object's characters begin
TYPE_NAME, TYPE_BASIC_SIZE, TYPE_FLAGS, TYPE_DICT_OFFSET = 24, 32, 168, 288
DICT_USED, DICT_KEYS, DICT_VALUES = 16, 32, 40
MODULE_DICT = 16
SELF = 24  # of a bound method, and of a bound function in C

_WORDS = 64  # of _Py_DebugOffsets that are of use


class LineTable(enum.Enum):
    """How a code object tells lines."""

    LNOTAB = 9  # by the version that began it
    RANGES = 10
    LOCATIONS = 11


@dataclass(frozen=True)
class Layout:
    """Offsets of one version; None for what it does not have."""

    version: tuple[int, int]
    # of _PyRuntime
    interpreters: int  # the first PyInterpreterState
    # of a PyInterpreterState
    interpreter_next: int
    interpreter_id: int
    threads: int  # the first PyThreadState
    modules: int  # sys.modules
    gil: int | None  # a pointer to its GIL; None: there is one for all, in _PyRuntime
    # of a PyThreadState
    thread_next: int
    thread_interpreter: int
    thread_id: int  # what pthread_self gives
    native_id: int | None  # the kernel's number
    frame: int  # the innermost one …
    frame_in_cframe: int | None  # … or a pointer to what holds it here
    # of a frame
    previous: int
    code: int
    at: int
    owner: int | None
    top: int | None  # a pointer to the end of the stack of values, kept while other code runs
    locals: int  # and behind them the stack of values
    values: int | None  # a pointer to that stack; None: the code tells how many locals there are
    blocks: int | None  # how many `try` and `with` it is in, then these; None: the code tells
    # of a code object
    file: int
    function: int  # the qualified name from 3.11 on
    first_line: int
    lines: int
    exceptions: int | None  # the table of `try` and `with`
    n_locals: int
    stack_size: int
    instructions: int
    # how
    text: int  # where the characters of a compact ASCII string begin
    owner_c: int  # from this owner on a frame stands for C code
    line_table: LineTable
    at_unit: int  # `at` counts so many bytes; 0: it is a pointer to the instruction
    code_is_object: bool  # instructions: a bytes object; else they lie in the code object
    cached_keys: int  # of a class: the keys that its instances share


_LNOTAB, _RANGES, _LOCATIONS = LineTable.LNOTAB, LineTable.RANGES, LineTable.LOCATIONS
# fmt: off
_TABLES = {
    (3, 9): Layout(
        (3, 9), 32, 0, 24, 8, 856, None, 8, 16, 176, None, 24, None,
        24, 32, 104, None, None, 360, 64, 112, 104, 112, 40, 120, None, 28, 32, 48,
        48, 0, _LNOTAB, 1, True, 864),
    (3, 10): Layout(
        (3, 10), 32, 0, 24, 8, 856, None, 8, 16, 176, None, 24, None,
        24, 32, 96, None, None, 352, 64, 104, 104, 112, 40, 120, None, 28, 32, 48,
        48, 0, _RANGES, 2, True, 872),
    (3, 11): Layout(
        (3, 11), 40, 0, 48, 16, 888, None, 8, 16, 152, 160, 56, 8,
        48, 32, 56, 69, None, 72, None, None, 112, 128, 72, 136, 40, 76, 68, 184,
        48, 3, _LOCATIONS, 0, False, 872),
    (3, 12): Layout(
        (3, 12), 40, 0, 8, 72, 944, 384, 8, 16, 136, 144, 56, 0,
        8, 0, 56, 70, None, 72, None, None, 112, 128, 68, 136, 40, 72, 64, 192,
        40, 3, _LOCATIONS, 0, False, 880),
}
# fmt: on


@dataclass(frozen=True)
class Published:
    """Which word of _Py_DebugOffsets has what; the first six are at the same place in all."""

    modules: int
    gil: int
    thread_next: int
    frame: int
    thread_id: int
    previous: int
    code: int
    at: int
    locals: int
    owner: int
    file: int
    function: int
    lines: int
    first_line: int
    instructions: int
    type_size: int


PUBLISHED = {
    (3, 13): Published(11, 14, 21, 23, 24, 29, 30, 31, 32, 33, 35, 37, 38, 39, 43, 46),
    (3, 14): Published(12, 15, 24, 26, 27, 32, 33, 34, 35, 36, 40, 42, 43, 44, 48, 52),
    (3, 15): Published(12, 15, 24, 26, 30, 40, 41, 42, 43, 44, 48, 50, 51, 52, 56, 60),
}
_HEAP_TYPE = 464  # from a class's end as a type to the keys that its instances share


def layout_of(memory: Memory, python: Python) -> Layout:
    """The layout of this interpreter. Raises Unsupported where it does not say what it should."""
    table = _TABLES.get(python.version)
    if table is not None:
        return table
    published = PUBLISHED[python.version]
    data = memory.read(python.runtime.address, 8 * _WORDS)
    words = struct.unpack(f"<{_WORDS}Q", data or bytes(8 * _WORDS))
    minor = python.version[1]
    if (
        (data or b"")[:8] != b"xdebugpy"
        or words[1] >> 16 != 0x300 | minor
        or max(words[3:45]) > (1 << 24)
    ):
        raise Unsupported(
            f"process {memory.pid} runs a Python 3.{minor} whose memory is laid out in a way that "
            "gilscope does not know"
        )
    first_line = words[published.first_line]
    return Layout(
        version=python.version,
        interpreters=words[5],
        interpreter_next=words[8],
        interpreter_id=words[7],
        threads=words[9],
        modules=words[published.modules],
        gil=words[published.gil],
        thread_next=words[published.thread_next],
        thread_interpreter=words[published.thread_next + 1],
        thread_id=words[published.thread_id],
        native_id=words[published.thread_id + 1],
        frame=words[published.frame],
        frame_in_cframe=None,
        previous=words[published.previous],
        code=words[published.code],
        at=words[published.at],
        owner=words[published.owner],
        top=words[published.owner + 1] if minor >= 14 else None,
        locals=words[published.locals],
        values=None,
        blocks=None,
        file=words[published.file],
        function=words[published.function],
        first_line=first_line,
        lines=words[published.lines],
        exceptions=40,
        n_locals=first_line + 4,
        stack_size=first_line - 4,
        instructions=words[published.instructions],
        text=40,
        owner_c=3,
        line_table=LineTable.LOCATIONS,
        at_unit=0,
        code_is_object=False,
        cached_keys=words[published.type_size] + _HEAP_TYPE,
    )

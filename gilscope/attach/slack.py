"""Room in a process that nobody uses: what a segment's last page has behind its end.

The pages are there, and are the file's alone. What is put behind code is never taken out again: a
thread may stand in it. It is found there by the next attach, and used again.
"""

from __future__ import annotations

from collections.abc import Iterator

from gilscope.attach.blob import STATE_BYTES
from gilscope.errors import Unsupported
from gilscope.live.memory import Memory
from gilscope.live.modules import Module

PAGE = 4096
_EXECUTE, _WRITE = 1, 2
_STEP = 16


def for_code(memory: Memory, modules: list[Module], mark: bytes, ahead: int, size: int) -> int:
    """Address of `size` bytes behind some module's code: those that have `mark` already, `ahead`
    bytes behind their begin, else such as are all zero. Raises Unsupported.
    """
    free = None
    for start, end in _slacks(modules, _EXECUTE):
        data = memory.read(start, end - start)
        if data is None:
            continue
        at = data.find(mark) - ahead
        if at >= 0 and at + size <= len(data):
            return start + at
        if free is None and size <= len(data):
            used = len(data.rstrip(b"\0"))
            used = (used + _STEP - 1) // _STEP * _STEP
            if used + size <= len(data):
                free = start + used
    if free is None:
        raise Unsupported(
            f"process {memory.pid} has no room for the {size} bytes that bring the probe in; start"
            " the program by gilscope record"
        )
    return free


def for_state(memory: Memory, modules: list[Module]) -> int:
    """Address of STATE_BYTES behind some module's data, as written last time or all zero. Raises
    Unsupported.
    """
    for start, end in _slacks(modules, _WRITE):
        data = memory.read(end - STATE_BYTES, STATE_BYTES)
        rest = memory.read(start, end - start - STATE_BYTES)
        if data is None or rest is None or rest.strip(b"\0"):
            continue
        if int.from_bytes(data[:4], "little") <= _MOST_STATE:
            return end - STATE_BYTES
    raise Unsupported(
        f"process {memory.pid} has no room for a word; start the program by gilscope record"
    )


_MOST_STATE = 4


def _slacks(modules: list[Module], flag: int) -> Iterator[tuple[int, int]]:
    """From the segment's end, up to a multiple of 16, to the end of its page."""
    for module in modules:
        for segment in module.elf.segments:
            if segment.flags & flag:
                end = segment.start + segment.size
                start = (end + _STEP - 1) // _STEP * _STEP
                if end % PAGE:
                    yield start, (end // PAGE + 1) * PAGE

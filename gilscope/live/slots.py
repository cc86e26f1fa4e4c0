"""The values in a frame: its locals, and its stack of values.

Which of the stack's values are alive at least is told by what would unwind it: up to 3.10 the
blocks that the frame is in (`try`, `with`) with their levels, later the table of exceptions. What
lies above may be left over, and is good for comparing alone.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from gilscope.live.frames import Code, RawFrame
from gilscope.live.layouts import Layout
from gilscope.live.memory import Memory

_BLOCK = struct.Struct("<iii")  # type, handler, level
_MOST_BLOCKS = 20
_MOST = 4096  # slots of a frame
_TAGS = 7


@dataclass(frozen=True)
class Slots:
    """Addresses of objects; 0: nothing is there."""

    locals: tuple[int, ...]
    alive: tuple[int, ...]  # values of the stack that are certain
    above: tuple[int, ...]  # those above, alive or (up to 3.13) left over


def slots_of(memory: Memory, layout: Layout, raw: RawFrame, code: Code) -> Slots:
    """The values in this frame; none where it cannot be read."""
    first, stack = raw.address + layout.locals, raw.address + layout.locals + 8 * code.n_locals
    if layout.values is not None:
        stack = memory.pointer(raw.address + layout.values) or stack
    n_locals = (stack - first) // 8
    if not 0 <= n_locals <= _MOST or code.stack_size > _MOST:
        return Slots((), (), ())
    data = memory.readable(first, 8 * (n_locals + code.stack_size))
    values = [one & ~_TAGS for (one,) in struct.iter_unpack("<Q", data[: len(data) // 8 * 8])]
    if layout.top is not None:
        end = memory.pointer(raw.address + layout.top) or 0
        if 0 <= end - stack <= 8 * code.stack_size and (end - stack) % 8 == 0:
            values = values[: n_locals + (end - stack) // 8]
    depth = _by_blocks(memory, layout, raw) if layout.blocks is not None else _by_table(code, raw)
    return Slots(
        tuple(values[:n_locals]),
        tuple(values[n_locals : n_locals + depth]),
        tuple(values[n_locals + depth :]),
    )


def _by_blocks(memory: Memory, layout: Layout, raw: RawFrame) -> int:
    at = raw.address + (layout.blocks or 0)
    count = memory.word(at) or 0
    if not 0 < count <= _MOST_BLOCKS:
        return 0
    data = memory.read(at + 8 + (count - 1) * _BLOCK.size, _BLOCK.size)
    return 0 if data is None else max(0, int(_BLOCK.unpack(data)[2]))


def _by_table(code: Code, raw: RawFrame) -> int:
    """Each entry: begin and length of a stretch in code units, where it is handled, how deep the
    stack is there; numbers in steps of six bits, the highest first.
    """
    table, position = code.exceptions or b"", 0

    def number() -> int:
        nonlocal position
        value, more = 0, True
        while more and position < len(table):
            byte = table[position]
            position += 1
            value, more = value << 6 | byte & 63, bool(byte & 64)
        return value

    while position < len(table):
        begin, length, _, depth = 2 * number(), 2 * number(), number(), number() >> 1
        if begin <= raw.at < begin + length:
            return depth
        if begin > raw.at:
            break
    return 0

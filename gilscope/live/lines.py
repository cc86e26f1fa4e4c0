"""From an instruction to its line: the three sorts of tables that code objects have had."""

from __future__ import annotations

from gilscope.live.layouts import LineTable

_NO_LINE = -128


def line_at(kind: LineTable, table: bytes, first: int, at: int) -> int | None:
    """The line of the instruction `at` bytes behind the code's begin; None where it has none."""
    if kind is LineTable.LNOTAB:
        line = _by_lnotab(table, first, at)
    elif kind is LineTable.RANGES:
        line = _by_ranges(table, first, at)
    else:
        line = _by_locations(table, first, at)
    return line if line > 0 else None


def _signed(byte: int) -> int:
    return byte - 256 if byte > 127 else byte


def _by_lnotab(table: bytes, line: int, at: int) -> int:
    """3.9: pairs (bytes of code, lines, signed) of what comes behind."""
    end = 0
    for size, lines in zip(table[::2], table[1::2], strict=False):
        end += size
        if end > at:
            break
        line += _signed(lines)
    return line


def _by_ranges(table: bytes, line: int, at: int) -> int:
    """3.10: pairs (bytes of code, lines, signed; -128: none) of the range itself."""
    end = 0
    for size, byte in zip(table[::2], table[1::2], strict=False):
        lines = _signed(byte)
        line += 0 if lines == _NO_LINE else lines
        end += size
        if at < end:
            break
    return line


def _by_locations(table: bytes, line: int, at: int) -> int:
    """3.11 on: entries that begin with a byte from 128 on, which has their kind and how many code
    units they are for; kinds 13 and 14 go on with the lines, as a signed number.
    """
    end = position = 0
    while position < len(table):
        first = table[position]
        kind = first >> 3 & 15
        end += ((first & 7) + 1) * 2
        position += 1
        if kind in (13, 14):
            value, _ = varint(table, position)
            line += -(value >> 1) if value & 1 else value >> 1
        elif 10 <= kind <= 12:
            line += kind - 10
        if at < end:
            break
        while position < len(table) and table[position] < 128:
            position += 1
    return line


def varint(table: bytes, position: int) -> tuple[int, int]:
    """A number in steps of six bits, the lowest first, and where it ends."""
    value = shift = 0
    while position < len(table):
        byte = table[position]
        position += 1
        value |= (byte & 63) << shift
        shift += 6
        if not byte & 64:
            break
    return value, position

"""A loaded ELF file, read in the memory of its process: symbols, import slots, build id.

What the loader needs it keeps in memory, so no file is opened: a library that was deleted or
replaced since, and one in another mount namespace, are read as they run.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from gilscope.errors import Unsupported
from gilscope.live.memory import Memory

_HEADER = struct.Struct("<4sBBBB8sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QQq")
_ENTRY = struct.Struct("<qQ")

_LOAD, _DYNAMIC, _NOTE = 1, 2, 4
_NEEDED, _PLT_SIZE, _HASH, _STRINGS, _SYMBOLS, _RELA, _RELA_SIZE = 1, 2, 4, 5, 6, 7, 8
_JUMP_RELOCATIONS, _GNU_HASH = 23, 0x6FFFFEF5
_MOST = 1 << 16  # entries of any table that is walked
_BUILD_ID = 3  # type of a note by "GNU"

# machine → (GLOB_DAT, JUMP_SLOT), the two sorts of slot through which a module calls another
_SLOT_KINDS = {62: (6, 7), 183: (1025, 1026)}


class Symbol(NamedTuple):
    """Where something that a module exports lies in the process."""

    address: int
    size: int  # bytes; 0: not told


class Segment(NamedTuple):
    """A part of the file that is mapped, at its address in the process."""

    start: int
    size: int  # bytes in memory
    flags: int  # 1: execute, 2: write, 4: read


@dataclass
class Elf:
    """The module whose first byte lies at `start`. Raises Unsupported where that is no ELF file of
    64 bits with a table of dynamic symbols.
    """

    memory: Memory
    start: int
    machine: int = field(init=False)
    bias: int = field(init=False)  # of each address in the file
    segments: tuple[Segment, ...] = field(init=False)

    def __post_init__(self) -> None:
        header = self.memory.read(self.start, _HEADER.size)
        if header is None or header[:4] != b"\x7fELF":
            raise Unsupported(f"no ELF file is mapped at {self.start:#x}")
        if header[4] != 2 or header[5] != 1:
            raise Unsupported("a process of 32 bits, or of the other byte order, cannot be read")
        fields = _HEADER.unpack(header)
        self.machine, offset, size, count = fields[7], fields[10], fields[14], fields[15]
        if size != _SEGMENT.size:
            raise Unsupported(f"the ELF file at {self.start:#x} has unknown program headers")
        table = self.memory.read(self.start + offset, size * count) or b""
        self._headers = list(_SEGMENT.iter_unpack(table))
        loads = [header for header in self._headers if header[0] == _LOAD]
        if not loads:
            raise Unsupported(f"nothing of the ELF file at {self.start:#x} is loaded")
        self.bias = self.start - min(header[3] & ~4095 for header in loads)
        self.segments = tuple(Segment(self.bias + h[3], h[6], h[1]) for h in loads)

    @property
    def end(self) -> int:
        """Behind its last segment."""
        return max(segment.start + segment.size for segment in self.segments)

    def symbol(self, name: str) -> Symbol | None:
        """What it exports by this name."""
        if self._gnu_hash_table is not None:
            return self._by_gnu_hash(name.encode())
        return self._by_hash(name.encode())

    def slots(self, *names: str) -> dict[str, list[int]]:
        """Addresses of the words through which it calls functions of other modules, by name; of
        both sorts. A name that it does not import is left out.
        """
        wanted = {name.encode(): name for name in names}
        found: dict[str, list[int]] = {}
        kinds = _SLOT_KINDS.get(self.machine, ())
        texts: dict[int, bytes | None] = {}
        for tag, size_tag in ((_JUMP_RELOCATIONS, _PLT_SIZE), (_RELA, _RELA_SIZE)):
            for at, info, _ in self._relocations(tag, size_tag):
                if info & 0xFFFFFFFF not in kinds:
                    continue
                index = info >> 32
                if index not in texts:
                    texts[index] = self._name(index)
                name = wanted.get(texts[index] or b"")
                if name is not None:
                    found.setdefault(name, []).append(self.bias + at)
        return found

    @cached_property
    def build_id(self) -> str | None:
        """The linker's number of this very file, in hexadecimal digits."""
        for kind, _, _, address, _, size, _, _ in self._headers:
            data = self.memory.read(self.bias + address, size) if kind == _NOTE else None
            while data and len(data) >= 12:
                name_size, text_size, note = struct.unpack_from("<III", data)
                text = 12 + (name_size + 3) // 4 * 4
                if note == _BUILD_ID and data[12:15] == b"GNU":
                    return data[text : text + text_size].hex()
                data = data[text + (text_size + 3) // 4 * 4 :]
        return None

    @cached_property
    def needed(self) -> tuple[str, ...]:
        """Names of the libraries that it is linked with."""
        strings = self._table(_STRINGS)
        found = (
            []
            if strings is None
            else [
                self.memory.text(strings + value) for tag, value in self._dynamic if tag == _NEEDED
            ]
        )
        return tuple(name for name in found if name is not None)

    # ---- the dynamic section ----

    @cached_property
    def _dynamic(self) -> list[tuple[int, int]]:
        for kind, _, _, address, _, size, _, _ in self._headers:
            if kind == _DYNAMIC:
                data = self.memory.read(self.bias + address, size // 16 * 16) or b""
                return list(_ENTRY.iter_unpack(data))
        return []

    def _value(self, wanted: int) -> int | None:
        return next((value for tag, value in self._dynamic if tag == wanted), None)

    def _table(self, wanted: int) -> int | None:
        """Its address in the process; most loaders have written that over the file's."""
        value = self._value(wanted)
        return None if value is None else value if value >= self.start else value + self.bias

    def _relocations(self, tag: int, size_tag: int) -> list[tuple[int, int, int]]:
        table, size = self._table(tag), self._value(size_tag) or 0
        if table is None:
            return []
        whole = size // _RELOCATION.size * _RELOCATION.size
        return list(_RELOCATION.iter_unpack(self.memory.read(table, whole) or b""))

    # ---- symbols ----

    def _symbol_at(self, index: int) -> tuple[int, int, int, int] | None:
        """Name's offset, section, value, size."""
        table = self._table(_SYMBOLS)
        data = (
            None if table is None else self.memory.read(table + index * _SYMBOL.size, _SYMBOL.size)
        )
        if data is None:
            return None
        name, _, _, section, value, size = _SYMBOL.unpack(data)
        return name, section, value, size

    def _name(self, index: int) -> bytes | None:
        symbol, strings = self._symbol_at(index), self._table(_STRINGS)
        if symbol is None or strings is None:
            return None
        text = self.memory.text(strings + symbol[0])
        return None if text is None else text.encode()

    def _matching(self, index: int, name: bytes) -> Symbol | None:
        symbol, strings = self._symbol_at(index), self._table(_STRINGS)
        if symbol is None or strings is None or symbol[1] == 0:
            return None
        if self.memory.read(strings + symbol[0], len(name) + 1) != name + b"\0":
            return None
        return Symbol(self.bias + symbol[2], symbol[3])

    @cached_property
    def _gnu_hash_table(self) -> int | None:
        return self._table(_GNU_HASH)

    def _by_gnu_hash(self, name: bytes) -> Symbol | None:
        """Buckets, behind a filter, have a chain's first symbol; a chain has the hashes of its
        symbols, the lowest bit of its last one set.
        """
        table = self._gnu_hash_table
        data = None if table is None else self.memory.read(table, 16)
        buckets, first, words, _ = struct.unpack("<IIII", data or bytes(16))
        if table is None or buckets == 0:
            return None
        wanted = 5381
        for byte in name:
            wanted = (wanted * 33 + byte) & 0xFFFFFFFF
        start = table + 16 + 8 * words
        index = self.memory.word(start + 4 * (wanted % buckets))
        for _ in range(_MOST):
            if index is None or index < first:
                return None
            its = self.memory.word(start + 4 * (buckets + index - first))
            symbol = None
            if its is not None and its | 1 == wanted | 1:
                symbol = self._matching(index, name)
            if symbol is not None or its is None or its & 1:
                return symbol
            index += 1
        return None

    def _by_hash(self, name: bytes) -> Symbol | None:
        table = self._table(_HASH)
        buckets = None if table is None else self.memory.word(table)
        if table is None or not buckets:
            return None
        value = 0
        for byte in name:
            value = (value << 4) + byte
            value = (value ^ (value >> 28 << 4)) & 0x0FFFFFFF
        index = self.memory.word(table + 8 + 4 * (value % buckets))
        for _ in range(_MOST):
            if not index:
                return None
            symbol = self._matching(index, name)
            if symbol is not None:
                return symbol
            index = self.memory.word(table + 8 + 4 * (buckets + index))
        return None

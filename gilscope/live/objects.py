"""Python objects, read where they lie. Nothing of them is called and nothing is believed: each
answer is None where the memory does not look like what was asked for.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from gilscope.live.layouts import (
    BYTES,
    DICT_KEYS,
    DICT_USED,
    DICT_VALUES,
    SIZE,
    TYPE_BASIC_SIZE,
    TYPE_DICT_OFFSET,
    TYPE_FLAGS,
    TYPE_NAME,
    Layout,
)
from gilscope.live.memory import Memory

_MOST_CHARACTERS = 1 << 14
_MOST_BYTES = 1 << 22
_MOST_ENTRIES = 1 << 20
_INT, _BYTES, _TEXT, _DICT = 24, 27, 28, 29  # bits of a class's flags: a subclass of …
_INLINE_VALUES, _MANAGED_DICT = 2, 4
_WORD = 8
_GENERAL = 0  # a dictionary's table whose entries have their hash


_USUAL_TEXT = 64  # bytes that are read at once with what is before them


def _type_in(head: bytes) -> int | None:
    """The class of an object that begins like this."""
    if head[:4] == b"\0\0\0\0":
        return None  # of an object that is being freed the count of references is 0
    return int.from_bytes(head[8:16], "little")


class Objects:
    """Reads objects of one interpreter. What classes are is remembered; a new one sees anew."""

    def __init__(self, memory: Memory, layout: Layout) -> None:
        self._memory = memory
        self._layout = layout
        self._names: dict[int, str | None] = {}
        self._flags: dict[int, int] = {}

    def type_of(self, at: int) -> int | None:
        """Its class; None where no object is there."""
        head = self._memory.read(at, 16) if at % 8 == 0 else None
        return None if head is None else _type_in(head)

    def type_name(self, at: int) -> str | None:
        """The name of its class, as CPython has it ("_thread.lock"; of classes in Python without
        their module).
        """
        kind = self.type_of(at)
        if kind is None:
            return None
        if kind not in self._names:
            name = self._memory.pointer(kind + TYPE_NAME)
            text = None if not name else self._memory.text(name, 128)
            self._names[kind] = text if text and text.isprintable() else None
        return self._names[kind]

    def text(self, at: int | None) -> str | None:
        """A str."""
        if not at or at % 8:
            return None
        begin = self._layout.text
        head = self._memory.readable(at, begin + _USUAL_TEXT)
        if len(head) < SIZE + 24 or not self._is_a_by(head, _TEXT):
            return None
        length, _, state = struct.unpack_from("<QQI", head, SIZE)
        if length > _MOST_CHARACTERS:
            return None
        kind, compact, ascii_ = state >> 2 & 7, state >> 5 & 1, state >> 6 & 1
        if not compact or kind not in (1, 2, 4):
            return None
        if not ascii_:  # its characters in UTF-8 come first (and until 3.11 its length in wchar_t)
            begin += 24 if begin == 48 else 16
        data: bytes | None = head[begin : begin + length * kind]
        if begin + length * kind > len(head):
            data = self._memory.read(at + begin, length * kind)
        if data is None:
            return None
        encoding = {1: "latin-1", 2: "utf-16-le", 4: "utf-32-le"}[kind]
        return data.decode(encoding, "replace")

    def bytes_(self, at: int | None) -> bytes | None:
        """A bytes object."""
        if not at or not self._is_a(at, _BYTES):
            return None
        length = self._memory.pointer(at + SIZE)
        if length is None or length > _MOST_BYTES:
            return None
        return self._memory.read(at + BYTES, length)

    def integer(self, at: int | None) -> int | None:
        """An int of at most 90 bits that is not negative."""
        if not at or not self._is_a(at, _INT):
            return None
        size = self._memory.pointer(at + SIZE)
        if size is None:
            return None
        # From 3.12 on: the number of digits above three bits, of which the lowest are the sign.
        digits = size >> 3 if self._layout.version >= (3, 12) else size
        if digits == 0 or digits > 3 or (self._layout.version >= (3, 12) and size & 3):
            return 0 if digits == 0 and size in (0, 1) else None
        data = self._memory.read(at + SIZE + 8, 4 * digits)
        if data is None:
            return None
        words: tuple[int, ...] = struct.unpack(f"<{digits}I", data)
        return sum(word << 30 * number for number, word in enumerate(words))

    def items(self, at: int | None) -> Iterator[tuple[int, int]]:
        """Addresses of a dict's keys and values; cut short where it changes meanwhile."""
        if not at or not self._is_a(at, _DICT):
            return
        keys = self._memory.pointer(at + DICT_KEYS)
        values = self._memory.pointer(at + DICT_VALUES)
        used = self._memory.pointer(at + DICT_USED)
        if keys and used:
            yield from self._entries(keys, self._first_value(values) if values else None)

    def attributes(self, at: int, keys: dict[int, str | None] | None = None) -> dict[str, int]:
        """What stands in an instance's own dictionary: name → address of the value. `keys`
        remembers the names for other instances of one pass, by their addresses.
        """
        keys = {} if keys is None else keys
        kind = self.type_of(at)
        flags = self._flags_of(kind) if kind else 0
        found: dict[str, int] = {}
        if kind is None:
            return found
        for key, value in self._own(at, kind, flags):
            if key not in keys:
                keys[key] = self.text(key)
            name = keys[key]
            if name is not None:
                found[name] = value
        return found

    # ---- where an instance keeps its own ----

    def _own(self, at: int, kind: int, flags: int) -> Iterator[tuple[int, int]]:
        """A dictionary, or, from 3.11 on, values whose keys the class has."""
        version, pointer = self._layout.version, self._memory.pointer
        dictionary: int | None = None
        values: int | None = None
        if version < (3, 11) or not flags >> _MANAGED_DICT & 1:
            offset = pointer(kind + TYPE_DICT_OFFSET) or 0
            if 0 < offset < 1 << 20:
                dictionary = pointer(at + offset)
        elif version == (3, 11):
            values, dictionary = pointer(at - 4 * _WORD), pointer(at - 3 * _WORD)
        else:
            dictionary = pointer(at - 3 * _WORD)
            if version == (3, 12) and dictionary and dictionary & 1:  # a mark: it is the values
                values, dictionary = dictionary + 1, None
            elif not dictionary and flags >> _INLINE_VALUES & 1:
                values = at + (pointer(kind + TYPE_BASIC_SIZE) or 0)
        return self._shared(kind, values) if values else self.items(dictionary)

    def _shared(self, kind: int, values: int) -> Iterator[tuple[int, int]]:
        keys = self._memory.pointer(kind + self._layout.cached_keys)
        return self._entries(keys, self._first_value(values)) if keys else iter(())

    def _first_value(self, values: int) -> int:
        """Of a dictionary's values that are kept apart from its keys."""
        return values + _WORD if self._layout.version >= (3, 13) else values

    def _entries(self, keys: int, values: int | None) -> Iterator[tuple[int, int]]:
        head = self._memory.read(keys, 40)
        if head is None:
            return
        if self._layout.version >= (3, 11):
            index_bytes, kind = head[9], head[10]
            count = int.from_bytes(head[24:32], "little")
            begin = keys + 32 + (1 << min(index_bytes, 40))
            size, at_key = (24, 8) if kind == _GENERAL else (16, 0)
        else:
            slots = int.from_bytes(head[8:16], "little")
            count = int.from_bytes(head[32:40], "little")
            width = 1 if slots <= 0xFF else 2 if slots <= 0xFFFF else 4
            begin, size, at_key = keys + 40 + slots * width, 24, 8
        if count > _MOST_ENTRIES:
            return
        data = self._memory.read(begin, count * size)
        apart = None if values is None else self._memory.read(values, count * _WORD)
        if data is None or (values is not None and apart is None):
            return
        for number in range(count):
            key, value = struct.unpack_from("<QQ", data, number * size + at_key)
            if apart is not None:
                value = struct.unpack_from("<Q", apart, number * _WORD)[0]
            if key and value:
                yield key, value

    # ---- classes ----

    def _is_a(self, at: int, bit: int) -> bool:
        head = self._memory.read(at, 16) if at % 8 == 0 else None
        return head is not None and self._is_a_by(head, bit)

    def _is_a_by(self, head: bytes, bit: int) -> bool:
        """The same of an object that begins like this."""
        kind = _type_in(head)
        return bool(kind and self._flags_of(kind) >> bit & 1)

    def _flags_of(self, kind: int) -> int:
        if kind not in self._flags:
            self._flags[kind] = self._memory.pointer(kind + TYPE_FLAGS) or 0
        return self._flags[kind]

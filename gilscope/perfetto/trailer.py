"""Where the metadata of a compressed trace begins: told by an empty gzip member at its end.

Its extra field has a subfield `GS`, as RFC 1952 foresees: whoever unpacks the file passes it by.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

# Header with an extra field, an empty deflate block, its checksum and its length.
_MEMBER = struct.Struct("<10sH2sHQQ2sII")
_HEADER, _SUBFIELD, _EMPTY = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff", b"GS", b"\x03\0"
BYTES = _MEMBER.size


class Trailer(NamedTuple):
    """`packed` is the length of the metadata's member, `at` where they begin unpacked."""

    packed: int
    at: int


def build(packed: int, at: int) -> bytes:
    """The last member of a file."""
    return _MEMBER.pack(_HEADER, 20, _SUBFIELD, 16, packed, at, _EMPTY, 0, 0)


def parse(data: bytes) -> Trailer | None:
    """The trailer, if the last BYTES of a file are one."""
    if len(data) != BYTES:
        return None
    packed, at = _MEMBER.unpack(data)[4:6]
    return Trailer(packed, at) if data == build(packed, at) else None

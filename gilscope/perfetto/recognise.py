"""Tells a trace of gilscope's from other files by its first bytes. Imports nothing heavy: it stands
between the user's command and the program's start."""

from __future__ import annotations

import zlib
from pathlib import Path

# The second packet names gilscope's track: a string of 8 bytes in field 2. No text has that.
_TRACK = b"\x12\x08gilscope"
_FIRST = 256


def is_trace(path: Path) -> bool:
    """Whether gilscope wrote it, compressed or not. Raises OSError."""
    with path.open("rb") as file:
        head = file.read(_FIRST)
    if head.startswith(b"\x1f\x8b"):
        try:
            head = zlib.decompressobj(wbits=31).decompress(head)
        except zlib.error:
            return False
    return _TRACK in head

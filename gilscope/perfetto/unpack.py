"""Unpacks a gzip file, and no more of it than a trace of its size can have."""

from __future__ import annotations

import io
import zlib
from typing import IO, Any

from gilscope.trace import limits

MAGIC = b"\x1f\x8b"
_CHUNK = 1 << 16


class UnpackError(ValueError):
    """What is wrong with the file, without its name."""


def most(size: int) -> int:
    """Bytes that a trace of that packed size unpacks to, at the most."""
    return limits.UNPACKED_FREE + limits.UNPACKED_RATIO * size


def too_much(claimed: int) -> UnpackError:
    """It says that it unpacks to so many bytes."""
    return UnpackError(
        f"the compressed file is cut short, or unpacks to {claimed >> 20:,} MiB, which no trace of "
        "its size does"
    )


class Unpacked(io.RawIOBase):
    """The content of gzip members, front to back: at most `room` bytes of it."""

    def __init__(self, file: IO[bytes], room: int) -> None:
        """The file is closed with it."""
        super().__init__()
        self._file = file
        self._room = room
        self._packed = b""
        self._member = zlib.decompressobj(wbits=31)
        self._members = 1
        self._given = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fill the front of `buffer`; 0 at the end.

        Raises OSError, EOFError: it is cut short, zlib.error: it is broken, UnpackError.
        """
        count = 0
        view = memoryview(buffer).cast("B")
        while not count and self._next():
            data = self._member.decompress(self._packed, len(view))
            self._packed = self._member.unconsumed_tail
            count = len(data)
            view[:count] = data
        self._given += count
        if self._given > self._room:
            raise too_much(self._given)
        return count

    def _next(self) -> bool:
        """Have something to unpack; False at the end."""
        if self._member.eof:
            self._packed = self._member.unused_data or self._file.read(_CHUNK)
            if not self._packed:
                return False
            self._members += 1
            if self._members > limits.MEMBERS:
                raise UnpackError("the compressed file has more parts than any by gilscope")
            self._member = zlib.decompressobj(wbits=31)
        if not self._packed:
            self._packed = self._file.read(_CHUNK)
            if not self._packed:
                raise EOFError
        return True

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()

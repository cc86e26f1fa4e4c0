"""The end of a trace file, which is read first: there stand the metadata (docs/trace-format.md)."""

from __future__ import annotations

import gzip
import io
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import TracePacket

from gilscope.errors import TraceError
from gilscope.perfetto import layout, trailer
from gilscope.trace.schema import Metadata

_GZIP_MAGIC = b"\x1f\x8b"
_PIECE = 1 << 20
_END_BYTES = 1 << 12  # more than the last packet has
_PACKET_MAX = 64 << 20  # GS_PACKET_MAX of format.h
_TAG = 0x0A


def open_unpacked(path: Path) -> IO[bytes]:
    """Open a regular file, unpacked if it is gzip, whatever its name says. Raises TraceError."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            what = "a directory" if path.is_dir() else "not a regular file"
            raise TraceError(f"{path}: is {what}")
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP_MAGIC
        return gzip.open(path, "rb") if packed else path.open("rb", buffering=0)  # type: ignore[return-value]
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror}") from error


def unreadable(path: Path, error: Exception, offset: int) -> TraceError:
    """What to tell of an error while reading."""
    if isinstance(error, EOFError):
        return TraceError(f"{path}: offset {offset}: the compressed file is cut short")
    if isinstance(error, (gzip.BadGzipFile, zlib.error)):
        return TraceError(f"{path}: offset {offset}: broken compression ({error})")
    return TraceError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}")


def read_tail(path: Path) -> tuple[Metadata, int]:
    """The metadata, and the offset in the unpacked file where they begin. Raises TraceError."""
    try:
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP_MAGIC
            if not packed:
                return _read_plain(path, file)
            end = file.seek(0, io.SEEK_END)
            file.seek(max(0, end - trailer.BYTES))
            told = trailer.parse(file.read())
            if told and told.packed <= end - trailer.BYTES:
                file.seek(end - trailer.BYTES - told.packed)
                member = io.BytesIO(file.read(told.packed))
                with gzip.GzipFile(fileobj=member) as unpacked:
                    return _read_packets(path, cast(IO[bytes], unpacked), told.at), told.at
        # Somebody else compressed it: it is unpacked once more, to find its end.
        with _unpacked(path) as unpacked:
            size = _size(unpacked)
        with _unpacked(path) as unpacked:
            at = _begin(path, unpacked, size)
            unpacked.seek(at)
            return _read_packets(path, unpacked, at), at
    except (EOFError, OSError, zlib.error) as error:
        raise unreadable(path, error, 0) from error


def _unpacked(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb"))


def _read_plain(path: Path, file: IO[bytes]) -> tuple[Metadata, int]:
    at = _begin(path, file, file.seek(0, io.SEEK_END))
    file.seek(at)
    return _read_packets(path, file, at), at


def _size(file: IO[bytes]) -> int:
    size = 0
    while piece := file.read(_PIECE):
        size += len(piece)
    return size


def _begin(path: Path, file: IO[bytes], size: int) -> int:
    """Where the metadata begin: as the last packet says."""
    first = max(0, size - _END_BYTES)
    file.seek(first)
    data = file.read()
    start = layout.find_end(data)
    if start is None:
        if layout.THE_END.encode() in data:
            raise TraceError(f"{path}: offset {size}: data after the end of the trace")
        raise TraceError(f"{path}: offset {size}: the trace is cut short: it has no end")
    try:
        end = layout.read_end(TracePacket.FromString(_body(data[start:])))
    except (layout.LayoutError, DecodeError, UnicodeDecodeError) as error:
        raise TraceError(f"{path}: offset {first + start}: {error}") from None
    if end is None or end[1] > first + start:
        raise TraceError(f"{path}: offset {first + start}: a broken end")
    return first + start - end[1]


def _body(framed: bytes) -> bytes:
    at = 1
    while framed[at] > 127:
        at += 1
    return framed[at + 1 :]


def _read_packets(path: Path, file: IO[bytes], at: int) -> Metadata:
    try:
        return layout.read_metadata(_packets(file))
    except (layout.LayoutError, DecodeError, UnicodeDecodeError) as error:
        raise TraceError(f"{path}: offset {at}: a broken end, or it {error}") from None


def _packets(file: IO[bytes]) -> Iterator[Any]:
    """The packets from here on, up to the one that ends the trace."""
    if isinstance(file, io.RawIOBase):
        file = io.BufferedReader(file, _PIECE)
    while True:
        if file.read(1) != bytes([_TAG]):
            raise layout.LayoutError("has no packet of metadata there")
        size = shift = 0
        while True:
            byte = file.read(1)
            if not byte or shift > 28:
                raise layout.LayoutError("has no packet of metadata there")
            size |= (byte[0] & 127) << shift
            shift += 7
            if byte[0] < 128:
                break
        if size > _PACKET_MAX:
            raise layout.LayoutError("has a packet longer than any that gilscope writes")
        packet = TracePacket.FromString(file.read(size))
        if packet.track_event.name == layout.THE_END:
            return
        yield packet

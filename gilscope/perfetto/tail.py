"""The end of a trace file, which is read first: there stand the metadata (docs/trace-format.md)."""

from __future__ import annotations

import io
import stat
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import TracePacket

from gilscope.errors import TraceError
from gilscope.perfetto import layout, trailer
from gilscope.perfetto.metadata import Event
from gilscope.perfetto.unpack import MAGIC, Unpacked, UnpackError, most, too_much
from gilscope.trace import limits
from gilscope.trace.schema import Metadata

_PIECE = 1 << 20
_END_BYTES = 1 << 12  # more than the last packet has
_TAG = 0x0A


def open_unpacked(path: Path, *, whole: bool = True) -> io.RawIOBase:
    """Open a regular file, unpacked if it is gzip, whatever its name says. Raises TraceError.

    One that is not `whole` has nothing at its end that tells how long it is.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            what = "a directory" if path.is_dir() else "not a regular file"
            raise TraceError(f"{path}: is {what}")
        file = path.open("rb", buffering=0)
        if file.read(len(MAGIC)) != MAGIC:
            file.seek(0)
            return file
        size = file.seek(0, io.SEEK_END)
        claimed = _claimed(file, size) if whole else 0
        if claimed > most(size):
            file.close()
            raise TraceError(f"{path}: {too_much(claimed)}")
        file.seek(0)
        return Unpacked(file, most(size))
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror}") from error


def _claimed(file: IO[bytes], size: int) -> int:
    """How much a gzip file says that it unpacks to, but for the metadata of one with a trailer."""
    file.seek(max(0, size - trailer.BYTES))
    end = file.read()
    told = trailer.parse(end)
    return told.at if told else int.from_bytes(end[-4:], "little")


def unreadable(path: Path, error: Exception, offset: int) -> TraceError:
    """What to tell of an error while reading."""
    if isinstance(error, EOFError):
        return TraceError(f"{path}: offset {offset}: the compressed file is cut short")
    if isinstance(error, UnpackError):
        return TraceError(f"{path}: offset {offset}: {error}")
    if isinstance(error, zlib.error):
        return TraceError(f"{path}: offset {offset}: broken compression ({error})")
    return TraceError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}")


def read_tail(path: Path) -> tuple[Metadata, int]:
    """The metadata, and the offset in the unpacked file where they begin. Raises TraceError."""
    try:
        with path.open("rb") as file:
            packed = file.read(len(MAGIC)) == MAGIC
            end = file.seek(0, io.SEEK_END)
            room = limits.METADATA_FREE + end
            if not packed:
                at = _begin(path, file, end)
                file.seek(at)
                return _read_packets(path, file, at, room), at
            file.seek(max(0, end - trailer.BYTES))
            told = trailer.parse(file.read())
            if told and told.packed <= end - trailer.BYTES:
                file.seek(end - trailer.BYTES - told.packed)
                member = Unpacked(io.BytesIO(file.read(told.packed)), most(end))
                return _read_packets(
                    path, io.BufferedReader(member, _PIECE), told.at, room
                ), told.at
        # Somebody else compressed it: it is unpacked twice more, to find its end and to read it.
        with _unpacked(path) as unpacked:
            size = _skip(unpacked)
        with _unpacked(path) as unpacked:
            last = max(0, size - _END_BYTES)
            _skip(unpacked, last)
            at = _begin_in(path, unpacked.read(), last)
        with _unpacked(path) as unpacked:
            _skip(unpacked, at)
            return _read_packets(path, unpacked, at, room), at
    except (EOFError, OSError, UnpackError, zlib.error) as error:
        raise unreadable(path, error, 0) from error


def _unpacked(path: Path) -> io.BufferedReader:
    return io.BufferedReader(open_unpacked(path), _PIECE)


def _skip(file: IO[bytes], size: int = sys.maxsize) -> int:
    """Read so far; how far it went."""
    done = 0
    while piece := file.read(min(_PIECE, size - done)):
        done += len(piece)
    return done


def _begin(path: Path, file: IO[bytes], size: int) -> int:
    first = max(0, size - _END_BYTES)
    file.seek(first)
    return _begin_in(path, file.read(), first)


def _begin_in(path: Path, data: bytes, first: int) -> int:
    """Where the metadata begin, as the last packet says; `data` is the end of the trace, from the
    offset `first` on."""
    size = first + len(data)
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


def _read_packets(path: Path, file: IO[bytes], at: int, room: int) -> Metadata:
    try:
        return layout.read_metadata(_packets(file, room))
    except (layout.LayoutError, DecodeError, UnicodeDecodeError) as error:
        raise TraceError(f"{path}: offset {at}: a broken end, or it {error}") from None


def _packets(file: IO[bytes], room: int) -> Iterator[Event]:
    """The events of packets from here on, up to the one that ends the trace; of `room` bytes."""
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
        room -= size
        if room < 0:
            raise layout.LayoutError("has more metadata than any trace of its size")
        event = layout.event_of(file.read(size))
        if event.name == layout.THE_END:
            return
        yield event

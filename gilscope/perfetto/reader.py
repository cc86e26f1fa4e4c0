"""Reads a trace file back to the events that it was made from: `open_trace`.

Reading is validating. Every byte of the file is either foreseen by what came before or refused with
its offset (of a .gz: the offset in what it unpacks to). What a file can cost is bounded by its size
and by `gilscope.trace.limits`, whatever it claims.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import TracePacket

from gilscope.errors import TraceError
from gilscope.perfetto import layout
from gilscope.perfetto.codec import OLD_OWN_NAME, OWN_NAME, Decoder, DecodeStatus
from gilscope.perfetto.tail import open_unpacked, read_tail, unreadable
from gilscope.perfetto.unpack import UnpackError
from gilscope.trace import limits
from gilscope.trace.schema import EVENT_DTYPE, Metadata, Totals

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CHUNK = 1 << 20
_BATCH = 1 << 16


class TraceFile:
    """An EventSource over a finished trace. No file stays open between calls."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._totals: Totals | None = None
        self.share: float | None = None  # of its events that `batches` has read; None: not known
        with closing(_Scan(path)) as scan:
            self._metadata = scan.read_head()

    @property
    def name(self) -> str:
        """The path, as given."""
        return str(self._path)

    @property
    def metadata(self) -> Metadata:
        """What the recording knows besides its events."""
        return self._metadata

    @property
    def totals(self) -> Totals:
        """Counts of the whole trace. Raises TraceError before `batches` has ended."""
        if self._totals is None:
            raise TraceError(f"{self._path}: its totals are at its end, which has not been read")
        return self._totals

    def batches(self) -> Iterator[NDArray[np.void]]:
        """Yield arrays of EVENT_DTYPE, each valid until the next. Raises TraceError."""
        with closing(_Scan(self._path)) as scan:
            scan.read_head()
            for batch in scan.batches(np.empty(_BATCH, dtype=EVENT_DTYPE)):
                self.share = scan.share
                yield batch
            self._totals = scan.totals

    def locate(self, index: int) -> int:
        """Return the offset of the packet of event number `index`. Raises TraceError, IndexError.

        Of an event of several packets (an acquire ends the wait first) it is the one that tells its
        number of waiters.
        """
        room = np.empty(min(index + 1, _BATCH), dtype=EVENT_DTYPE)
        with closing(_Scan(self._path)) as scan:
            scan.read_head()
            before = 0
            while before <= index:
                room = room[: index + 1 - before]
                count = scan.read(room)
                if count == 0:
                    raise IndexError(index)
                before += count
            return scan.last_event


def open_trace(path: str | os.PathLike[str]) -> TraceFile:
    """Open a .pftrace or .pftrace.gz that gilscope wrote.

    Raises TraceError, in one line with the file's name and offset, for anything else.
    """
    return TraceFile(Path(path))


class PartFile:
    """An EventSource over the first events of a trace that was never finished."""

    def __init__(self, path: Path, metadata: Metadata, events: int) -> None:
        """`metadata` of the recording, `events` that are in the file for certain."""
        self._path = path
        self.metadata = metadata
        self._events = events

    @property
    def name(self) -> str:
        """Its path."""
        return str(self._path)

    @property
    def totals(self) -> Totals:
        """Its end is not there to tell what was raised."""
        return Totals(self._events, 0)

    def batches(self) -> Iterator[NDArray[np.void]]:
        """Yield arrays of EVENT_DTYPE, each valid until the next. Raises TraceError."""
        with closing(_Scan(self._path, self.metadata)) as scan:
            scan.read_head()
            room = np.empty(_BATCH, dtype=EVENT_DTYPE)
            left = self._events
            while left and (count := scan.read(room[:left])):
                left -= count
                yield room[:count]

    def locate(self, index: int) -> int:
        """Offsets are those of a whole trace."""
        return 0


class _Scan:
    """One pass over a file, front to back."""

    def __init__(self, path: Path, metadata: Metadata | None = None) -> None:
        """`metadata` of a file that is still written, and has none."""
        self._path = path
        self._given = metadata
        self._file = open_unpacked(path, whole=metadata is None)
        self._longest = limits.METADATA_FREE + path.stat().st_size  # packet that may come
        self._buffer = np.empty(_CHUNK, dtype=np.uint8)
        self._start = self._end = 0  # the part of the buffer that is not decoded yet
        self._base = 0  # offset in the file of the buffer's first byte
        self._decoder = Decoder()
        self._n_rare = 0
        self._own_name = OWN_NAME
        self._metadata: Metadata | None = None
        self._tracks: set[int] = set()  # uuids that were described
        self._n_again = 0  # descriptions of threads under another name
        self._tail_at: int | None = None  # where the metadata begin; None: before the events
        self._count = 0
        self.last_event = 0  # offset of the packet of the last event that was read
        self.totals: Totals | None = None

    def close(self) -> None:
        """Close the file and free the decoder."""
        self._file.close()
        self._decoder.close()

    def read_head(self) -> Metadata:
        """Read up to the first event, and the metadata wherever they are."""
        nothing = np.empty(1, dtype=EVENT_DTYPE)
        while self._metadata is None:
            if not self._step(nothing)[0]:
                size = self._base + self._end
                if size == 0:
                    raise TraceError(f"{self._path}: the file is empty")
                raise self._error("not a gilscope trace, or cut short before its metadata", size)
        return self._metadata

    def batches(self, room: NDArray[np.void]) -> Iterator[NDArray[np.void]]:
        """Yield the front of `room`, filled, until the trace ends."""
        while count := self.read(room):
            yield room[:count]

    def read(self, room: NDArray[np.void]) -> int:
        """Fill `room` with events; fewer than fit only at the end, which is checked."""
        count = 0
        more = True
        while more and count < len(room):
            more, events = self._step(room[count:])
            count += events
        self._count += count
        if not more:
            self._finish()
        return count

    @property
    def share(self) -> float | None:
        """Of the events that are read; None where only the end would tell."""
        return self._offset / self._tail_at if self._tail_at else None

    @property
    def _offset(self) -> int:
        return self._base + self._start

    def _error(self, message: str, offset: int | None = None) -> TraceError:
        return TraceError(
            f"{self._path}: offset {self._offset if offset is None else offset}: {message}"
        )

    def _step(self, room: NDArray[np.void]) -> tuple[bool, int]:
        """Decode until something is to be done, and do it; whether the file goes on, and events."""
        offset = self._offset
        data = self._buffer[self._start : self._end]
        status, result = self._decoder.decode(data, room)
        self._start += result.consumed
        if result.events:
            self.last_event = offset + result.last_event
        if (
            result.events
            and self._tail_at is not None
            and offset + result.last_event >= self._tail_at
        ):
            raise self._error("an event behind the metadata", offset + result.last_event)
        if self.totals is not None and (result.consumed or status is DecodeStatus.CORRUPT):
            raise self._error("data after the end of the trace", offset)
        if status is DecodeStatus.CORRUPT:
            if self._metadata is None:
                raise self._error("not a Perfetto trace")
            raise self._error((result.message or b"").decode())
        if status is DecodeStatus.RARE:
            first = result.packet_offset
            body = data[first : first + result.packet_bytes].tobytes()
            try:
                self._rare(body, offset + first)
            except layout.LayoutError as error:
                raise self._error(str(error), offset + first) from None
            except UnicodeDecodeError:  # protobuf looks at a text when it is asked for it
                raise self._error("a broken text", offset + first) from None
        if status is DecodeStatus.NEED_INPUT:
            return self._fill(result.needed), result.events
        return True, result.events

    def _fill(self, needed: int) -> bool:
        """Read on; False at the end of the file. The buffer grows only as data comes in."""
        if needed > self._longest:
            raise self._error("a packet longer than any that gilscope writes")
        left = self._end - self._start
        if self._start:
            self._buffer[:left] = self._buffer[self._start : self._end].copy()
            self._base += self._start
            self._start, self._end = 0, left
        if left == len(self._buffer):
            size = min(max(2 * left, _CHUNK), max(needed, left + _CHUNK))
            grown = np.empty(size, dtype=np.uint8)
            grown[:left] = self._buffer
            self._buffer = grown
        try:
            count = self._file.readinto(self._buffer[left:].data) or 0
        except (EOFError, OSError, UnpackError, zlib.error) as error:
            raise unreadable(self._path, error, self._base + left) from error
        self._end += count
        return bool(count)

    def _rare(self, body: bytes, offset: int) -> None:
        """Read a packet that is not hot."""
        self._n_rare += 1
        if self._metadata is None:
            self._head_packet(body)
            return
        if self._tail_at is not None and offset >= self._tail_at:
            self._tail_packet(body)
            return
        packet = _parsed(body, "a broken packet")
        if layout.is_old_detail(self._metadata, packet):
            pass
        elif introduced := layout.read_sequence(self._metadata, packet, self._own_name):
            wrong = self._decoder.introduce(*introduced, self._metadata.start_ns)
            if wrong:
                raise layout.LayoutError(wrong)
        elif self._tail_at is None and (end := layout.read_end(packet)):
            self.totals, _ = end
        else:
            self._track(layout.check_track(self._metadata, packet))

    def _track(self, uuid: int) -> None:
        """Each is described once; a thread's again where it got another name, as it may have
        whenever a sequence was introduced, and at the end."""
        assert self._metadata is not None
        if uuid not in self._tracks:
            self._tracks.add(uuid)
            return
        self._n_again += 1
        most = self._n_rare - len(self._tracks) - self._n_again + len(self._metadata.threads)
        if not layout.is_thread(uuid) or self._n_again > most:
            raise layout.LayoutError("a track that was described before")

    def _tail_packet(self, body: bytes) -> None:
        """The metadata, which were read before all else, and the end behind them."""
        name = layout.event_of(body).name
        if name == layout.THE_END and (end := layout.read_end(_parsed(body, "a broken packet"))):
            self.totals, _ = end
        elif name != layout.METADATA:
            raise layout.LayoutError("a packet behind the metadata")

    def _head_packet(self, body: bytes) -> None:
        packet = _parsed(body, "not a Perfetto trace") if self._n_rare < 3 else None
        try:
            if self._n_rare == 1:
                layout.read_clocks(packet)
            elif self._n_rare == 2:
                layout.read_recording_track(packet)
            else:
                _, self._metadata = layout.read_recording(body)
                if self._metadata is None:
                    if self._given is None:
                        self._metadata, self._tail_at = read_tail(self._path)
                    else:
                        self._metadata = self._given
                else:
                    self._longest = limits.PACKET_BYTES
                    self._own_name = OLD_OWN_NAME
                self._decoder.close()
                self._decoder = Decoder(self._metadata, self._own_name)
        except layout.BrokenMetadata:
            raise
        except layout.LayoutError as error:
            raise layout.LayoutError(
                f"a Perfetto trace, but not one by gilscope: it {error}"
            ) from None

    def _finish(self) -> None:
        if self._start != self._end or self.totals is None:
            raise self._error("the trace is cut short: it has no end", self._base + self._end)
        assert self._metadata is not None
        if sum(map(layout.is_thread, self._tracks)) != len(self._metadata.threads):
            raise self._error("a thread without a track")
        wrong = self._decoder.finish()
        if wrong:
            raise self._error(wrong)
        if self.totals.events != self._count:
            raise self._error(f"{self._count} events, but its end says {self.totals.events}")


def _parsed(body: bytes, otherwise: str) -> Any:
    """The TracePacket. Raises LayoutError with that message."""
    try:
        return TracePacket.FromString(body)
    except DecodeError:
        raise layout.LayoutError(otherwise) from None

"""Writes a trace file from an event source, in one pass and in constant memory."""

from __future__ import annotations

import io
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from gilscope.errors import GilscopeError, ImpossibleStory
from gilscope.perfetto import layout, trailer
from gilscope.perfetto.codec import Encoder, EncodeStatus
from gilscope.perfetto.details import Details
from gilscope.perfetto.tracks import Tracks
from gilscope.trace.schema import EventKind, EventSource, Metadata, Totals

if TYPE_CHECKING:
    from numpy.typing import NDArray

GZIP_LEVEL = 3  # docs/trace-format.md has the sizes and rates of the levels
_BUFFER = 1 << 20


def write_trace(
    source: EventSource, path: Path, progress: Callable[[int], None] | None = None
) -> Totals:
    """Write all events of `source` to `path`, compressed when its name ends in .gz.

    The file appears under its name when it is whole: it is written beside it first and renamed, so
    a full disk or Ctrl-C leaves no half trace. A device or a pipe is written directly. After each
    batch `progress` gets the number of events written so far.

    Returns the totals. Raises GilscopeError when the file cannot be written, ImpossibleStory for
    events that no trace can hold, and whatever `source` raises.
    """
    with whole_file(path, "the trace") as file:
        writer = TraceWriter(file, source.metadata, source.name, packed=path.name.endswith(".gz"))
        with closing(writer):
            for batch in source.batches():
                writer.write(batch)
                if progress is not None:
                    progress(writer.events)
            return writer.finish(source.metadata, source.totals.clamped)


class TraceWriter:
    """Writes one trace to a file, front to back, in constant memory.

    The metadata's tables may grow while it writes (`grow`); all else may change up to `finish`.
    Owner: one thread.
    """

    def __init__(self, file: IO[bytes], metadata: Metadata, name: str, *, packed: bool) -> None:
        """`name` is what errors call the events' source."""
        self._sink: _Plain | _Gzip = _Gzip(file) if packed else _Plain(file)
        self._metadata = metadata
        self._name = name
        self._encoder = Encoder(metadata)
        self._details = Details(metadata)
        self._tracks = Tracks()
        self._out = np.empty(_BUFFER, dtype=np.uint8)
        self.events = 0
        self._sink.write(layout.head(metadata))

    def close(self) -> None:
        """Free the encoder's memory; the file is the caller's."""
        self._encoder.close()

    def grow(self, metadata: Metadata) -> None:
        """Take in rows that the tables have got behind those that they had. Raises MemoryError."""
        self._metadata = metadata
        self._encoder.grow(metadata)
        self._details.grow(metadata)

    def write(self, batch: NDArray[np.void]) -> None:
        """Write an array of EVENT_DTYPE. Raises ImpossibleStory, OSError, MemoryError."""
        events = np.ascontiguousarray(batch)
        view = self._out.data
        status = EncodeStatus.FULL
        while status is not EncodeStatus.DONE:
            status, result = self._encoder.encode(events, self._out)
            self._sink.write(view[: result.written])
            self.events += result.consumed
            events = events[result.consumed :]
            if status is EncodeStatus.NEW_SEQUENCE:
                self._introduce(result.sequence, result.role, result.thread, result.gil)
            elif status is EncodeStatus.DETAIL:
                detail = result.detail
                self._sink.write(self._encoder.detail(detail, self._details.parts(detail)))
            elif status is EncodeStatus.IMPOSSIBLE:
                raise ImpossibleStory(self._refusal(events[0], (result.message or b"").decode()))
            elif status is EncodeStatus.NO_MEMORY:
                raise MemoryError("no memory to encode the trace")

    def flush(self) -> None:
        """Everything so far is in the file, even if this process is killed. Raises OSError."""
        self._sink.flush()

    def finish(self, metadata: Metadata, clamped: int) -> Totals:
        """Write what makes the trace whole: its metadata and its end. Returns the totals.

        Raises ImpossibleStory where something is open, OSError.
        """
        thread = self._encoder.open_thread()
        if thread is not None:
            raise ImpossibleStory(
                f"{self._name}: at the end thread {metadata.threads[thread].name!r} still has "
                "something open (a hold, a wait or a section), and its process has no end"
            )
        self._sink.write(layout.frame(*self._tracks.rest(metadata)))
        self._sink.begin_tail()
        begin = self._sink.written
        for packets in layout.tail(metadata):
            self._sink.write(packets)
        totals = Totals(events=self.events, clamped=clamped)
        self._sink.write(layout.end(metadata, totals, self._sink.written - begin))
        self._sink.finish()
        return totals

    def _introduce(self, sequence: int, role: int, thread: int, gil: int) -> None:
        tracks = self._tracks.of_sequence(self._metadata, role, thread, gil)
        self._sink.write(layout.frame(*tracks))
        self._sink.write(layout.introduce(self._metadata, sequence, role, thread, gil))
        if role == layout.ROLE_PROCESSOR:
            offset_ns = self._metadata.boottime_offset_ns
            self._encoder.show(sequence, self._tracks.tid(thread), offset_ns)

    def _refusal(self, event: NDArray[np.void], message: str) -> str:
        threads, kind, thread = self._metadata.threads, int(event["kind"]), int(event["thread"])
        label = EventKind(kind).label if kind in EventKind._value2member_map_ else f"kind {kind}"
        name = repr(threads[thread].name) if thread < len(threads) else str(thread)
        return f"{self._name}: event {self.events} ({label} of thread {name}): {message}"


class _Plain:
    """A file as it is. `written` counts bytes of the trace."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.written = 0

    def write(self, data: bytes | memoryview) -> None:
        """Write."""
        self._file.write(data)
        self.written += len(data)

    def flush(self) -> None:
        """To the kernel."""
        self._file.flush()

    def begin_tail(self) -> None:
        """The metadata follow."""

    def finish(self) -> None:
        """Nothing follows."""


class _Gzip:
    """A gzip file's writer: deterministic (no time, no name), and no copy of its input.

    The metadata are a member of their own. Behind it stands an empty one that tells where it is, so
    that a reader finds it without unpacking all that is before (trailer.py).
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._compressor = zlib.compressobj(GZIP_LEVEL, wbits=31)
        self._packed = self._tail_packed = self._tail_at = 0
        self.written = 0

    def write(self, data: bytes | memoryview) -> None:
        """Compress and write."""
        self._put(self._compressor.compress(data))
        self.written += len(data)

    def flush(self) -> None:
        """So that all before can be unpacked."""
        self._put(self._compressor.flush(zlib.Z_SYNC_FLUSH))
        self._file.flush()

    def begin_tail(self) -> None:
        """The metadata follow."""
        self._end_member()
        self._compressor = zlib.compressobj(GZIP_LEVEL, wbits=31)
        self._tail_packed, self._tail_at = self._packed, self.written

    def finish(self) -> None:
        """Write what is left, and the checksum."""
        self._end_member()
        self._put(trailer.build(self._packed - self._tail_packed, self._tail_at))

    def _end_member(self) -> None:
        self._put(self._compressor.flush())

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self._packed += len(data)


@contextmanager
def whole_file(
    path: Path, what: str, keep: Callable[[], bool] = lambda: False
) -> Iterator[IO[bytes]]:
    """Open a file that gets its name at the end, or not at all.

    What is not whole is left under another name where `keep` says so.
    Raises GilscopeError that says what cannot be written.
    """
    target = Path(os.path.realpath(path))  # a link stays a link
    temporary: Path | None = None
    try:
        if target.is_dir():
            raise IsADirectoryError("is a directory")
        if target.exists() and not stat.S_ISREG(target.stat().st_mode):
            # Left by an exception, it is closed without the rest: a pipe would wait for its reader.
            with target.open("wb", buffering=0) as raw:
                stream = io.BufferedWriter(raw)
                yield stream
                stream.flush()
            return
        partial = target.with_name(f".{target.name[:200]}.{os.getpid()}.part")
        with partial.open("xb") as file:
            temporary = partial
            yield file
        temporary.replace(target)
        temporary = None
    except OSError as error:
        raise GilscopeError(
            f"{path}: {what} cannot be written: {error.strerror or error}"
        ) from error
    finally:
        if temporary is not None and not keep():
            temporary.unlink(missing_ok=True)

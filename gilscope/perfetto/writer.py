"""Writes a trace file from an event source, in one pass and in constant memory."""

from __future__ import annotations

import io
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from gilscope.errors import GilscopeError, ImpossibleStory
from gilscope.perfetto import layout
from gilscope.perfetto.codec import Encoder, EncodeStatus
from gilscope.perfetto.details import Details
from gilscope.trace.schema import EventKind, EventSource, Totals

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
        sink = _Gzip(file) if path.name.endswith(".gz") else file
        totals = _write(source, sink, progress)
        if isinstance(sink, _Gzip):
            sink.finish()
    return totals


def _write(source: EventSource, sink: _Sink, progress: Callable[[int], None] | None) -> Totals:
    metadata = source.metadata
    sink.write(layout.head(metadata))
    out = np.empty(_BUFFER, dtype=np.uint8)
    view = out.data
    written = 0
    details = Details(metadata)
    with Encoder(metadata) as encoder:
        for batch in source.batches():
            events = np.ascontiguousarray(batch)
            status = EncodeStatus.FULL
            while status is not EncodeStatus.DONE:
                status, result = encoder.encode(events, out)
                sink.write(view[: result.written])
                written += result.consumed
                events = events[result.consumed :]
                if status is EncodeStatus.NEW_SEQUENCE:
                    sink.write(
                        layout.introduce(
                            metadata, result.sequence, result.role, result.thread, result.gil
                        )
                    )
                elif status is EncodeStatus.DETAIL:
                    sink.write(encoder.detail(result.detail, details.parts(result.detail)))
                elif status is EncodeStatus.IMPOSSIBLE:
                    raise ImpossibleStory(
                        _describe(source, written, events[0], (result.message or b"").decode())
                    )
                elif status is EncodeStatus.NO_MEMORY:
                    raise MemoryError("no memory to encode the trace")
            if progress is not None:
                progress(written)
        thread = encoder.open_thread()
        if thread is not None:
            raise ImpossibleStory(
                f"{source.name}: at the end thread {metadata.threads[thread].name!r} still has "
                "something open (a hold, a wait or a section), and its process has no end"
            )
    totals = Totals(events=written, clamped=source.totals.clamped)
    sink.write(layout.end(metadata, totals))
    return totals


def _describe(source: EventSource, index: int, event: NDArray[np.void], message: str) -> str:
    threads, kind, thread = source.metadata.threads, int(event["kind"]), int(event["thread"])
    label = EventKind(kind).label if kind in EventKind._value2member_map_ else f"kind {kind}"
    name = repr(threads[thread].name) if thread < len(threads) else str(thread)
    return f"{source.name}: event {index} ({label} of thread {name}): {message}"


class _Gzip:
    """A gzip file's writer: deterministic (no time, no name), and no copy of its input."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._compressor = zlib.compressobj(GZIP_LEVEL, wbits=31)

    def write(self, data: bytes | memoryview) -> None:
        """Compress and write."""
        self._file.write(self._compressor.compress(data))

    def finish(self) -> None:
        """Write what is left, and the checksum."""
        self._file.write(self._compressor.flush())


_Sink = IO[bytes] | _Gzip


@contextmanager
def whole_file(path: Path, what: str) -> Iterator[IO[bytes]]:
    """Open a file that gets its name at the end, or not at all.

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
        if temporary is not None:
            temporary.unlink(missing_ok=True)

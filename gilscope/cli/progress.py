"""How far reading and writing are: a bar on standard error, where that is a terminal.

It comes after a second, goes when the step is over, and is never in a pipe.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.progress import Progress, TaskID

    from gilscope.trace.model import Trace
    from gilscope.trace.schema import EventSource, Metadata, Totals

AFTER_S = 1.0


def read(path: Path) -> Trace:
    """`gilscope.read`, with a bar. Raises as that does."""
    from gilscope.perfetto.reader import open_trace  # noqa: PLC0415 - numpy, perfetto
    from gilscope.trace.model import Trace  # noqa: PLC0415

    return Trace.from_source(watched(open_trace(path), f"reading {path.name}"))


def watched(source: EventSource, what: str) -> EventSource:
    """The same source; what is read of it shows where a person sees it."""
    return _Watched(source, what) if sys.stderr.isatty() else source


class _Watched:
    """An EventSource that shows how far it is read."""

    def __init__(self, source: EventSource, what: str) -> None:
        self._source = source
        self._what = what

    @property
    def name(self) -> str:
        return self._source.name

    @property
    def metadata(self) -> Metadata:
        return self._source.metadata

    @property
    def totals(self) -> Totals:
        return self._source.totals

    def locate(self, index: int) -> int:
        return self._source.locate(index)

    def batches(self) -> Iterator[NDArray[np.void]]:
        with Shown(self._what) as shown:
            for batch in self._source.batches():
                yield batch
                shown.advance(len(batch), getattr(self._source, "share", None))


class Shown:
    """A bar; nothing for its first second."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._done = 0
        self._begun = time.monotonic()
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def advance(self, events: int, share: float | None) -> None:
        """So many more events; which share of all is done, None: nobody knows."""
        self._done += events
        if self._bar is None and time.monotonic() - self._begun >= AFTER_S:
            self._open()
        if self._bar is not None and self._task is not None:
            rate = self._done / (time.monotonic() - self._begun) / 1e6
            self._bar.update(
                self._task,
                completed=share or 0.0,
                total=None if share is None else 1.0,
                rate=f"{rate:.1f} M events/s",
            )

    def __enter__(self) -> Shown:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _open(self) -> None:
        from rich.console import Console  # noqa: PLC0415 - only for what takes long
        from rich.progress import (  # noqa: PLC0415
            BarColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._bar.start()
        self._task = self._bar.add_task(self._what, total=None, rate="")

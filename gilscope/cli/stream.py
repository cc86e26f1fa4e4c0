"""What `gilscope record` starts beside the program: writes the trace while the rings grow.

    python -c '… main()' DIRECTORY TRACE FOLLOW SUMMARY

Its input is a pipe whose end means that the recording is over; on its output it tells the recorder
what came of it, as one line of JSON. What people are to see goes to standard error, at the end.
When the recorder was killed it writes no trace and leaves everything to `gilscope recover`.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gilscope.errors import GilscopeError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from gilscope.perfetto.writer import TraceWriter
    from gilscope.trace.committed import Commits
    from gilscope.trace.following import Following
    from gilscope.trace.schema import Metadata, Totals
    from gilscope.trace.story import Story
    from gilscope.trace.switches import Switches

NICE = 10
PERIOD_S = 0.1  # between two looks at the rings
REFRESH_S = 1.0  # between two looks at the names of threads, and between two commits
_INPUT = 0


class Killed(GilscopeError):
    """The recorder is gone."""


def main() -> int:
    """Exit code 0: what went wrong is told to the recorder, which then does it by itself."""
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # it is in the background of its terminal
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the recorder decides
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.nice(NICE)
    directory, trace, follow, summary = sys.argv[1:]
    try:
        answer = _run(Path(directory), Path(trace), follow == "1", summary == "1")
    except (Exception, KeyboardInterrupt) as error:  # the recorder has the rings, whatever it is
        answer = {"error": " ".join(str(error).split()) or type(error).__name__}
    print(json.dumps(answer), flush=True)
    return 0


def _run(directory: Path, trace: Path, follow: bool, summary: bool) -> dict[str, Any]:
    from gilscope.perfetto.writer import TraceWriter, whole_file  # noqa: PLC0415 - heavy
    from gilscope.recorder.notes import Notes  # noqa: PLC0415
    from gilscope.trace.committed import Commits, tell_recorder  # noqa: PLC0415
    from gilscope.trace.following import Following  # noqa: PLC0415
    from gilscope.trace.story import Story  # noqa: PLC0415
    from gilscope.trace.switches import Switches  # noqa: PLC0415

    with Following(directory, Notes.read(directory)) as rings:
        rings.poll()
        story = Story(rings, keep=True) if summary else None
        if story:
            story.spill(Path(os.path.realpath(trace)).parent)
        # What the rings have given back is in this file alone.
        with whole_file(trace, "the trace", keep=lambda: rings.taken_back) as file:
            packed = trace.name.endswith(".gz")
            writer = TraceWriter(file, rings.metadata, rings.name, packed=packed)
            switches = Switches(directory)
            stream = Stream(rings, writer, Commits(directory, Path(file.name)), switches)
            stream.safe = tell_recorder(directory)
            stream.story = story
            while not _recording_is_over():
                stream.step()
            notes = Notes.read(directory)
            if notes.exit_code is None:
                raise Killed("the recorder was killed")
            totals = stream.finish(notes)
            metadata = switches.described(rings.metadata)
        _tell(rings, follow)
        if story and totals.events:
            _print_summary(metadata, story, totals, trace)
        return {"events": totals.events}


def _recording_is_over() -> bool:
    """Waits for one period, or until it is."""
    ready, _, _ = select.select([_INPUT], [], [], PERIOD_S)
    return bool(ready) and not os.read(_INPUT, 1)


class Stream:
    """Moves events from growing rings to a growing file, and to the story that checks them."""

    def __init__(
        self, rings: Following, writer: TraceWriter, commits: Commits, switches: Switches
    ) -> None:
        self._rings = rings
        self._writer = writer
        self._commits = commits
        self._switches = switches
        self._metadata: Metadata = rings.metadata
        self._refreshed = 0.0
        self.story: Story | None = None
        self.safe: Callable[[int], None] | None = None  # told up to when all is in the file

    def step(self) -> None:
        """What is certain by now."""
        self._rings.poll()
        self._pass_on()
        if time.monotonic() - self._refreshed > REFRESH_S:
            self._rings.refresh()
            self._write(self._switches.settled(self._metadata.threads))
            self._commit()
            self._refreshed = time.monotonic()

    def finish(self, notes: Any) -> Totals:
        """The rest, and the trace's end."""
        self._rings.finish(notes)
        self._pass_on()
        self._write(self._switches.rest(self._rings.metadata))
        if self.story:
            self.story.finish()
        metadata = self._switches.described(self._rings.metadata)
        totals = self._writer.finish(metadata, self._rings.totals.clamped)
        self._writer.close()
        return totals

    def _commit(self) -> None:
        self._writer.flush()
        self._commits.commit(
            self._rings,
            self._writer.events,
            self._rings.totals.clamped,
            self._switches.given_until_ns,
        )
        if self.story:
            self.story.settle()
        if self.safe:
            self.safe(self._rings.given_before)

    def _pass_on(self) -> None:
        if self._rings.metadata is not self._metadata:
            self._metadata = self._rings.metadata
            self._writer.grow(self._metadata)
            if self.story:
                self.story.grow()
        for batch in self._rings.batches():
            self._write(batch)

    def _write(self, batch: NDArray[np.void]) -> None:
        if len(batch):
            self._writer.write(batch)
            if self.story:
                self.story.feed(batch)


def _tell(rings: Following, follow: bool) -> None:
    from gilscope.recorder.diagnose import left_out, nothing_recorded  # noqa: PLC0415
    from gilscope.recorder.record import say  # noqa: PLC0415

    if reason := nothing_recorded(rings.metadata.command, rings.metadata.processes, follow):
        say(reason)
    for line in left_out(*rings.left_out):
        say(line)


def _print_summary(metadata: Metadata, story: Story, totals: Totals, trace: Path) -> None:
    from rich.console import Console  # noqa: PLC0415

    from gilscope.analysis.summary import summarise  # noqa: PLC0415
    from gilscope.recorder.record import say  # noqa: PLC0415
    from gilscope.trace.model import Trace  # noqa: PLC0415
    from gilscope.viewers.terminal import render  # noqa: PLC0415

    try:
        told = Trace.of_story(story, str(trace), metadata, totals)
        render(summarise(told), Console(file=sys.stderr))
    except (GilscopeError, MemoryError, ImportError) as error:
        say(f"no summary: {' '.join(str(error).split()) or type(error).__name__}")

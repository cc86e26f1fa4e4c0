"""What of a recording is in a trace that is still being written, beside what is in the rings.

The process that writes it (cli/stream.py) says from time to time how far it is: `commit`. The
recorder may then take back the rings' part of that. When the writer is killed, its file up to there
and the rings make the whole: `Joined` reads one behind the other.

Beside the rings lie `stream.rows`, a JSON line for each row of the tables that came or changed, and
`stream.state`, replaced as a whole: a JSON line and what follow_resume.c has to know.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from gilscope.errors import TraceError
from gilscope.recorder.notes import RINGS, Notes
from gilscope.trace.following import Following
from gilscope.trace.ring_pages import SAFE_OFFSET
from gilscope.trace.schema import EventSource, Metadata, Totals
from gilscope.trace.switches import Switches

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

STATE, ROWS = "stream.state", "stream.rows"


class Commits:
    """Says how far a trace is. Owner: the process that writes it."""

    def __init__(self, directory: Path, part: Path) -> None:
        """`part` is the file under its name while it is written."""
        self._directory = directory
        self._part = part
        self._rows: IO[str] = (directory / ROWS).open("w", encoding="utf-8")

    def commit(
        self, rings: Following, events: int, clamped: int, switches_until_ns: int = 0
    ) -> None:
        """All events that `rings` has given are in the file: whoever kills us finds them there. So
        are the context switches up to that time; `events` counts both.
        """
        for row in rings.rows():
            json.dump(row, self._rows, separators=(",", ":"))
            self._rows.write("\n")
        self._rows.flush()
        state = rings.state()
        about = {
            "part": str(self._part.absolute()),
            "events": events,
            "clamped": clamped,
            "switches_until_ns": switches_until_ns,
            "rows": self._rows.tell(),
            "sizes": [len(part) for part in state],
        }
        new = self._directory / f"{STATE}.new"
        new.write_bytes(b"".join([json.dumps(about).encode(), b"\n", *state]))
        new.replace(self._directory / STATE)

    def close(self) -> None:
        """The trace is whole, or nobody can go on with it."""
        self._rows.close()


class Joined:
    """An EventSource: a trace that was cut short, and behind it what the rings have."""

    def __init__(
        self, directory: Path, open_part: Callable[[Path, Metadata, int], EventSource]
    ) -> None:
        """`open_part` opens the file of a trace without an end. Raises TraceError."""
        self.notes = Notes.read(directory)
        about, state = _read_state(directory)
        self._rings = Following(directory, self.notes)
        self._rings.resume(_read_rows(directory, about["rows"]), state)
        self._rings.finish(self.notes)
        self._switches = Switches(directory)
        self._switches_until_ns = int(about.get("switches_until_ns", 0))
        self._n_switches = 0
        self.metadata = self._switches.described(self._rings.metadata)
        self.part = Path(about["part"])
        self._part = open_part(self.part, self.metadata, about["events"])
        self._before = Totals(about["events"], about["clamped"])

    @property
    def name(self) -> str:
        """Path of the rings."""
        return self._rings.name

    @property
    def left_out(self) -> Any:
        """What ran and is not in the recording."""
        return self._rings.left_out

    @property
    def totals(self) -> Totals:
        """Of both, when `batches` has ended."""
        rest = self._rings.totals
        events = self._before.events + rest.events + self._n_switches
        return Totals(events, self._before.clamped + rest.clamped)

    def locate(self, index: int) -> int:
        """They are in two files: 0."""
        return 0

    def batches(self) -> Iterator[NDArray[np.void]]:
        """Yield the events of both."""
        yield from self._part.batches()
        yield from self._rings.batches()
        switches = self._switches.rest(self.metadata)
        switches = switches[switches["time_ns"] >= self._switches_until_ns]
        self._n_switches = len(switches)
        if len(switches):
            yield switches

    def close(self) -> None:
        """Let the rings go."""
        self._switches.close()
        self._rings.close()

    def __enter__(self) -> Joined:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def is_needed(directory: Path) -> bool:
    """Whether a part of the recording is in its unfinished trace alone. Raises TraceError."""
    if not (directory / STATE).exists():
        return False
    with Following(directory, Notes.read(directory)) as rings:
        return rings.taken_back


def _read_state(directory: Path) -> tuple[dict[str, Any], list[bytes]]:
    try:
        line, _, rest = (directory / STATE).read_bytes().partition(b"\n")
        about = json.loads(line)
        state = []
        for size in about["sizes"]:
            state.append(rest[:size])
            rest = rest[size:]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TraceError(f"{directory / STATE}: cannot be read ({error})") from error
    return about, state


def _read_rows(directory: Path, size: int) -> Iterator[list[Any]]:
    try:
        with (directory / ROWS).open("rb") as file:
            for line in file.read(size).splitlines():
                yield json.loads(line)
    except (OSError, ValueError) as error:
        raise TraceError(f"{directory / ROWS}: cannot be read ({error})") from error


def tell_recorder(directory: Path) -> Callable[[int], None]:
    """What tells the recorder that all before these ticks is safe (gs_file_header.safe_before)."""
    descriptor = os.open(directory / RINGS, os.O_RDWR | os.O_CLOEXEC)
    header = mmap.mmap(descriptor, mmap.PAGESIZE)
    os.close(descriptor)
    word = ctypes.c_uint64.from_buffer(header, SAFE_OFFSET)  # stored at once, not byte by byte

    def tell(ticks: int) -> None:
        word.value = ticks

    return tell

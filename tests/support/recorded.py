"""Runs `gilscope record` the way a user does, and keeps what came of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gilscope.trace.model import Trace
from gilscope.trace.schema import Metadata, Thread

GILSCOPE = (sys.executable, "-m", "gilscope")
TIMEOUT_S = 300

# Records, keeps the rings and says where they are.
_KEEP_RINGS = """
import sys
from gilscope.recorder.options import Options
from gilscope.recorder.record import record
recorded = record(sys.argv[1:], Options())
print(recorded.session.directory, file=sys.stderr)
sys.exit(recorded.notes.exit_code)
"""


@dataclass(frozen=True)
class Recording:
    """A run of `gilscope record`; `trace` may not exist when it failed."""

    code: int
    out: str
    err: str
    path: Path

    @property
    def metadata(self) -> Metadata:
        """Of the trace. Raises TraceError."""
        from gilscope.perfetto.reader import open_trace  # noqa: PLC0415

        return open_trace(self.path).metadata

    @property
    def trace(self) -> Trace:
        """All of it, checked to be possible. Raises TraceError."""
        import gilscope  # noqa: PLC0415

        return gilscope.read(self.path)

    def thread(self, name: str) -> Thread:
        """The only thread of that name."""
        (found,) = (t for t in self.metadata.threads if t.name == name)
        return found


def record(
    folder: Path,
    *command: str | Path,
    options: tuple[str, ...] = (),
    stdin: str = "",
    variables: Mapping[str, str] | None = None,
) -> Recording:
    """`gilscope record` in `folder`, to its end."""
    trace = folder / "out.pftrace"
    done = subprocess.run(
        [*GILSCOPE, "record", "--no-summary", "-o", trace, *options, "--", *command],
        input=stdin,
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, **(variables or {})},
        timeout=TIMEOUT_S,
        check=False,
    )
    return Recording(done.returncode, done.stdout, done.stderr, trace)


def record_rings(*command: str | Path) -> Path:
    """Record, and return the directory that holds the rings; it is the caller's to remove."""
    done = subprocess.run(
        [sys.executable, "-c", _KEEP_RINGS, *command],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    return Path(done.stderr.strip().splitlines()[-1])

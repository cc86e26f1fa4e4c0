"""The process beside a recording that writes the trace while the program runs.

It is another gilscope (cli/stream.py), so that reading, packing and analysing take neither the
recorder's time nor the program's: it starts when there is something to write, in a process group of
its own (the terminal's Ctrl-C is for the program), and gives way to everybody (nice). Over a pair
of pipes it is told that the program is over, by the end of its input, and answers with one line.

Imports nothing heavy: it stands between the user's command and the program's start.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

START = "GILSCOPE_STREAM_AT"
START_BYTES = 8 << 20  # of the rings: what is less is written at the end, in a moment


class Answer(NamedTuple):
    """What came of it."""

    events: int | None  # in the trace; None: it was not written, and the rings have everything
    error: str | None = None


class Beside:
    """Writes the trace of one recording. Owner: the recorder's thread."""

    def __init__(self, arguments: Sequence[str]) -> None:
        """`arguments` are those of cli/stream.py."""
        self._arguments = arguments
        self._start_bytes = int(os.environ.get(START) or START_BYTES)
        self._pid: int | None = None
        self._input = self._output = -1

    def tick(self, used_bytes: int, limit_bytes: int) -> None:
        """Start it once so much of the rings is used. Never waits."""
        start_bytes = self._start_bytes
        if limit_bytes > START_BYTES:  # what is smaller is soon full, and written at the end
            start_bytes = min(start_bytes, limit_bytes // 8)  # it needs a while to come
        if self._pid is None and self._input < 0 and used_bytes >= start_bytes:
            self._start()

    @property
    def started(self) -> bool:
        """Whether there is such a process."""
        return self._pid is not None

    def finish(self) -> Answer:
        """The recording is over and its notes are written: wait for the trace.

        Interrupted, it stops the process and raises KeyboardInterrupt.
        """
        if self._pid is None:
            return Answer(None)
        os.close(self._input)
        try:
            with os.fdopen(self._output, "rb") as pipe:
                line = pipe.read()
            os.waitpid(self._pid, 0)
        except BaseException:
            os.kill(self._pid, signal.SIGTERM)
            os.waitpid(self._pid, 0)
            raise
        finally:
            self._pid = None
        try:
            said: dict[str, Any] = json.loads(line)
            return Answer(said.get("events"), said.get("error"))
        except ValueError:
            return Answer(None)

    def abandon(self) -> None:
        """Nobody needs it any more."""
        if self._pid is not None:
            os.kill(self._pid, signal.SIGTERM)
            os.waitpid(self._pid, 0)
            os.close(self._input)
            os.close(self._output)
            self._pid = None

    def _start(self) -> None:
        inner_in, self._input = os.pipe()
        self._output, inner_out = os.pipe()
        imports = f"import sys; sys.path[:] = {sys.path!r}; from gilscope.cli.stream import main"
        command = [sys.executable, "-I", "-c", f"{imports}; sys.exit(main())", *self._arguments]
        try:
            self._pid = os.posix_spawn(
                sys.executable,
                command,
                os.environ,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, inner_in, 0),
                    (os.POSIX_SPAWN_DUP2, inner_out, 1),
                ],
                setpgroup=0,
                setsigmask=[],
                setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE],
            )
        except OSError:  # the trace is written at the end, then
            os.close(self._input)
            os.close(self._output)
        os.close(inner_in)
        os.close(inner_out)

"""The course of a recording beside the program's: when it begins and ends, and its snapshots.

A snapshot is another gilscope (cli/snapshot.py), so that the recorder goes on meanwhile. Imports
nothing heavy.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from gilscope.recorder.beside import Answer
from gilscope.recorder.notes import DURATION
from gilscope.recorder.options import Options
from gilscope.recorder.session import Session


class Course:
    """Owner: the recorder's thread, which calls `tick` every few milliseconds."""

    def __init__(
        self, session: Session, options: Options, trace: Path, say: Callable[[str], None]
    ) -> None:
        """`trace` is the recording's own; snapshots are named after it."""
        self._session, self._options, self._trace, self._say = session, options, trace, say
        self._began = time.monotonic() + options.delay
        self._waits = options.delay > 0
        if self._waits:
            session.pause()
        if options.keep and options.keep.seconds:
            session.keep(options.keep.seconds)
        if options.dump_when:
            session.watch(options.dump_when.metrics, options.dump_when.ns)
        self._number = 0
        self._writer: _Writer | None = None
        self._last_dump = -1e9
        self._wanted: list[str] = []  # why a snapshot is due
        self.stopped: str | None = None  # DURATION
        self.written: Answer | None = None  # the trace, when it was written before the end

    def tick(self) -> None:
        """What is due by now. Never waits."""
        now = time.monotonic()
        if self._waits and now >= self._began:
            self._waits = False
            self._session.resume()
        self._watch(now)
        duration = self._options.duration
        if duration is not None and not self.stopped and now >= self._began + duration:
            self._session.stop()
            self.stopped = DURATION
            self._wanted.clear()
        self._write()

    def signal(self, number: int) -> bool:
        """Whether this signal was for gilscope: SIGUSR2 asks a flight recorder for a snapshot."""
        if number != signal.SIGUSR2 or not self._options.keep:
            return False
        self._wanted.append("SIGUSR2")
        return True

    def finish(self) -> None:
        """The program is over: wait for what is being written."""
        if self._writer:
            self._done(self._writer.wait())

    def _watch(self, now: float) -> None:
        when = self._options.dump_when
        if not when or self._waits or self.stopped:
            return
        ns = self._session.longest()
        if ns and now - self._last_dump >= self._options.dump_every:
            self._last_dump = now
            self._wanted.append(f"{when.text}: {ns / 1e6:,.1f} ms")

    def _write(self) -> None:
        if self._writer:
            answer = self._writer.poll()
            if answer is None:
                return
            self._done(answer)
        if self.stopped and self.written is None:
            self._writer = _Writer(self._session.directory, self._trace, None)
        elif self._wanted:
            self._number += 1
            why = " and ".join(self._wanted)
            self._wanted.clear()
            self._writer = _Writer(self._session.directory, self._numbered(), why)

    def _numbered(self) -> Path:
        name = self._trace.name
        suffix = next((s for s in (".pftrace.gz", ".pftrace") if name.endswith(s)), "")
        return self._trace.with_name(f"{name.removesuffix(suffix)}.{self._number}{suffix}")

    def _done(self, answer: Answer) -> None:
        writer, self._writer = self._writer, None
        assert writer
        if writer.why is None:
            self.written = answer
        if answer.events is None:
            self._say(f"no snapshot in {writer.trace}: {answer.error}")
        else:
            rest = "the recording is over, the program goes on"
            if writer.why:
                rest = f"because of {writer.why}; recording goes on"
            self._say(f"{answer.events:,} events in {writer.trace}; {rest}")


class _Writer:
    """A process that writes a copy of the rings as a trace. `why` None: it is the last one."""

    def __init__(self, directory: Path, trace: Path, why: str | None) -> None:
        self.trace, self.why = trace, why
        self._output, inner = os.pipe()
        os.set_blocking(self._output, False)
        imports = f"import sys; sys.path[:] = {sys.path!r}; from gilscope.cli.snapshot import main"
        command = [sys.executable, "-I", "-c", f"{imports}; sys.exit(main())"]
        command += [str(directory), str(trace)]
        self._text = b""
        self._pid: int | None = None
        try:
            self._pid = os.posix_spawn(
                sys.executable,
                command,
                os.environ,
                file_actions=[(os.POSIX_SPAWN_DUP2, inner, 1)],
                setpgroup=0,
                setsigmask=[],
                setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE],
            )
        except OSError as error:
            self._text = json.dumps({"error": error.strerror}).encode()
        os.close(inner)

    def poll(self) -> Answer | None:
        """What came of it, once it is over."""
        if self._pid is not None:
            ended, _ = os.waitpid(self._pid, os.WNOHANG)
            return self._answer() if ended else None
        return self._answer()

    def wait(self) -> Answer:
        """What came of it."""
        if self._pid is not None:
            os.waitpid(self._pid, 0)
        return self._answer()

    def _answer(self) -> Answer:
        self._pid = None
        with contextlib.suppress(BlockingIOError):
            self._text += os.read(self._output, 1 << 16)
        os.close(self._output)
        try:
            said = json.loads(self._text)
            return Answer(said.get("events"), said.get("error"))
        except ValueError:
            return Answer(None, "it ended without a word")

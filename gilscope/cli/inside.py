"""What `gilscope.trace` starts beside a program: keeps its rings, and writes its traces.

    python -c '… main()' PID COMMAND…

A line of its input asks, a line of its output answers (attach/inside.py). Between two recordings it
does nothing, and it loads nothing of weight: what is written is written by a process of its own.
When its input ends in the middle of a recording, the program was killed: its rings are left for
`gilscope recover`.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from gilscope import __version__
from gilscope.errors import GilscopeError
from gilscope.recorder.notes import Notes
from gilscope.recorder.session import Session

_PERIOD_MS = 10
_INPUT, _OUTPUT = 0, 1


def main() -> int:
    """Runs until its input ends."""
    if os.fork():
        os._exit(0)  # so that it is no child of the program's
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    pid, *command = sys.argv[1:]
    _Keeper(int(pid), tuple(command)).serve()
    return 0


class _Keeper:
    def __init__(self, pid: int, command: tuple[str, ...]) -> None:
        self._pid, self._command = pid, command
        self._session: Session | None = None
        self._over = False
        self._next: Session | None = None  # made ahead, so that to begin is quick
        self._rest = b""

    def serve(self) -> None:
        """Answers line by line, and keeps the rings meanwhile."""
        poll = select.poll()
        poll.register(_INPUT, select.POLLIN)
        while True:
            recording = self._session is not None and not self._over
            ready = poll.poll(_PERIOD_MS if recording else None)
            if self._session and recording:
                self._session.tick()
            if not ready:
                continue
            got = os.read(_INPUT, 1 << 12)
            if not got:
                self.close()
                return
            self._rest += got
            while b"\n" in self._rest:
                line, _, self._rest = self._rest.partition(b"\n")
                self._answer(line.decode("utf-8", "surrogateescape").split("\t"))

    def _answer(self, words: list[str]) -> None:
        try:
            getattr(self, f"_do_{words[0]}")(*words[1:])
        except (GilscopeError, OSError, MemoryError) as error:
            _say("error", " ".join(str(error).split()) or type(error).__name__)

    def _do_begin(self) -> None:
        os.chdir(f"/proc/{self._pid}/cwd")
        session = self._session = self._next or Session()
        self._next = None
        self._over = False
        self._notes(session)
        session.begin(self._pid)
        _say("rings", str(session.path))
        session.tick()  # behind the answer: for a moment there is room enough

    def _do_discard(self) -> None:
        if self._session:
            self._session.discard()
        self._session = None
        _say("done", "")

    def _do_end(self) -> None:
        assert self._session
        self._session.stop_for_good()
        self._over = True
        self._notes(self._session, over=True)
        _say("done", "")

    def _do_part(self, path: str, since: str) -> None:
        """Of a recording that goes on: written by another process, while this one keeps it."""
        assert self._session
        writer = os.fork()
        if writer == 0:
            _write_and_exit(self._session.directory, Path(path), int(since), running=True)
        self._wait(writer)

    def _do_write(self, path: str, since: str) -> None:
        assert self._session
        writer = os.fork()
        if writer == 0:
            _write_and_exit(self._session.directory, Path(path), int(since), running=False)
        self._wait(writer)
        self._session.discard()
        self._session = None
        self._prepare()

    def _prepare(self) -> None:
        with suppress(GilscopeError, OSError):  # it is told when there is somebody to hear it
            self._next = Session()

    def close(self) -> None:
        """The program is over."""
        if self._next:
            self._next.discard()

    def _wait(self, writer: int) -> None:
        while os.waitpid(writer, os.WNOHANG) == (0, 0):
            if self._session and not self._over:
                self._session.tick()
            time.sleep(_PERIOD_MS / 1000)

    def _notes(self, session: Session, *, over: bool = False) -> None:
        Notes(
            command=self._command,
            gilscope=__version__,
            root_pid=self._pid if over else None,
            root_end_ns=time.monotonic_ns() if over else None,
            exit_code=0 if over else None,
            stopped=session.stopped if over and session.disk_full else None,
            limit=session.limit,
        ).write(session.directory)


def _write_and_exit(directory: Path, trace: Path, since_ns: int, *, running: bool) -> None:
    """In a process of its own; answers in its parent's name."""
    try:
        _say("events", str(_write(directory, trace, since_ns, running=running)))
    except BaseException as error:  # whatever it is, the program is to hear of it
        _say("error", " ".join(str(error).split()) or type(error).__name__)
    finally:
        os._exit(0)


def _write(directory: Path, trace: Path, since_ns: int, *, running: bool) -> int:
    from gilscope.cli.recording import open_recording  # noqa: PLC0415 - heavy
    from gilscope.cli.snapshot import write as write_snapshot  # noqa: PLC0415
    from gilscope.perfetto.reader import open_trace  # noqa: PLC0415
    from gilscope.perfetto.writer import write_trace  # noqa: PLC0415
    from gilscope.trace.cut import Cut  # noqa: PLC0415

    whole = trace if not since_ns else directory / f"whole-{os.getpid()}.pftrace"
    if running:
        events = write_snapshot(directory, whole).events
    else:
        with open_recording(directory) as rings:
            events = write_trace(rings, whole).events
    if not since_ns:
        return events
    source = open_trace(whole)
    metadata = source.metadata
    first = max(since_ns, metadata.start_ns)
    if first < metadata.end_ns:
        events = write_trace(Cut(source, first, metadata.end_ns + 1), trace).events
    else:
        whole.replace(trace)
    whole.unlink(missing_ok=True)
    return events


def _say(kind: str, text: str) -> None:
    os.write(_OUTPUT, f"{kind}\t{text}\n".encode("utf-8", "surrogateescape"))

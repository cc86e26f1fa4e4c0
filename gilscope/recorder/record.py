"""Record one command into rings."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from gilscope import __version__
from gilscope.errors import GilscopeError, RecordingError
from gilscope.naming import program_name
from gilscope.recorder import launch
from gilscope.recorder.beside import Beside
from gilscope.recorder.course import Course
from gilscope.recorder.kernel import Kernel
from gilscope.recorder.notes import LEFT, Notes
from gilscope.recorder.options import Options
from gilscope.recorder.patience import Patience
from gilscope.recorder.policy import Choice
from gilscope.recorder.preload import preload
from gilscope.recorder.session import Session
from gilscope.recorder.standing import Looks
from gilscope.safe_text import escaped

RINGS = "GILSCOPE_RINGS"
STACKS = "GILSCOPE_STACKS_US"
COUNTERS_KEPT_S = 60.0  # of counters alone: for so long a thread that is over keeps its page
_STILL_THERE = (
    "the program (pid {pid}) was asked to end and still runs; asked again within half a minute, by"
    " Ctrl-C or SIGTERM, gilscope ends the recording, and the program goes on"
)


class Recorded(NamedTuple):
    """What came of it. The rings are the caller's to read and to discard."""

    session: Session
    notes: Notes
    writer: Beside | None  # what writes the trace, if anything was started
    course: Course  # what was written before the end
    left_by: int | None  # the signal that ended the recording, while the program went on

    @property
    def exit_code(self) -> int:
        """The command's own, or 128+N of the signal that ended the recording before."""
        return 128 + (self.left_by or 0) if self.notes.exit_code is None else self.notes.exit_code


def trace_name(command: Sequence[str], pid: int) -> Path:
    """The trace's name where the user gave none: gilscope-<program>-<pid>.pftrace."""
    return Path(f"gilscope-{program_name(command)}-{pid}.pftrace")


def say(line: str) -> None:
    """One line for the user; the program's own output is left alone."""
    print(f"gilscope: {escaped(line)}", file=sys.stderr, flush=True)


def record(  # noqa: PLR0917
    command: Sequence[str],
    options: Options,
    policy: Choice | None = None,
    beside: Callable[[Session, int], Beside] | None = None,
    trace: Path | None = None,
    beat: Callable[[Session], None] | None = None,
) -> Recorded:
    """Run the command, with the probe in it and in what it starts, until all of it has ended.

    `beside` gives, for the session and the command's pid, what writes the trace meanwhile; `trace`
    is its name, if the user gave one. `beat` is called every few milliseconds while the command
    runs. Where there is no room to record, it says so and becomes the
    command. Raises UsageError for a command that cannot be run, and as `preload` does.
    """
    try:
        reuse = options.keep is not None or options.counters
        session = Session(options.ring_bytes, options.follow, reuse)
    except RecordingError as error:
        say(f"{error}; the program runs without being recorded")
        launch.become(command)
    notes = Notes(
        command=tuple(command),
        gilscope=__version__,
        policy=policy.notes() if policy else None,
        limit=session.limit,
    )
    writer: Beside | None = None
    kernel = Kernel(session, options.sched, say)
    over = False
    try:
        notes.write(session.directory)
        with launch.signals_held():
            if options.delay or options.counters:
                session.pause()
            if options.counters:
                session.keep(COUNTERS_KEPT_S)
            pid = launch.spawn(command, environment(session, policy), kernel.begin)
            if beside:
                writer = beside(session, pid)
            course = Course(session, options, trace or trace_name(command, pid), say)
            looks = Looks(session)
            endless = options.max_bytes is None
            tick = partial(_tick, session, writer, course, looks, kernel, beat, endless=endless)
            patience = Patience(lambda: say(_STILL_THERE.format(pid=pid)))
            exit_code = launch.wait(pid, tick, patience, course.signal)
            ended_ns = None if exit_code is None else time.monotonic_ns()
            if exit_code is not None:
                wait_for_the_rest(session, pid, tick)
            stopped = course.stopped or session.stopped or (LEFT if exit_code is None else None)
            session.stop()
            throttled = kernel.finish()
            over = True
            looks.finish()
            course.finish()
    except KeyboardInterrupt:
        # Held while the program runs. Behind its end it came too late for the program and too early
        # for the trace, which is written; who does not want to wait for that asks again.
        if not over:
            session.discard()
            raise
    except (GilscopeError, OSError):
        if writer:
            writer.abandon()
        session.discard()
        raise
    notes = notes._replace(root_pid=pid, root_end_ns=ended_ns, exit_code=exit_code, stopped=stopped)
    if throttled:
        notes = notes._replace(throttled=throttled.times, throttled_ns=throttled.ns)
    notes.write(session.directory)
    return Recorded(session, notes, writer, course, patience.over() if exit_code is None else None)


def _tick(  # noqa: PLR0917
    session: Session,
    writer: Beside | None,
    course: Course,
    looks: Looks,
    kernel: Kernel,
    beat: Callable[[Session], None] | None,
    *,
    endless: bool,
) -> None:
    """`endless`: where the rings fill up, what is in the trace already makes room."""
    session.tick()
    kernel.tick()
    course.tick()
    looks.tick()
    if beat:
        beat(session)
    if writer:
        used_bytes = session.used_bytes
        writer.tick(used_bytes + kernel.used_bytes, session.limit_bytes)
        if endless and writer.started and used_bytes > session.limit_bytes // 2:
            session.stream()


def environment(session: Session, policy: Choice | None = None) -> dict[str, str]:
    """The program's environment: its own, with the probe preloaded. Raises as `preload` does."""
    variables = dict(os.environ)
    preload(variables)
    variables[RINGS] = str(session.path)
    if policy:
        policy.set(variables)
    return variables


def wait_for_the_rest(session: Session, root: int, tick: Callable[[], None]) -> None:
    """Wait for recorded processes that outlive the command, as a daemon's do."""
    first = time.monotonic()
    told = False

    def all_ended() -> bool:
        nonlocal told
        left = [pid for pid in session.living_processes() if pid != root]
        if left and not told and time.monotonic() - first > 1:
            told = True
            pids = ", ".join(map(str, left[:5])) + (", …" if len(left) > 5 else "")
            say(f"recorded and still running: {pids}; Ctrl-C ends the recording alone")
        return not left

    launch.poll(all_ended, tick)

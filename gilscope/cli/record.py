"""`gilscope record`: run and trace a command, then print the summary."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from gilscope.cli.output import check_trace
from gilscope.cli.recording_options import add_recording_arguments, options_of
from gilscope.cli.report import check_report, write_report
from gilscope.cli.run import (
    add_command_argument,
    check_environment,
    choice,
    command_of,
)
from gilscope.errors import GilscopeError, UsageError
from gilscope.recorder.notes import DISK_FULL, DURATION, LEFT, LIMITS, LITTLE_ROOM

if TYPE_CHECKING:
    from gilscope.live.totals import Group
    from gilscope.live.watching import Watching
    from gilscope.recorder.beside import Beside
    from gilscope.recorder.options import Options
    from gilscope.recorder.record import Recorded
    from gilscope.recorder.session import Session

HELP = "run a command and trace its GIL; then print the summary"

# What may go wrong when the program has run. Whoever waits for its exit code gets that.
_TROUBLE = (GilscopeError, KeyboardInterrupt, OSError, MemoryError, ImportError)
_NAMELESS = {KeyboardInterrupt: "interrupted", MemoryError: "no memory"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `gilscope record`."""
    parser.usage = "gilscope record [-o FILE] [options] [--] COMMAND…"
    add_recording_arguments(parser, "record the command's own process alone")
    parser.add_argument(
        "--counters",
        action="store_true",
        help="no trace: only count what each thread holds and waits, for gilscope metrics PID",
    )
    parser.add_argument(
        "--repeat",
        metavar="N",
        type=int,
        help="run the command N times; the traces go into the folder -o DIR (for gilscope compare)",
    )
    add_command_argument(parser, "the program to record and its arguments")


def run(args: argparse.Namespace) -> int:
    """Returns the command's own exit code."""
    command = command_of(args)
    if not command:
        raise UsageError("record what? for example: gilscope record python app.py")
    check_environment()
    choice(args)
    options_of(args)
    if args.counters:
        return _count(args, command)
    if args.report:
        check_report(args.report)
    if args.repeat is None:
        check_trace(args.output)
        return _once(args, command)
    return _repeat(args, command)


_OF_TRACES = (
    *("output", "max_size", "keep", "dump_when", "duration", "delay", "repeat", "redact", "report"),
)


def _count(args: argparse.Namespace, command: Sequence[str]) -> int:
    """Counters alone, and a table of them at the end."""
    from gilscope.recorder.record import STACKS, record, say  # noqa: PLC0415

    if any(getattr(args, name) for name in _OF_TRACES):
        raise UsageError("--counters makes no trace: leave out what is about one (-o, --keep, …)")
    os.environ[STACKS] = "off"
    options = options_of(args)._replace(counters=True)
    watching: Watching | None = None

    def beat(session: Session) -> None:
        nonlocal watching
        if watching is None:
            from gilscope.live.watching import Watching  # noqa: PLC0415 - the program runs already

            watching = Watching(session.path)
        watching.tick()

    recorded = record(command, options, choice(args), beat=beat)
    try:
        if watching and not (args.no_summary or args.quiet):
            _print_counters(watching.groups())
    except _TROUBLE as error:
        say(f"no counters: {_reason(error)}")
    recorded.session.discard()
    return recorded.exit_code


def _print_counters(groups: Sequence[Group]) -> None:
    from rich.console import Console  # noqa: PLC0415

    from gilscope.viewers.counters import render_counters  # noqa: PLC0415

    render_counters(groups, Console(file=sys.stderr))


def _repeat(args: argparse.Namespace, command: Sequence[str]) -> int:
    """Run after run into one folder, beside what is there; ends with the first that fails."""
    if args.repeat < 1:
        raise UsageError("--repeat takes a number from 1 on")
    if args.report:
        raise UsageError("--report is of one recording; with --repeat use gilscope report")
    if args.output is None:
        raise UsageError("--repeat wants a folder for the traces: -o DIR")
    folder: Path = args.output
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror}; name another folder with -o DIR") from error
    there = [int(path.stem) for path in folder.glob("*.pftrace") if path.stem.isdecimal()]
    args.no_summary = True
    for number in range(1, args.repeat + 1):
        args.output = folder / f"{max(there, default=0) + number:03}.pftrace"
        check_trace(args.output)
        if code := _once(args, command):
            return code
    return 0


def _once(args: argparse.Namespace, command: Sequence[str]) -> int:
    policy, options = choice(args), options_of(args)
    from gilscope.recorder.beside import Beside  # noqa: PLC0415
    from gilscope.recorder.record import STACKS, record, trace_name  # noqa: PLC0415

    if args.no_stacks:
        os.environ[STACKS] = "off"

    def beside(session: Session, pid: int) -> Beside:
        trace = args.output or trace_name(command, pid)
        flags = (
            str(int(flag)) for flag in (not args.no_follow, not (args.no_summary or args.quiet))
        )
        return Beside([str(session.directory), str(trace), *flags])

    # Devices and pipes are written at the end, and what is redacted when all names are known.
    recorded = record(
        command, options, policy, beside if may_stream(args, options) else None, args.output
    )
    assert recorded.notes.root_pid is not None
    trace = args.output or trace_name(command, recorded.notes.root_pid)
    return conclude(args, recorded, trace, recorded.exit_code, preloaded=True)


def may_stream(args: argparse.Namespace, options: Options) -> bool:
    """Whether the trace may be written while the program runs: to a plain file, of all of it."""
    regular = args.output is None or args.output.is_file() or not args.output.exists()
    whole = not (options.keep or options.duration or options.delay)
    return regular and whole and not args.redact


def conclude(
    args: argparse.Namespace, recorded: Recorded, trace: Path, exit_code: int, *, preloaded: bool
) -> int:
    """The recording is over: the trace, the summary, the report. Returns the exit code.

    `preloaded`: the command was started for the recording, so that there has to be something in it.
    """
    from gilscope.recorder.beside import Answer  # noqa: PLC0415
    from gilscope.recorder.record import say  # noqa: PLC0415

    summary = not (args.no_summary or args.quiet)
    directory = recorded.session.directory
    try:
        answer = recorded.writer.finish() if recorded.writer else Answer(None)
        written = recorded.course.written
        if written and written.events is not None and not args.redact:
            events = written.events
        elif answer.events is None:
            events = _finish(directory, trace, not args.no_follow, args.redact, preloaded)
        else:
            events, summary = answer.events, False
    except _TROUBLE as error:
        kept = f"gilscope recover {quote(str(directory))} -o FILE"
        say(f"{_reason(error)}; the recording is kept: {kept}")
        return exit_code
    recorded.session.discard()
    readable = trace.is_file()  # no device and no pipe
    if events and readable and summary:
        try:
            _print_summary(trace)
        except _TROUBLE as error:
            say(f"no summary: {_reason(error)}")
    if args.report and readable:
        try:
            write_report(trace, args.report)
        except _TROUBLE as error:
            say(f"no report: {_reason(error)}")
    if recorded.notes.stopped not in (None, DURATION):
        say(_stop_reason(recorded, args.max_size is not None))
    see = f"; see it with: gilscope view {quote(str(trace))}" if events and readable else ""
    if not args.quiet:
        say(f"{events:,} events in {trace}{see}")
    return exit_code


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or _NAMELESS.get(type(error), type(error).__name__)


def _finish(directory: Path, trace: Path, follow: bool, redact: bool, preloaded: bool) -> int:
    """Turn the rings in a directory into a trace; returns its number of events."""
    from gilscope.cli.progress import watched  # noqa: PLC0415 - after the program's end
    from gilscope.cli.recording import open_recording  # noqa: PLC0415
    from gilscope.perfetto.writer import write_trace  # noqa: PLC0415
    from gilscope.recorder.diagnose import left_out, nothing_recorded  # noqa: PLC0415
    from gilscope.recorder.record import say  # noqa: PLC0415
    from gilscope.trace.redact import Redacted  # noqa: PLC0415

    with open_recording(directory) as rings:
        reason = nothing_recorded(rings.metadata.command, rings.metadata.processes, follow)
        if reason and preloaded:
            say(reason)
        for line in left_out(*rings.left_out):
            say(line)
        source = watched(Redacted(rings) if redact else rings, f"writing {trace.name}")
        events = write_trace(source, trace).events
    if part := getattr(rings, "part", None):
        part.unlink(missing_ok=True)
    return events


def _stop_reason(recorded: Recorded, asked: bool) -> str:
    session, stopped = recorded.session, recorded.notes.stopped or ""
    folder = session.directory.parent
    if stopped == LEFT:
        return f"the recording was ended; the program goes on (pid {recorded.notes.root_pid})"
    if stopped == DISK_FULL:
        return f"recording stopped: {folder} is full; the program went on"
    why = {
        LITTLE_ROOM: f"half of what was free in {folder}; GILSCOPE_DIR names another place",
        LIMITS: "what ulimit and the cgroup's memory leave for the rings",
    }.get(stopped, "--max-size" if asked else "the default of --max-size")
    size = session.limit_bytes / (1 << 20)
    return f"recording stopped at {size:,.0f} MiB ({why}); the program went on"


def _print_summary(trace: Path) -> None:
    """On standard error: standard output is the program's."""
    from rich.console import Console  # noqa: PLC0415

    from gilscope.analysis.summary import summarise  # noqa: PLC0415
    from gilscope.cli.progress import read  # noqa: PLC0415
    from gilscope.viewers.terminal import render  # noqa: PLC0415

    render(summarise(read(trace)), Console(file=sys.stderr))

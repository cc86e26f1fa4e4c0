"""`gilscope top`: who has the GIL now, and who waits for it."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from gilscope.cli.recording_options import seconds
from gilscope.cli.run import add_command_argument, command_of
from gilscope.errors import RecordingError, UsageError
from gilscope.extras import require

if TYPE_CHECKING:
    from gilscope.live.window import Picture, Source

HELP = "who has the GIL of a program now, who waits for it, and at which line"

_WINDOW_S = 2.0  # of --once
_PATIENCE_S = 10.0  # for the start of a command, and for its end


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `gilscope top`."""
    parser.usage = "gilscope top [options] PID | [--] COMMAND…"
    parser.add_argument("--once", action="store_true", help="print one picture and end")
    parser.add_argument("--json", action="store_true", help="with --once: for programs")
    parser.add_argument(
        "--every",
        metavar="SECONDS",
        type=seconds,
        help="length of a window (default: 1; with --once 2)",
    )
    parser.add_argument(
        "--sampled",
        action="store_true",
        help="take samples from outside, even if gilscope counts the process already",
    )
    add_command_argument(parser, "the process to look at, or a program to start and its arguments")


def run(args: argparse.Namespace) -> int:
    """Returns 0; of a command that ended by itself its own code."""
    command = command_of(args)
    if not command:
        raise UsageError("top of what? for example: gilscope top 4242")
    if args.json and not args.once:
        raise UsageError("--json is of one picture: add --once")
    if not args.once:
        require("top", "textual")
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise UsageError("top needs a terminal; in a pipe use --once, or --once --json")
    if len(command) == 1 and command[0].isdecimal():
        return _watch(_source(int(command[0]), args.sampled), args)
    return _start(command, args)


def _source(pid: int, sampled: bool) -> Source:
    """Raises NotAttachable, RecordingError."""
    from gilscope.recorder.notes import RINGS  # noqa: PLC0415
    from gilscope.recorder.running import find  # noqa: PLC0415

    directory = None if sampled else find(pid)
    if directory is not None:
        from gilscope.live.exact import ExactSource  # noqa: PLC0415

        return ExactSource(directory / RINGS)
    from gilscope.live.sampler import SampledSource  # noqa: PLC0415

    return SampledSource(pid)


def _watch(source: Source, args: argparse.Namespace) -> int:
    try:
        if not args.once:
            return _application(source, args.every or 1.0)
        _print(_once(source, args.every or _WINDOW_S), args.json)
        return 0
    finally:
        source.close()


def _application(source: Source, every_s: float) -> int:
    from gilscope.recorder.record import say  # noqa: PLC0415
    from gilscope.viewers.top import Top  # noqa: PLC0415

    app = Top(source, every_s)
    code = app.run()
    if app.ended is not None:
        say(app.ended)
    return 1 if code is None else code


def _once(source: Source, window_s: float) -> Picture:
    time.sleep(window_s)
    return source.picture()


def _print(picture: Picture, as_json: bool) -> None:
    if as_json:
        from gilscope.live import window  # noqa: PLC0415

        print(json.dumps(window.as_json(picture)))
        return
    from rich.console import Console  # noqa: PLC0415

    from gilscope.viewers.top_once import render  # noqa: PLC0415

    render(picture, Console())


# ---- a command ----------------------------------------------------------------------------------


def _start(command: Sequence[str], args: argparse.Namespace) -> int:
    """Another gilscope counts it; its output is kept until the screen is left."""
    with tempfile.TemporaryFile() as output, _counted(command, output, args.once) as child:
        source = _source_of(child, output)
        code = _watch(source, args)
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)  # which the recorder passes on
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(_PATIENCE_S)
        elif code == 0 and not args.once:
            code = child.returncode
        if not args.once:
            _copy(output, sys.stdout.buffer)
        return code


@contextmanager
def _counted(
    command: Sequence[str], output: IO[bytes], once: bool
) -> Iterator[subprocess.Popen[bytes]]:
    imports = f"import sys; sys.path[:] = {sys.path!r}; from gilscope.cli import main"
    counts = [sys.executable, "-I", "-c", f"{imports}; sys.exit(main())"]
    counts += ["record", "--counters", "--quiet", "--", *command]
    child = subprocess.Popen(
        counts,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield child
    finally:
        if child.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def _source_of(child: subprocess.Popen[bytes], output: IO[bytes]) -> Source:
    from gilscope.live.exact import ExactSource  # noqa: PLC0415
    from gilscope.recorder.notes import RINGS  # noqa: PLC0415
    from gilscope.recorder.running import find  # noqa: PLC0415

    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        if directory := find(child.pid):
            with contextlib.suppress(RecordingError, OSError):
                source = ExactSource(directory / RINGS)
                if source.begun:  # else the command may yet be one that cannot be run
                    return source
                source.close()
        if child.poll() is not None:
            output.seek(0)
            text = output.read().decode("utf-8", "replace").strip()
            raise RecordingError(f"the program ended before it could be seen: {text}"[:500])
        time.sleep(0.01)
    raise RecordingError("the program did not begin in time")


def _copy(output: IO[bytes], to: IO[bytes]) -> None:
    output.seek(0)
    shutil.copyfileobj(output, to)
    to.flush()

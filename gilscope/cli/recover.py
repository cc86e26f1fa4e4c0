"""`gilscope recover`: the rings of a recording that was cut short, as a trace; which there are."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from shlex import join, quote
from typing import TYPE_CHECKING

from gilscope.cli.output import check_trace
from gilscope.errors import UsageError
from gilscope.safe_text import escaped

if TYPE_CHECKING:
    from gilscope.recorder.left import Left

HELP = "make a trace of a recording that was cut short; without DIR: list such recordings"

_COMMAND_MOST = 60  # characters of a command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `gilscope recover`."""
    parser.usage = "gilscope recover [DIR -o FILE | --remove DIR]"
    parser.add_argument(
        "directory", metavar="DIR", nargs="?", type=Path, help="the folder of the recording's rings"
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        type=Path,
        help="the trace to write, .pftrace or .pftrace.gz",
    )
    parser.add_argument(
        "--remove",
        metavar="DIR",
        type=Path,
        help="remove a recording that was left behind; one that is under way is not touched",
    )


def run(args: argparse.Namespace) -> int:
    """Writes the trace and leaves the rings where they are; lists; removes. Raises UsageError."""
    if args.remove is not None:
        if args.directory or args.output:
            raise UsageError("--remove DIR stands alone")
        return _remove(args.remove)
    if args.directory is None:
        if args.output:
            raise UsageError("recover what? `gilscope recover` lists what was left behind")
        return _list()
    if args.output is None:
        raise UsageError("recover into which trace? name it with -o FILE")
    return _recover(args.directory, args.output)


def _recover(directory: Path, output: Path) -> int:
    from gilscope.cli.progress import watched  # noqa: PLC0415
    from gilscope.cli.recording import open_recording  # noqa: PLC0415
    from gilscope.perfetto.writer import write_trace  # noqa: PLC0415
    from gilscope.recorder.diagnose import left_out  # noqa: PLC0415
    from gilscope.recorder.record import say  # noqa: PLC0415

    check_trace(output)
    with open_recording(directory) as rings:
        for line in left_out(*rings.left_out):
            say(line)
        totals = write_trace(watched(rings, f"writing {output.name}"), output)
    part = getattr(rings, "part", None)
    also = f"; {part} is needed no more" if part else ""
    say(f"{totals.events:,} events in {output}{also}; to remove the rings: {removal(directory)}")
    return 0


def _remove(directory: Path) -> int:
    from gilscope.recorder import left  # noqa: PLC0415
    from gilscope.recorder.record import say  # noqa: PLC0415

    left.remove(directory)
    say(f"{directory} is removed")
    return 0


def _list() -> int:
    from gilscope.recorder import left  # noqa: PLC0415
    from gilscope.recorder.record import say  # noqa: PLC0415

    found = left.found()
    for one in found:
        print(escaped(line(one)))
    if found:
        say(f"a trace of one: gilscope recover DIR -o FILE; to remove it: {removal(Path('DIR'))}")
    else:
        say("no recording was left behind")
    return 0


def line(one: Left) -> str:
    """One recording: where, how large, how old, of what, and whether that still runs."""
    words = [os.path.basename(word) or word for word in one.command]  # a path hides what it is of
    of = escaped(join(words), _COMMAND_MOST) or "(command not known)"
    state = f"still runs, pid {', '.join(map(str, one.programs))}" if one.programs else "has ended"
    return (
        f"{one.directory}  {one.bytes / (1 << 20):,.1f} MiB  {age(one.age_s)} old  {of}  ({state})"
    )


def age(seconds: float) -> str:
    """`5 s`, `12 min`, `3 h`, `20 days`."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def removal(directory: Path) -> str:
    """The command that removes it."""
    return f"gilscope recover --remove {quote(str(directory))}"

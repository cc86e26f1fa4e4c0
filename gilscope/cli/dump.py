"""`gilscope dump`: a trace, or the rings of a recording, as text."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gilscope.trace.schema import EventSource

HELP = "print a trace, or the rings of a recording, as text: one event a line"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gilscope dump`."""
    parser.add_argument(
        "trace",
        metavar="TRACE|DIR",
        type=Path,
        help="a .pftrace or .pftrace.gz file, or the directory that holds a recording's rings",
    )


def run(args: argparse.Namespace) -> int:
    """Print it. Raises TraceError for what cannot be read and ImpossibleStory."""
    from gilscope.cli.progress import watched  # noqa: PLC0415
    from gilscope.trace.text import lines  # noqa: PLC0415 - numpy

    source = _open(args.trace)
    # On a terminal the lines themselves show how far it is.
    shown = source if sys.stdout.isatty() else watched(source, f"reading {args.trace.name}")
    sys.stdout.writelines(lines(shown))
    return 0


def _open(path: Path) -> EventSource:
    if path.is_dir():
        from gilscope.cli.recording import open_recording  # noqa: PLC0415 - numpy

        return open_recording(path)
    from gilscope.perfetto.reader import open_trace  # noqa: PLC0415 - perfetto

    return open_trace(path)

"""`gilscope recover`: the rings of a recording that was cut short, as a trace."""

from __future__ import annotations

import argparse
from pathlib import Path

from gilscope.cli.output import check_trace

HELP = "turn the rings of a crashed recording into a trace"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `gilscope recover`."""
    parser.add_argument(
        "directory", metavar="DIR", type=Path, help="the folder of the recording's rings"
    )
    parser.add_argument(
        "-o",
        dest="output",
        metavar="FILE",
        type=Path,
        required=True,
        help="the trace to write, .pftrace or .pftrace.gz",
    )


def run(args: argparse.Namespace) -> int:
    """Writes the trace and leaves the rings where they are."""
    from gilscope.cli.progress import watched  # noqa: PLC0415
    from gilscope.perfetto.writer import write_trace  # noqa: PLC0415
    from gilscope.recorder.diagnose import left_out  # noqa: PLC0415
    from gilscope.recorder.record import say  # noqa: PLC0415
    from gilscope.trace.rings import open_rings  # noqa: PLC0415

    check_trace(args.output)
    with open_rings(args.directory) as rings:
        for line in left_out(*rings.left_out):
            say(line)
        totals = write_trace(watched(rings, f"writing {args.output.name}"), args.output)
    say(f"{totals.events:,} events in {args.output}; {args.directory} can be removed now")
    return 0

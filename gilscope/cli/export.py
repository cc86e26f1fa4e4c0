"""`gilscope export`: a trace in the form of another tool."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gilscope.cli.output import check_output

HELP = "write a trace in the form of another tool"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `gilscope export`."""
    parser.add_argument("trace", metavar="TRACE", type=Path, help="a .pftrace or .pftrace.gz file")
    parser.add_argument(
        "--format",
        choices=("collapsed",),
        required=True,
        help="collapsed: time that the GIL was held by stack, for flame graphs",
    )
    parser.add_argument("-o", dest="output", metavar="FILE", type=Path, help="not standard output")


def run(args: argparse.Namespace) -> int:
    """The flame, and on standard error what share of the held time its stacks cover."""
    check_output(args.output)
    import gilscope  # noqa: PLC0415
    from gilscope.analysis.flame import LET_GO, collapsed, flame_of  # noqa: PLC0415
    from gilscope.analysis.units import duration, percent  # noqa: PLC0415
    from gilscope.perfetto.writer import whole_file  # noqa: PLC0415

    flame = flame_of(gilscope.read(args.trace))
    text = collapsed(flame)
    if args.output is None:
        sys.stdout.write(text)
    else:
        with whole_file(args.output, "the export") as file:
            file.write(text.encode())
    share = percent(flame.covered_ns, flame.total_ns)
    print(
        f"gilscope: stacks cover {share} of the held time"
        f" ({duration(flame.covered_ns)} of {duration(flame.total_ns)}),"
        f" {flame.covered_holds:,} of {flame.holds:,} holds; shorter ones have none."
        f" {duration(flame.ended_ns)} of it end in {LET_GO}: nobody looked into these holds,"
        " whose time went at that line or before",
        file=sys.stderr,
    )
    return 0

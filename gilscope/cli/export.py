"""`gilscope export`: a trace in the form of another tool."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from gilscope.cli.output import check_folder, check_made
from gilscope.cli.traces import add_redact, read
from gilscope.errors import UsageError
from gilscope.extras import require

if TYPE_CHECKING:
    from gilscope.analysis.flame import Flame
    from gilscope.trace.model import Trace

HELP = "write a trace in the form of another tool"

FORMATS = {
    "collapsed": "stacks, a line each, for flame graphs",
    "speedscope": "for speedscope.app",
    "gecko": "for the Firefox Profiler",
    "parquet": "a folder of tables, for DuckDB, Polars, pandas, Spark",
}
# How a file of each form begins, to know one that may be written again.
_BEGINS = {
    "collapsed": rb"[^\n]+ \d+\n",
    "speedscope": rb'\{"\$schema":"https://www\.speedscope\.app/',
    "gecko": rb'\{"meta":\{"interval":1,"startTime":',
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `gilscope export`."""
    parser.add_argument("trace", metavar="TRACE", type=Path, help="a .pftrace or .pftrace.gz file")
    parser.add_argument(
        "--format",
        choices=tuple(FORMATS),
        required=True,
        help="; ".join(f"{name}: {text}" for name, text in FORMATS.items()),
    )
    parser.add_argument(
        "--weight",
        choices=("held", "waiting"),
        help="of collapsed stacks: how long they held the GIL (default), or how long others waited"
        " because of that",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE or DIR",
        type=Path,
        help="write there, not to standard output; parquet needs a folder",
    )
    add_redact(parser)


def run(args: argparse.Namespace) -> int:
    """Write the trace in that form; on standard error stands what it does not show.

    Raises UsageError, TraceError, GilscopeError: it cannot be written; InstallationError.
    """
    if args.weight and args.format != "collapsed":
        raise UsageError("--weight is of --format collapsed; the other forms have both")
    if args.format == "parquet":
        return _tables(args)
    check_made(args.output, _BEGINS[args.format], "such export")
    trace = read(args.trace, redact=args.redact)
    if args.format == "gecko":
        from gilscope.export.gecko import gecko  # noqa: PLC0415

        _write(_json(gecko(trace)), args.output)
        return 0
    from gilscope.analysis.flame import flame_of  # noqa: PLC0415

    flame = flame_of(trace)
    _write(_stacks(trace, flame, args), args.output)
    _say_covered(flame)
    return 0


def _write(text: Iterable[str], output: Path | None) -> None:
    if output is None:
        sys.stdout.writelines(text)
        return
    from gilscope.perfetto.writer import whole_file  # noqa: PLC0415

    with whole_file(output, "the export") as file:
        file.writelines(part.encode() for part in text)


def _stacks(trace: Trace, flame: Flame, args: argparse.Namespace) -> Iterable[str]:
    from gilscope.export.collapsed import collapsed  # noqa: PLC0415
    from gilscope.export.frames import burnt  # noqa: PLC0415
    from gilscope.export.speedscope import speedscope  # noqa: PLC0415

    stacks = burnt(flame, trace.metadata)
    if args.format == "speedscope":
        return _json(speedscope(stacks, args.trace.name))
    return collapsed(stacks, waiting=args.weight == "waiting")


def _json(value: object) -> Iterable[str]:
    return [json.dumps(value, separators=(",", ":")), "\n"]


def _say_covered(flame: Flame) -> None:
    """What share of the held time stacks cover."""
    from gilscope.analysis.flame import NO_LEAF  # noqa: PLC0415
    from gilscope.analysis.units import duration, percent  # noqa: PLC0415
    from gilscope.export.frames import LET_GO  # noqa: PLC0415

    covered = [row for row in flame.rows if row.leaf != NO_LEAF]
    covered_ns = sum(row.held_ns for row in covered)
    print(
        f"gilscope: stacks cover {percent(covered_ns, flame.held_ns)} of the held time"
        f" ({duration(covered_ns)} of {duration(flame.held_ns)}),"
        f" {sum(row.holds for row in covered):,} of {sum(row.holds for row in flame.rows):,} holds;"
        f" shorter ones have none."
        f" {duration(sum(row.held_ns for row in covered if not row.exact))} of it end in {LET_GO}:"
        " nobody looked into these holds, whose time went at that line or before",
        file=sys.stderr,
    )


def _tables(args: argparse.Namespace) -> int:
    if args.output is None:
        raise UsageError("parquet is a folder of tables; name it with -o DIR")
    require("parquet", "pyarrow")
    from gilscope.export.parquet_schema import TABLES  # noqa: PLC0415

    check_folder(args.output, [f"{name}.parquet" for name in TABLES])
    from gilscope.export.parquet import write_parquet  # noqa: PLC0415

    write_parquet(read(args.trace, redact=args.redact), args.output)
    return 0

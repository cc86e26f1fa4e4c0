"""`gilscope cut`: a part of a trace, itself a whole trace."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from gilscope.cli.output import check_trace
from gilscope.errors import UsageError

HELP = "write a part of a trace as a new trace: a stretch of time, or some threads"


def seconds(text: str) -> float:
    """Seconds after the recording's start. Raises ArgumentTypeError."""
    if not re.fullmatch(r"\d+(\.\d*)?s?", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"not a number of seconds after the begin: {text}")
    return float(text.rstrip("s"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gilscope cut`."""
    parser.add_argument("trace", metavar="TRACE", type=Path, help="a .pftrace or .pftrace.gz file")
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=Path, required=True, help="the trace to write"
    )
    parser.add_argument(
        "--from",
        dest="first",
        metavar="S",
        type=seconds,
        default=0.0,
        help="begin so many seconds after the recording did",
    )
    parser.add_argument(
        "--to", dest="last", metavar="S", type=seconds, help="end so many seconds after that"
    )
    parser.add_argument(
        "--thread",
        dest="threads",
        metavar="PATTERN",
        action="append",
        default=[],
        help="only threads of this name (worker-*), and who used the same GIL; may repeat",
    )


def run(args: argparse.Namespace) -> int:
    """Writes the part. Raises TraceError, UsageError."""
    if args.last is not None and args.last <= args.first:
        raise UsageError(f"--to {args.last:g} is not behind --from {args.first:g}")
    from gilscope.cli.progress import watched  # noqa: PLC0415
    from gilscope.perfetto.reader import open_trace  # noqa: PLC0415 - numpy, perfetto
    from gilscope.perfetto.writer import write_trace  # noqa: PLC0415
    from gilscope.recorder.record import say  # noqa: PLC0415
    from gilscope.trace.cut import Cut  # noqa: PLC0415

    check_trace(args.output)
    if args.output.exists() and args.output.samefile(args.trace):
        raise UsageError(
            f"{args.output}: a trace is not cut into itself; name another file with -o"
        )
    source = open_trace(args.trace)
    start_ns, end_ns = source.metadata.start_ns, source.metadata.end_ns
    first = start_ns + round(args.first * 1e9)
    last = end_ns + 1 if args.last is None else start_ns + round(args.last * 1e9)
    if first > end_ns:
        raise UsageError(f"{args.trace}: it lasted {(end_ns - start_ns) / 1e9:.3f} s; --from less")
    part = Cut(
        watched(source, f"cutting {args.trace.name}"), first, min(last, end_ns + 1), args.threads
    )
    totals = write_trace(part, args.output)
    say(f"{totals.events:,} events in {args.output}")
    return 0

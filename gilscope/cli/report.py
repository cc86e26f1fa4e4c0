"""`gilscope report`: a trace as one HTML file."""

from __future__ import annotations

import argparse
from pathlib import Path

from gilscope.cli.output import check_made
from gilscope.cli.traces import add_redact, read
from gilscope.extras import require

_BEGINS = rb'<!doctype html>\n<html lang="en"><head>.*name="generator" content="gilscope '

HELP = "make one HTML file of a trace, to read and to send"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gilscope report`."""
    parser.add_argument("trace", metavar="TRACE", type=Path, help="a .pftrace or .pftrace.gz file")
    parser.add_argument(
        "-o", "--output", metavar="FILE.html", type=Path, required=True, help="the file to write"
    )
    add_redact(parser)


def run(args: argparse.Namespace) -> int:
    """Write the file. Raises TraceError, GilscopeError: it cannot be written; InstallationError."""
    check_report(args.output)
    write_report(args.trace, args.output, redact=args.redact)
    return 0


def check_report(output: Path) -> None:
    """Find out whether a report can be made there. Raises UsageError, InstallationError."""
    check_made(output, _BEGINS, "report")
    require("report", "altair", "vl_convert")


def write_report(trace: Path, output: Path, *, redact: bool = False) -> None:
    """Write the report of `trace`. Raises TraceError, GilscopeError: it cannot be written."""
    from gilscope.perfetto.writer import whole_file  # noqa: PLC0415
    from gilscope.viewers.report import report  # noqa: PLC0415

    page = report(lambda: read(trace, redact=redact), trace.name)
    with whole_file(output, "the report") as file:
        file.write(page.encode())

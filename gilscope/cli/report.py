"""`gilscope report`: a trace as one HTML file."""

from __future__ import annotations

import argparse
from pathlib import Path

from gilscope.cli.extras import require
from gilscope.cli.output import check_output

HELP = "make one HTML file of a trace, to read and to send"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gilscope report`."""
    parser.add_argument("trace", metavar="TRACE", type=Path, help="a .pftrace or .pftrace.gz file")
    parser.add_argument(
        "-o", dest="output", metavar="FILE.html", type=Path, required=True, help="the file to write"
    )


def run(args: argparse.Namespace) -> int:
    """Write the file. Raises TraceError, GilscopeError: it cannot be written; InstallationError."""
    check_output(args.output)
    write_report(args.trace, args.output)
    return 0


def write_report(trace: Path, output: Path) -> None:
    """Write the report of `trace`. Raises as `run`."""
    require("report", "altair", "vl_convert")
    import gilscope  # noqa: PLC0415
    from gilscope.perfetto.writer import whole_file  # noqa: PLC0415
    from gilscope.viewers.report import report  # noqa: PLC0415

    page = report(lambda: gilscope.read(trace), trace.name)
    with whole_file(output, "the report") as file:
        file.write(page.encode())

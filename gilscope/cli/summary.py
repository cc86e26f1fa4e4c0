"""`gilscope summary`: who waited for the GIL, how long and because of whom."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from gilscope.errors import UsageError

if TYPE_CHECKING:
    from gilscope.trace.model import Trace

HELP = "show who waited for the GIL, how long and because of whom"

_ROWS_DEPTH = 4  # summary, processes, a process, its threads: of what lies below one row is little


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gilscope summary`."""
    parser.add_argument("trace", metavar="TRACE", type=Path, help="a .pftrace or .pftrace.gz file")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.add_argument(
        "--top",
        metavar="N",
        type=int,
        help="show N threads, a row each (default: similar threads share a row, all on one page)",
    )


def run(args: argparse.Namespace) -> int:
    """Print the summary. Raises TraceError for what cannot be read, and UsageError."""
    if args.top is not None and args.top < 1:
        raise UsageError("--top takes a number from 1 on")
    from gilscope.cli.progress import read  # noqa: PLC0415 - numpy, perfetto

    show(read(args.trace), as_json=args.json, top=args.top)
    return 0


def show(trace: Trace, *, as_json: bool = False, top: int | None = None) -> None:
    """Print the summary of `trace` on stdout."""
    from gilscope.analysis.summary import summarise  # noqa: PLC0415 - numpy

    summary = summarise(trace)
    if as_json:
        sys.stdout.writelines(_pieces(summary, _ROWS_DEPTH))
        print()
        return
    from rich.console import Console  # noqa: PLC0415

    from gilscope.viewers.terminal import render  # noqa: PLC0415

    render(summary, Console(highlight=False), top)


def _pieces(value: object, depth: int) -> Iterator[str]:
    """The JSON of `value`, never as a whole: of many threads it is larger than their trace. Each
    row is made by json's own encoder in C, which knows no indentation.
    """
    if depth and isinstance(value, dict):
        for number, (key, entry) in enumerate(value.items()):
            yield f"{', ' if number else '{'}{json.dumps(key)}: "
            yield from _pieces(entry, depth - 1)
        yield "}" if value else "{}"
    elif depth and isinstance(value, list):
        for number, entry in enumerate(value):
            yield ", " if number else "["
            yield from _pieces(entry, depth - 1)
        yield "]" if value else "[]"
    else:
        yield json.dumps(value)

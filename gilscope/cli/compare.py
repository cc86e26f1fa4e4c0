"""`gilscope compare`: what changed between two sets of runs, and whether it is more than noise."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gilscope.errors import UsageError

if TYPE_CHECKING:
    from gilscope.analysis.measures import Run

HELP = "show what changed between two traces or two folders of traces"

TOP = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `gilscope compare`."""
    for side in ("before", "after"):
        parser.add_argument(
            side, metavar=side.upper(), type=Path, help="a trace, or a folder of traces"
        )
    parser.add_argument("--json", action="store_true", help="print the comparison as JSON")
    parser.add_argument(
        "--top",
        metavar="N",
        type=int,
        default=TOP,
        help="how many rows to show, changes first (default %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """0, whatever changed. Raises TraceError for what cannot be read, and UsageError."""
    if args.top < 1:
        raise UsageError("--top takes a number from 1 on")
    sides = [traces_in(args.before), traces_in(args.after)]
    from gilscope.analysis.compare import compare  # noqa: PLC0415 - numpy

    (before, windows_before), (after, windows_after) = map(_read, sides)
    result = compare(before, after)
    if windows_before is not None and windows_after is not None:
        result["windows"] = {"before": windows_before, "after": windows_after}
    if args.json:
        json.dump(result, sys.stdout, indent=1)
        print()
        return 0
    from rich.console import Console  # noqa: PLC0415

    from gilscope.viewers.comparison import render  # noqa: PLC0415

    render(result, Console(highlight=False), args.top)
    return 0


def traces_in(path: Path) -> list[Path]:
    """The trace, or those in the folder, by name. Raises UsageError."""
    if not path.is_dir():
        return [path]
    found = sorted(
        entry
        for entry in path.iterdir()
        if entry.name.endswith((".pftrace", ".pftrace.gz")) and entry.is_file()
    )
    if not found:
        raise UsageError(f"{path}: no .pftrace and no .pftrace.gz in this folder")
    return found


def _read(paths: list[Path]) -> tuple[list[Run], dict[str, Any] | None]:
    """The figures of each run; of a single one also how they spread in it."""
    from gilscope.analysis.measures import run_of  # noqa: PLC0415
    from gilscope.analysis.summary import summarise  # noqa: PLC0415
    from gilscope.analysis.windows import windows_of  # noqa: PLC0415
    from gilscope.cli.progress import read  # noqa: PLC0415

    runs, windows = [], None
    for path in paths:
        trace = read(path)
        started = trace.metadata.start_ns + trace.metadata.realtime_offset_ns
        runs.append(run_of(str(path), summarise(trace), started))
        if len(paths) == 1:
            windows = windows_of(trace)
    return runs, windows

"""`gilscope check`: hold traces against bounds, for a build that must not get slower."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gilscope.cli import project
from gilscope.cli.compare import traces_in
from gilscope.errors import UsageError

if TYPE_CHECKING:
    from gilscope.analysis.bounds import Bound, Verdict

HELP = "hold traces against bounds; exit with 1 where one is broken"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `gilscope check`."""
    parser.add_argument(
        "traces",
        metavar="TRACE",
        nargs="+",
        type=Path,
        help="a trace, or a folder of traces; each must keep every bound",
    )
    parser.add_argument(
        "--max",
        metavar="METRIC[@THREAD]=VALUE",
        nargs="+",
        action="extend",
        default=[],
        help="an upper bound for a field that each thread has in gilscope summary --json, such as"
        " waiting_share@echo=0.1 or io_wait_ns.p99=5ms; THREAD is a shell pattern; bounds in"
        " pyproject.toml, [tool.gilscope.check], hold as well",
    )
    parser.add_argument("--junit", metavar="FILE", type=Path, help="also write JUnit XML")
    parser.add_argument(
        "--update",
        action="store_true",
        help="write bounds into pyproject.toml that these traces keep with a margin",
    )


def run(args: argparse.Namespace) -> int:
    """1 where a bound is broken. Raises UsageError, also where no thread matches; TraceError."""
    paths = [path for given in args.traces for path in traces_in(given)]
    from gilscope.analysis.bounds import held_against, parsed  # noqa: PLC0415

    if args.update:
        return _update(args.max, paths)
    in_file = project.bounds()
    asked = {bound.name: bound for bound in [*in_file, *map(parsed, args.max)]}
    if not asked:
        raise UsageError(
            "no bounds: give --max METRIC[@THREAD]=VALUE, or let --update write some into"
            " pyproject.toml"
        )
    from gilscope.cli.output import check_output  # noqa: PLC0415

    if args.junit:
        check_output(args.junit)
    verdicts: list[Verdict] = []
    for path in paths:
        verdicts += held_against(list(asked.values()), _summary(path), str(path))
    if args.junit:
        from gilscope.viewers.junit import junit  # noqa: PLC0415

        args.junit.write_bytes(junit(verdicts))
    from gilscope.analysis.units import counted  # noqa: PLC0415

    broken = [verdict for verdict in verdicts if verdict.why]
    for verdict in broken:
        print(line(verdict))
    number = len({verdict.bound for verdict in broken})
    print(
        f"gilscope: {number} of {counted(len(asked), 'bound')} broken"
        f" in {counted(len(paths), 'trace')}",
        file=sys.stderr,
    )
    return int(bool(broken))


def line(verdict: Verdict) -> str:
    """One line of a broken bound: trace, thread, value and bound."""
    from gilscope.safe_text import escaped  # noqa: PLC0415

    return escaped(f"{verdict.trace}: {verdict.thread}: {verdict.why} ({verdict.bound})")


def _update(wanted: list[str], paths: list[Path]) -> int:
    from gilscope.analysis import margins  # noqa: PLC0415
    from gilscope.analysis.bounds import check_metric  # noqa: PLC0415
    from gilscope.analysis.units import counted  # noqa: PLC0415

    names = [text.partition("=")[0] for text in wanted] or [b.name for b in project.bounds()]
    for name in names:
        check_metric(name.partition("@")[0])
    summaries = [_summary(path) for path in paths]
    made: list[Bound] = margins.bounds(summaries, names or margins.usual(summaries))
    file = project.write_bounds(made)
    for bound in made:
        print(bound)
    print(
        f"gilscope: {counted(len(made), 'bound')} from {counted(len(paths), 'trace')},"
        f" with a margin, in {file}",
        file=sys.stderr,
    )
    return 0


def _summary(path: Path) -> dict[str, object]:
    from gilscope.analysis.summary import summarise  # noqa: PLC0415
    from gilscope.cli.progress import read  # noqa: PLC0415

    return summarise(read(path))

"""What each part of Python Plus wins: `gilscope bench aspects`.

Giltest and testserver, as the first Python Plus (for Python 2.7) was measured: on one source with
one set of flags, unpatched, with each part of the patches by itself, and with all of them. Beside
them stands the unpatched one under `gilscope run`, which needs no patch.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace

from gilscope.benchmarks import chart, giltest, harness, testserver, windows
from gilscope.benchmarks.harness import CLASSIC, IO_PRIORITY, Outcome, Results, Variant, ratios
from gilscope.benchmarks.report import Figure, Progress, Report, Row, publish
from gilscope.benchmarks.windows import Window
from gilscope.errors import InstallationError, UsageError
from gilscope.interpreter.places import Manifest, Place
from gilscope.interpreter.release import RELEASES, VARIANTS
from gilscope.recorder.policy import CONDVARS

HELP = "giltest and testserver on unpatched Python, with each part of Python Plus, and with all"

REPEATS = 20
UNPATCHED, UNDER_RUN = "unpatched", "unpatched, gilscope run"
RATES, RATIOS = "a second", "of unpatched's"
ALONE, BESIDE = "p=10", "p=10 + 1 CPU"  # what the first sentence is about
_LOADS = ("p=1", ALONE, "p=1 + 1 CPU", BESIDE)  # of testserver
COLUMNS = ("e", *giltest.PAIRS, *_LOADS)
_CHARTED = ("Lock + 1 CPU", "Condition + 1 CPU", ALONE, BESIDE)
_SERVER_S = 1  # ab takes whole seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `gilscope bench aspects`."""
    windows.add_arguments(parser, REPEATS, interpreters=False)
    for name, kind in (("stock", "unpatched"), ("plus", "Python Plus")):
        parser.add_argument(
            f"--{name}", metavar="PATH",
            help=f"the {kind} interpreter (default: the one that was built here)",
        )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Measure and tell.

    Raises UsageError, RecordingError, and InstallationError where there is no interpreter or ab.
    """
    windows.shorten(args)
    args.interpreter, args.policy = [], []
    harness.check(args)
    rows = variants(args.stock or built("stock"), args.plus or built(""))
    stock, plus = (rows[name].interpreter for name in (UNPATCHED, _all("futex")))
    if stock.version != plus.version and not args.quick:
        raise UsageError(f"they are not of one source: {stock.name} and {plus.name}")
    results = windows.measure(args, _windows(rows, args.seconds), together=True)
    with Progress() as progress:
        results |= harness.play(
            "server.py",
            [(variant, name) for variant in rows.values() for name in _LOADS],
            lambda worker, name: testserver.measure(worker, testserver.LOADS[name], _SERVER_S),
            arguments=[str(testserver.POOL)],
            repeats=args.repeats,
            tick=progress.tick,
            together=True,
        )
    return publish(tell(args, rows, results), args)


def built(variant: str) -> str:
    """The interpreter of that variant. Raises InstallationError where it was not built."""
    place = Place.of(next(iter(RELEASES.values())), VARIANTS[variant])
    if Manifest.read(place.prefix) is None:
        option = f" --variant {variant}" if variant else ""
        raise InstallationError(
            f"{VARIANTS[variant].about}: build it first: gilscope interpreter build{option}"
        )
    return str(place.python)


def variants(stock: str, plus: str) -> dict[str, Variant]:
    """Each row's variant by its name, the unpatched first. Raises UsageError."""
    plain = Variant(harness.interpreter(stock), CLASSIC)
    patched = Variant(harness.interpreter(plus), CLASSIC, condvar="pthread", python_condition=True)
    condvars = {
        f"+ {name} condvar": replace(patched, condvar=name)
        for name in CONDVARS
        if name != patched.condvar
    }
    everything = replace(patched, policy=IO_PRIORITY, python_condition=False)
    return {
        UNPATCHED: plain,
        "patched, nothing on": patched,
        "+ GIL": replace(patched, policy=IO_PRIORITY),
        "+ native Condition": replace(patched, python_condition=False),
        **condvars,
        **{_all(name): replace(everything, condvar=name) for name in CONDVARS},
        UNDER_RUN: replace(plain, policy=IO_PRIORITY),
    }


def _all(condvar: str) -> str:
    return f"all, {condvar} condvar"


def _windows(rows: Mapping[str, Variant], seconds: float) -> list[tuple[Variant, Window]]:
    orders = {**giltest.COMPUTING, **giltest.PAIRS}
    return [
        (variant, Window(name, seconds, order))
        for variant in rows.values()
        for name, order in orders.items()
    ]


def tell(args: argparse.Namespace, rows: Mapping[str, Variant], results: Results) -> Report:
    """A row a variant with its rates, and again with what they are of the unpatched's."""
    plain = rows[UNPATCHED]
    compared = {
        name: compare(results, variant, plain) for name, variant in rows.items() if variant != plain
    }
    report = Report(
        benchmark="aspects",
        title="What each part of Python Plus wins",
        lead=lead(compared),
        command=harness.command_line("aspects", args),
        machine=f"{rows[_all('futex')].interpreter.name}, {harness.machine()}",
        repeats=args.repeats,
        words=("what", "variant"),
        columns=COLUMNS,
        rows=[Row((RATES, name), rates(results, v, args.seconds)) for name, v in rows.items()],
    )
    report.rows += [Row((RATIOS, name), figures) for name, figures in compared.items()]
    charted = [Row((name, RATIOS), figures) for name, figures in compared.items()]
    report.chart = chart.dots(replace(report, rows=charted), _CHARTED)
    report.notes = [
        "e: what two computing threads get done of what one does in the same time. Lock, "
        "Condition: round trips of a producer and a consumer. p: requests that ab makes at a time "
        f"to a server with {testserver.POOL} threads. + 1 CPU: beside a thread that computes. "
        f"{RATIOS.capitalize()}: within repeats; e there: the work of two computing threads.",
        "+ GIL: the policy io-priority. All: it and the native Condition. All else has the "
        "Condition that is written in Python, and a pthread condition variable under the GIL. "
        f"Under gilscope run: the policy alone, nothing patched. {windows.placed(args)}",
    ]
    return report


def rates(results: Results, variant: Variant, seconds: float) -> dict[str, Figure]:
    """Of giltest and of testserver, a second."""
    served = {name: Figure(_values(results[variant, name], "rate"), "/s") for name in _LOADS}
    return {**giltest.figures(results, variant, seconds), **served}


def compare(results: Results, variant: Variant, plain: Variant) -> dict[str, Figure]:
    """Of what the unpatched does, repeat by repeat."""
    measured = {
        "e": ("2 CPU", "computed"),
        **{name: (name, "done") for name in giltest.PAIRS},
        **{name: (name, "rate") for name in _LOADS},
    }
    return {
        column: Figure(ratios(results[variant, load], results[plain, load], what))
        for column, (load, what) in measured.items()
    }


def _values(outcomes: Sequence[Outcome], what: str) -> list[float]:
    return [value for outcome in outcomes if (value := outcome[what]) is not None]


def lead(compared: Mapping[str, Mapping[str, Figure]]) -> str:
    """What is won, in one sentence, with its intervals."""
    plus, run = (
        [_times(compared[name][load]) for load in (BESIDE, ALONE)]
        for name in (_all("futex"), UNDER_RUN)
    )
    return (
        f"Beside a thread that computes, Python Plus answers {plus[0]} as many requests per second "
        f"as the same Python unpatched, and alone {plus[1]}; the unpatched one under gilscope run "
        f"{run[0]} and {run[1]}."
    )


def _times(figure: Figure) -> str:
    median, *interval = figure.texts()
    return " ".join((f"{median} times", *interval))

"""The seed's table: `gilscope bench giltest`.

How efficient two computing threads are against one, and how often pairs of threads hand over by a
Lock and by a Condition, alone and beside a computing thread.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from gilscope.benchmarks import chart, harness, windows
from gilscope.benchmarks.harness import Outcome, Results, Variant, ratios
from gilscope.benchmarks.report import Figure, Report, Row, publish
from gilscope.benchmarks.windows import Window

HELP = "the seed's table: efficiency of two CPU threads, producer and consumer pairs"

REPEATS = 12
CONDVARS = ("pthread", "emulated", "futex")
COMPUTING = {"1 CPU": {"cpu": 1}, "2 CPU": {"cpu": 2}}
PAIRS = {
    "Lock": {"lock_pairs": 1},
    "Lock + 1 CPU": {"lock_pairs": 1, "cpu": 1},
    "Condition": {"condition_pairs": 1},
    "Condition + 1 CPU": {"condition_pairs": 1, "cpu": 1},
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `gilscope bench giltest`."""
    windows.add_arguments(parser, REPEATS)


def run(args: argparse.Namespace) -> int:
    """Measure and tell. Raises UsageError and RecordingError."""
    windows.shorten(args)
    variants = rows(harness.variants(args))
    orders = {**COMPUTING, **PAIRS}
    turns = [
        (variant, Window(name, args.seconds, order))
        for variant in variants
        for name, order in orders.items()
    ]
    return publish(tell(args, variants, windows.measure(args, turns)), args)


def rows(variants: Sequence[Variant]) -> list[Variant]:
    """Python Plus appears with each of its condition variables."""
    return [
        Variant(v.interpreter, v.policy, v.grace_us, condvar)
        for v in variants
        for condvar in (CONDVARS if v.interpreter.plus else (None,))
    ]


def tell(args: argparse.Namespace, variants: Sequence[Variant], results: Results) -> Report:
    """A row a variant."""
    report = Report(
        benchmark="giltest",
        title="giltest",
        command=harness.command_line("giltest", args),
        machine=harness.machine(),
        repeats=args.repeats,
        words=("interpreter", "variant"),
        columns=("e", *PAIRS),
    )
    for variant in variants:
        report.rows.append(
            Row(
                (variant.interpreter.name, variant.name),
                figures(results, variant, args.seconds),
            )
        )
    report.chart = chart.dots(report, report.columns)
    report.notes = [
        "e: what two computing threads get done of what one does in the same time. The others: "
        "round trips a second between a producer and a consumer, two Locks or one Condition.",
        f"Windows of {args.seconds:g} s. {windows.placed(args)}",
    ]
    return report


def figures(results: Results, variant: Variant, seconds: float) -> dict[str, Figure]:
    """Efficiency, and rates in round trips a second."""
    one, two = (results[variant, name] for name in COMPUTING)
    rates = {
        name: Figure([_done(outcome) / seconds for outcome in results[variant, name]], "/s")
        for name in PAIRS
    }
    return {"e": Figure(ratios(two, one, "computed")), **rates}


def _done(outcome: Outcome) -> float:
    done = outcome["done"]
    assert done is not None
    return done

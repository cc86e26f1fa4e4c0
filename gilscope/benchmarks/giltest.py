"""Threads that compute and threads that hand over: `gilscope bench giltest`.

How efficient two computing threads are against one, and how often pairs of threads hand over by a
Lock and by a Condition, alone and beside a computing thread.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace

from gilscope.benchmarks import chart, harness, windows
from gilscope.benchmarks.harness import CLASSIC, IO_PRIORITY, Outcome, Results, Variant, ratios
from gilscope.benchmarks.report import Figure, Report, Row, publish
from gilscope.benchmarks.windows import Window
from gilscope.recorder.policy import CONDVARS

HELP = "two threads that compute against one, and pairs that hand over to each other"

REPEATS = 12
DEFAULTS = {CLASSIC: "pthread", IO_PRIORITY: "futex"}  # of Python Plus, by policy
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
    """A row a variant; for Python Plus its condition variables against the default, too."""
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
    report.rows += against_the_default(variants, results)
    report.notes = [
        "e: what two computing threads get done of what one does in the same time. The others: "
        "round trips a second between a producer and a consumer, two Locks or one Condition. "
        "`a / b`: the condition variable a under the GIL compared with b, within repeats; e there: "
        "the work of two computing threads.",
        f"Windows of {args.seconds:g} s. {windows.placed(args)}",
    ]
    return report


def against_the_default(variants: Sequence[Variant], results: Results) -> Iterator[Row]:
    """What each other condition variable does of what the default does, repeat by repeat."""
    for variant in variants:
        default = replace(variant, condvar=DEFAULTS[variant.policy])
        if variant.condvar is None or variant == default:
            continue
        compared = {
            "e": ratios(results[variant, "2 CPU"], results[default, "2 CPU"], "computed"),
            **{
                name: ratios(results[variant, name], results[default, name], "done")
                for name in PAIRS
            },
        }
        yield Row(
            (variant.interpreter.name, f"{variant.name} / {default.condvar}"),
            {name: Figure(values) for name, values in compared.items()},
        )


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

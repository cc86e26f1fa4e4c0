"""Whether a Condition's waiter has its turn: `gilscope bench starvation`.

A thread takes a Condition again and again, another wants it now and then. The second has its turn
at least half as often as with threading's Condition in the same interpreter, and waits at most
twice as long and 5 ms more at the 99th percentile; with gilscope's Condition and with that on
atomic sections, alone and beside two computing threads.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import gilscope
from gilscope.benchmarks import chart, harness, windows
from gilscope.benchmarks.condition import KITS, kits
from gilscope.benchmarks.harness import Outcome, Results, Variant, ratios
from gilscope.benchmarks.report import Figure, Report, Row, publish
from gilscope.benchmarks.windows import Window

HELP = "how often a waiter has its turn beside a thread that takes the same Condition all the time"

REPEATS = 20
_PROGRAM = "turns.py"
_CPU_THREADS = (0, 2)
_COMPARED = KITS[1:]
_AT_LEAST = 0.5  # of stock's turns
_MORE_NS = 5e6  # than twice stock's p99
COLUMNS = (
    *(f"{kit}{what}" for kit in KITS for what in ("", " p99")),
    *(f"{kit} {what}" for kit in _COMPARED for what in ("turns of stock's", "p99 of its bound")),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `gilscope bench starvation`."""
    windows.add_arguments(parser, REPEATS, seconds=0.6)


def run(args: argparse.Namespace) -> int:
    """Measure and tell; 1 when a bound was missed. Raises UsageError and RecordingError."""
    windows.shorten(args)
    variants = [
        Variant(v.interpreter, v.policy, v.grace_us, watched=True) for v in harness.variants(args)
    ]
    folder = str(Path(gilscope.__file__).parents[1])
    turns = [
        (variant, Window(_name(kit, cpu), args.seconds, {"kit": kit, "cpu": cpu}))
        for variant in variants
        for kit in kits(variant, folder)
        for cpu in _CPU_THREADS
    ]
    results = windows.measure(args, turns, _PROGRAM, [folder])
    return publish(tell(args, variants, results), args)


def _name(kit: str, cpu: int) -> str:
    return f"{kit} + {cpu} CPU"


def tell(args: argparse.Namespace, variants: Sequence[Variant], results: Results) -> Report:
    """A row for each interpreter, load and policy."""
    report = Report(
        benchmark="starvation",
        title="Turns beside a thread that takes the same Condition all the time",
        command=harness.command_line("starvation", args),
        machine=harness.machine(),
        repeats=args.repeats,
        words=("interpreter", "load", "policy"),
        columns=COLUMNS,
    )
    for cpu in _CPU_THREADS:
        load = f"beside {cpu} CPU" if cpu else "alone"
        for variant in variants:
            words = (variant.interpreter.name, load, variant.name)
            report.rows.append(Row(words, figures(results, variant, cpu, args.seconds)))
    report.rows.sort(key=lambda row: row.words[0])
    report.chart = chart.dots(report, [f"{kit} turns of stock's" for kit in _COMPARED])
    report.notes = [
        "Turns a second of a thread that wants the Condition 200 µs after it had it, and the 99th "
        "percentile of its waits for it; another takes it for some microseconds at a time, and "
        "again at once. Turns of stock's: paired, of threading's own Condition's. P99 of its "
        "bound: paired, of twice stock's p99 and 5 ms.",
        f"Windows of {args.seconds:g} s. {windows.placed(args)}",
    ]
    return report


def figures(results: Results, variant: Variant, cpu: int, seconds: float) -> dict[str, Figure]:
    """The row's figures: of each kit, and compared with stock."""
    told: dict[str, Figure] = {}
    stock = results[variant, _name("stock", cpu)]
    for kit in KITS:
        own = results.get((variant, _name(kit, cpu)))
        if own is None:
            continue
        told[kit] = Figure([(x["done"] or 0) / seconds for x in own], "/s")
        told[f"{kit} p99"] = Figure([x["p99_ns"] or 0 for x in own], "ns")
        if kit != "stock":
            bounds: list[Outcome] = [{"p99_ns": 2 * (x["p99_ns"] or 0) + _MORE_NS} for x in stock]
            told[f"{kit} turns of stock's"] = Figure(ratios(own, stock, "done"), at_least=_AT_LEAST)
            told[f"{kit} p99 of its bound"] = Figure(ratios(own, bounds, "p99_ns"), at_most=1)
    return told

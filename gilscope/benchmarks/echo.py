"""What IO priority wins, and what it costs: `gilscope bench echo`.

An echo server, pairs of threads that hand over, and threads that only do IO, beside threads that
compute. Requests are compared with the same program without computing threads, because classic's
are bistable beside them (the same program ran at 70 and at 5,000 a second); latency is compared
with classic's; CPU work is what the computing threads got done, of what they do alone with classic.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass

from gilscope.benchmarks import ablation, chart, control, harness, windows
from gilscope.benchmarks.harness import CLASSIC, Outcome, Results, Variant, ratios
from gilscope.benchmarks.report import Figure, Report, Row, publish
from gilscope.benchmarks.windows import Window
from gilscope.errors import UsageError

HELP = "requests, latency and CPU work of threads that do IO beside threads that compute"

REPEATS = 30
_OPEN = {"connections": 1, "rate": 500}


@dataclass(frozen=True)
class Load:
    """A row of the table: its window, what it is compared with, and its bounds."""

    name: str
    order: Mapping[str, float]
    client: Mapping[str, float] | None = None
    base: str | None = None  # the window without computing threads
    alone: str | None = None  # the window of the computing threads alone
    requests: float | None = None  # of the base's, at least
    of_classic: float | None = None  # requests of classic's, at least
    faster: float | None = None  # p99 is so many times lower than classic's, at least
    no_slower: bool = False
    cpu: float | None = None
    cpu_of_classic: float | None = None
    threads: str | None = None  # the window of as many threads, which its p99 is compared with


def _echo(cpu: int, requests: float, faster: float) -> Load:
    return Load(
        f"echo + {cpu} CPU", {"connections": 1, "cpu": cpu}, {"connections": 1},
        base="echo", alone=f"{cpu} CPU", requests=requests, faster=faster, cpu=0.45,
    )  # fmt: skip


def _processes(cpu: int) -> Load:
    """The same computing without a shared GIL: nothing but processors is shared."""
    return Load(
        f"echo + {cpu} process{'es' * (cpu > 1)}", {"connections": 1, "processes": cpu},
        {"connections": 1}, base="echo", alone=f"{cpu} CPU", threads=f"echo + {cpu} CPU",
    )  # fmt: skip


def _pair(kind: str) -> tuple[Load, Load]:
    order = f"{kind.lower()}_pairs"
    alone = Load(f"{kind} pair", {order: 1}, of_classic=0.97, no_slower=True)
    beside = Load(
        f"{kind} pair + 1 CPU", {order: 1, "cpu": 1},
        base=alone.name, alone="1 CPU", requests=0.25, faster=20, cpu=0.4,
    )  # fmt: skip
    return alone, beside


LOADS = (
    Load("echo", {"connections": 1}, {"connections": 1}, of_classic=0.97, no_slower=True),
    _echo(1, 0.4, 50),
    _processes(1),
    _echo(2, 0.35, 50),
    _processes(2),
    _echo(4, 0.3, 100),
    _processes(4),
    *_pair("Lock"),
    *_pair("Condition"),
    Load(
        "500 requests/s + 2 CPU", {"connections": 1, "cpu": 2}, _OPEN,
        alone="2 CPU", requests=1, faster=20, cpu=0.95,
    ),
    Load("1 CPU", {"cpu": 1}, cpu_of_classic=0.98),
    Load("2 CPU", {"cpu": 2}, cpu_of_classic=0.98),
    Load("4 CPU", {"cpu": 4}, cpu_of_classic=0.98),
    Load("8 IO", {"io": 8}, of_classic=0.97, no_slower=True),
    Load("8 IO + 1 CPU", {"io": 8, "cpu": 1}, alone="1 CPU", cpu=0.1),
    Load(
        "echo, pool of 10", {"connections": 10}, {"connections": 10},
        of_classic=0.97, no_slower=True,
    ),
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `gilscope bench echo`."""
    windows.add_arguments(parser, REPEATS)
    parser.add_argument(
        "--only", metavar="TEXT", action="append", default=[],
        help="only loads whose name has it (and those they are compared with); again for more",
    )  # fmt: skip
    parser.add_argument(
        "--control", action="store_true",
        help="instead, compare the policy with classic at other switch intervals",
    )  # fmt: skip
    ablation.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measure and tell; 1 when a bound was missed. Raises UsageError and RecordingError."""
    windows.shorten(args)
    variants = harness.variants(args)
    if args.control:
        return publish(control.compare(args, variants), args)
    if args.without:
        return publish(ablation.measure(args, interpreters(variants), judging(args)), args)
    loads = chosen(args.only)
    turns = [
        (variant, Window(load.name, args.seconds, load.order, load.client))
        for variant in variants
        for load in loads
    ]
    return publish(tell(args, variants, loads, windows.measure(args, turns)), args)


def chosen(texts: list[str]) -> list[Load]:
    """The loads whose names have one of the texts, and what those are compared with; all for none.

    Raises UsageError when none has.
    """
    names = {x.name for x in LOADS if not texts or any(text in x.name for text in texts)}
    if not names:
        raise UsageError(f"no load has {texts[0]} in its name; loads: {_names()}")
    for load in LOADS:
        if load.name in names:
            names |= {name for name in (load.base, load.alone, load.threads) if name}
    return [load for load in LOADS if load.name in names]


def interpreters(variants: list[Variant]) -> list[harness.Interpreter]:
    """Each once."""
    return list(dict.fromkeys(variant.interpreter for variant in variants))


def judging(args: argparse.Namespace) -> dict[str, Window]:
    """The windows of loads in which the GIL is shared, by name. Raises UsageError."""
    chosen(args.only)
    return {
        load.name: Window(load.name, args.seconds, load.order, load.client)
        for load in LOADS
        if "processes" not in load.order
        and (not args.only or any(text in load.name for text in args.only))
    }


def _names() -> str:
    return ", ".join(load.name for load in LOADS)


def tell(
    args: argparse.Namespace, variants: list[Variant], loads: list[Load], results: Results
) -> Report:
    """The table: each load under each policy, on each interpreter."""
    report = Report(
        benchmark="echo",
        title="IO beside computing threads",
        command=harness.command_line("echo", args),
        machine=harness.machine(),
        repeats=args.repeats,
        words=("interpreter", "load", "policy"),
        columns=("a second", "of alone", "of classic's", "p99", "p99 lower", "CPU work"),
    )
    for classic in (v for v in variants if v.policy == CLASSIC):
        for load in loads:
            report.rows += [
                Row(
                    (classic.interpreter.name, load.name, variant.name),
                    figures(load, variant, classic, results, args.seconds),
                )
                for variant in variants
                if variant.interpreter == classic.interpreter
            ]
    report.chart = chart.dots(report, ("of alone", "p99", "CPU work"))
    report.notes = [
        "Of alone: requests or pairs, of those without computing threads under the same policy; "
        "with a fixed rate, of those that were due, the ones answered within 100 ms. p99 lower: "
        "how many times lower than classic's. CPU work: of what the same number of computing "
        "threads does alone under classic. Processes: the same computing by processes, which share "
        "no GIL with the server; its p99 is compared with that of the same number of threads.",
        f"Windows of {args.seconds:g} s, the client a process of its own. {windows.placed(args)}",
    ]
    return report


def figures(
    load: Load, variant: Variant, classic: Variant, results: Results, seconds: float
) -> dict[str, Figure]:
    """The row's figures; those of classic itself are bound by nothing."""
    own, its = results[variant, load.name], results[classic, load.name]
    bound = variant != classic

    def least(value: float | None) -> float | None:
        return value if bound else None

    told: dict[str, Figure] = {}
    if load.client is not None or load.order.keys() != {"cpu"}:
        told["a second"] = Figure([_value(x, "done") / seconds for x in own])
        told["p99"] = Figure([x["p99_ns"] for x in own if x["p99_ns"] is not None], "ns")
    if load.base is not None:
        told["of alone"] = Figure(
            ratios(own, results[variant, load.base], "done"), at_least=least(load.requests)
        )
    elif load.client is not None and "rate" in load.client:
        shares = [_value(x, "done") / _value(x, "offered") for x in own]
        told["of alone"] = Figure(shares, at_least=least(load.requests))
    if load.of_classic is not None and bound:
        told["of classic's"] = Figure(ratios(own, its, "done"), at_least=load.of_classic)
    if bound and (load.faster is not None or load.no_slower):
        told["p99 lower"] = Figure(
            ratios(its, own, "p99_ns"),
            "x",
            at_least=load.faster,
            no_worse=1 if load.no_slower else None,
        )
    elif load.threads is not None:
        told["p99 lower"] = Figure(ratios(results[classic, load.threads], own, "p99_ns"), "x")
    if load.alone is not None:
        told["CPU work"] = Figure(
            ratios(own, results[classic, load.alone], "computed"), at_least=least(load.cpu)
        )
    elif load.cpu_of_classic is not None and bound:
        told["CPU work"] = Figure(ratios(own, its, "computed"), at_least=load.cpu_of_classic)
    return told


def _value(outcome: Outcome, what: str) -> float:
    value = outcome[what]
    assert value is not None
    return value

"""A threaded test server under load: `gilscope bench testserver`.

A socketserver with a pool of threads, loaded by ApacheBench with 1 and with 10 requests at a time,
with and without a computing thread in the server.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass

from gilscope.benchmarks import chart, harness
from gilscope.benchmarks.ab import ab
from gilscope.benchmarks.harness import CLASSIC, Outcome, Results, Variant, Worker, ratios
from gilscope.benchmarks.report import Figure, Progress, Report, Row, publish
from gilscope.errors import RecordingError

HELP = "requests a second of a threaded server with a pool, loaded by ab"

REPEATS = 20
POOL = 10  # threads; beside it a pool of one, which hands nothing over


@dataclass(frozen=True)
class Load:
    """How ab loads the server, and what a policy has to reach, of classic's requests a second."""

    parallel: int
    cpu: int
    at_least: float | None = None
    no_worse: float | None = None
    pool: int = POOL  # threads of the server

    @property
    def name(self) -> str:
        """`p=10 + 1 CPU`: so many requests at a time, beside so many threads that compute."""
        pool = f", pool of {self.pool}" if self.pool != POOL else ""
        return f"p={self.parallel}{pool}" + (f" + {self.cpu} CPU" if self.cpu else "")

    @property
    def judged_by(self) -> str:
        """The load whose rate under classic it is compared with."""
        return self.name if self.pool == POOL else f"p={self.parallel}"


LOADS = {
    load.name: load
    for load in (
        Load(1, 0, no_worse=1),
        Load(10, 0, at_least=1.3),
        Load(10, 0, pool=1),
        Load(1, 1, no_worse=1),
        Load(10, 1, at_least=5),
    )
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `gilscope bench testserver`."""
    harness.add_arguments(parser, REPEATS)
    parser.add_argument(
        "--seconds", metavar="S", type=int, default=1, help="of each load, whole ones (default: 1)"
    )


def run(args: argparse.Namespace) -> int:
    """Measure and tell; 1 when a bound was missed.

    Raises UsageError, RecordingError, and InstallationError where there is no ab.
    """
    if args.quick:
        args.repeats = 1
    variants = harness.variants(args)
    turns = [(variant, name) for variant in variants for name in LOADS]
    with Progress() as progress:
        results = harness.play(
            "server.py",
            turns,
            lambda worker, name: measure(worker, LOADS[name], args.seconds),
            arguments=sorted({str(load.pool) for load in LOADS.values()}),
            repeats=args.repeats,
            tick=progress.tick,
        )
    return publish(tell(args, variants, results), args)


def measure(worker: Worker, load: Load, seconds: int) -> Outcome:
    """Rates are a second, latencies in ns. Raises RecordingError when requests failed."""
    worker.ask(json.dumps({"cpu": load.cpu}))
    port = json.loads(worker.first)["ports"][str(load.pool)]
    served = ab(port, load.parallel, seconds)
    computed = json.loads(worker.ask(json.dumps({"cpu": 0})))["computed"]
    if served.failed:
        raise RecordingError(f"{served.failed} requests of ab failed")
    return {
        "rate": served.per_second,
        "p50_ns": served.percentiles_ms[50] * 1e6,
        "p99_ns": served.percentiles_ms[99] * 1e6,
        "max_ns": served.percentiles_ms[100] * 1e6,
        "computed": computed,
    }


def tell(args: argparse.Namespace, variants: Sequence[Variant], results: Results) -> Report:
    """A row for each load and policy."""
    report = Report(
        benchmark="testserver",
        title="testserver",
        command=harness.command_line("testserver", args),
        machine=harness.machine(),
        repeats=args.repeats,
        words=("interpreter", "load", "policy"),
        columns=("requests", "of classic's", "p50", "p99", "longest", "CPU work"),
    )
    for classic in (v for v in variants if v.policy == CLASSIC):
        for load in LOADS.values():
            report.rows += [
                Row(
                    (classic.interpreter.name, load.name, variant.name),
                    figures(results, load, variant, classic),
                )
                for variant in variants
                if variant.interpreter == classic.interpreter
            ]
    report.chart = chart.dots(report, ("requests", "p50", "p99"))
    report.notes = [
        f"p: requests at a time. The server has a pool of {POOL} threads; each request is a "
        "connection of its own. A pool of 1 hands no request over; it is compared with classic's "
        "of 10. Latencies are ab's, over the whole request. CPU work: of what the computing "
        "thread does beside the same load under classic."
    ]
    return report


def figures(results: Results, load: Load, variant: Variant, classic: Variant) -> dict[str, Figure]:
    """The row's figures; those of classic itself are bound by nothing."""
    own, its = results[variant, load.name], results[classic, load.judged_by]

    def all_of(what: str, unit: str) -> Figure:
        return Figure([value for x in own if (value := x[what]) is not None], unit)

    told = {
        "requests": all_of("rate", "/s"),
        "p50": all_of("p50_ns", "ns"),
        "p99": all_of("p99_ns", "ns"),
        "longest": all_of("max_ns", "ns"),
    }
    if variant != classic or load.name != load.judged_by:
        told["of classic's"] = Figure(
            ratios(own, its, "rate"), at_least=load.at_least, no_worse=load.no_worse
        )
    if variant != classic and load.cpu:
        told["CPU work"] = Figure(ratios(own, its, "computed"))
    return told

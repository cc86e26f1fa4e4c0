"""`gilscope bench NAME`: runs `gilscope/benchmarks/NAME.py`, which has the shape of a command."""

from __future__ import annotations

import argparse

from gilscope.cli import load

HELP = "measure gilscope itself and what it claims"

BENCHMARKS = (
    "probe",
    "export",
    "echo",
    "giltest",
    "testserver",
    "aspects",
    "condition",
    "starvation",
    "peers",
    "sched",
    "scale",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One sub-command a benchmark, each with its own options."""
    names = parser.add_subparsers(metavar="BENCHMARK", required=True)
    for name in BENCHMARKS:
        benchmark = load("gilscope.benchmarks", name)
        options = names.add_parser(name, help=benchmark.HELP, description=benchmark.HELP)
        benchmark.add_arguments(options)
        options.set_defaults(run_benchmark=benchmark.run)


def run(args: argparse.Namespace) -> int:
    """Run the benchmark that was named."""
    code: int = args.run_benchmark(args)
    return code

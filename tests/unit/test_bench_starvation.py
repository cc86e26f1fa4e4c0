"""`gilscope bench starvation`: its arithmetic, and that its program counts turns of every kit."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import gilscope
from gilscope.benchmarks import starvation as bench
from gilscope.benchmarks.harness import Interpreter, Outcome, Results, Variant, Worker, interpreter

STOCK = Interpreter("python3", "3.13.5", False)
MS = 1e6


def outcomes(done: float, p99_ms: float) -> list[Outcome]:
    return [{"done": done, "p99_ns": p99_ms * MS}] * 10


def test_turns_and_waits_are_judged_by_stocks() -> None:
    variant = Variant(STOCK, "classic", watched=True)
    results: Results = {
        (variant, "stock + 0 CPU"): outcomes(200, 4),
        (variant, "native + 0 CPU"): outcomes(110, 12),
        (variant, "atomic + 0 CPU"): outcomes(90, 14),
    }
    told = bench.figures(results, variant, 0, 0.5)
    assert told["stock"].estimate.median == 400  # a second
    assert told["native turns of stock's"].estimate.median == 0.55
    assert told["native p99 of its bound"].estimate.median == 12 / (2 * 4 + 5)
    met = {name: figure.met for name, figure in told.items() if figure.met is not None}
    assert met == {
        "native turns of stock's": True,
        "native p99 of its bound": True,
        "atomic turns of stock's": False,
        "atomic p99 of its bound": False,
    }


def test_the_program_counts_turns_of_every_kit() -> None:
    python = interpreter(sys.executable)
    folder = str(Path(gilscope.__file__).parents[1])
    variant = Variant(python, "classic", watched=True)
    with Worker(variant.command(bench._PROGRAM, folder)) as worker:
        assert set(json.loads(worker.first)["kits"]) == {"stock", "native", "atomic"}
        for kit in ("stock", "native", "atomic"):
            for cpu in (0, 2):
                begin = time.monotonic_ns()
                span = {"begin": begin, "end": begin + 200_000_000}
                told = json.loads(worker.ask(json.dumps({"kit": kit, "cpu": cpu, **span})))
                assert told["done"] > 0, (kit, cpu)
                assert told["sections"] > 0
                assert told["p99_ns"] > 0

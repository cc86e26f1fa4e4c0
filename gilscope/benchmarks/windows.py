"""Windows: spans of the clock in which programs/threads.py and its client count by themselves.

Both are told beforehand when the window begins and ends, so nothing has to reach a busy program in
time, and its warm-up lies before the beginning.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gilscope.benchmarks import harness
from gilscope.benchmarks.harness import PROGRAMS, Outcome, Results, Variant, Worker
from gilscope.benchmarks.report import Progress
from gilscope.errors import RecordingError

_PLACEMENTS = ("free", "one", "split")
_WARM_UP_S = (0.08, 0.3, 1.0, 3.0)  # the next where a thread began later than its window


@dataclass(frozen=True)
class Window:
    """What the program is told, and what the client is, where there is one."""

    name: str
    seconds: float
    order: Mapping[str, float]
    client: Mapping[str, float] | None = None


def add_arguments(parser: argparse.ArgumentParser, repeats: int) -> None:
    """The options of a benchmark that is measured in windows."""
    harness.add_arguments(parser, repeats)
    parser.add_argument(
        "--seconds", metavar="S", type=float, default=0.4, help="a window's length (default: 0.4)"
    )
    parser.add_argument(
        "--placement", choices=_PLACEMENTS, default=_PLACEMENTS[0],
        help="where the program and its client run: free on all CPUs, both on one, split on two "
        "(default: free)",
    )  # fmt: skip


def shorten(args: argparse.Namespace) -> None:
    """What --quick means."""
    if args.quick:
        args.repeats, args.seconds = 1, min(args.seconds, 0.1)


def measure(args: argparse.Namespace, turns: Sequence[tuple[Variant, Window]]) -> Results:
    """Each window in its variant, once a repeat. Raises RecordingError."""
    all_cpus = harness.cpus()
    server, client_cpus = {
        "free": (all_cpus, all_cpus),
        "one": (all_cpus[:1], all_cpus[:1]),
        "split": (all_cpus[:1], all_cpus[-1:]),
    }[args.placement]
    windows = {window.name: window for _, window in turns}
    with harness.starting_on(*client_cpus):
        client = Worker([sys.executable, str(PROGRAMS / "client.py")])
    with client, Progress() as progress:
        return harness.play(
            "threads.py",
            [(variant, window.name) for variant, window in turns],
            lambda worker, name: _play(windows[name], worker, client),
            repeats=args.repeats,
            tick=progress.tick,
            where=server,
        )


def _play(window: Window, worker: Worker, client: Worker) -> Outcome:
    """Tell both the span and hear what they counted."""
    for warm_up_s in _WARM_UP_S:
        begin = time.monotonic_ns() + int(warm_up_s * 1e9)
        span = {"begin": begin, "end": begin + int(window.seconds * 1e9)}
        worker.tell(json.dumps({**window.order, **span}))
        if window.client is not None:
            port = json.loads(worker.first)["port"]
            client.tell(json.dumps({**window.client, **span, "port": port}))
        outcome: Outcome = json.loads(worker.answer())
        if window.client is not None:
            seen = json.loads(client.answer())
            outcome |= {**seen, "late": seen["late"] or outcome["late"]}
        if not outcome["late"]:
            return outcome
    raise RecordingError("the machine is too busy to measure: threads start seconds late")

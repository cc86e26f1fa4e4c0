"""Windows: spans of the clock in which a program's threads and its client count by themselves.

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

_PLACEMENTS = ("free", "one", "apart")
_WARM_UP_S = (0.08, 0.3, 1.0, 3.0)  # the next where a thread began later than its window


Order = Mapping[str, float | str | list[str]]


@dataclass(frozen=True)
class Window:
    """What the program is told, and what the client is, where there is one."""

    name: str
    seconds: float
    order: Order
    client: Mapping[str, float] | None = None


def add_arguments(
    parser: argparse.ArgumentParser,
    repeats: int,
    *,
    seconds: float = 0.4,
    placement: str = _PLACEMENTS[0],
    interpreters: bool = True,
) -> None:
    """The options of a benchmark that is measured in windows."""
    harness.add_arguments(parser, repeats, interpreters=interpreters)
    parser.add_argument(
        "--seconds", metavar="S", type=float, default=seconds,
        help=f"a window's length (default: {seconds:g})",
    )  # fmt: skip
    parser.add_argument(
        "--placement", choices=_PLACEMENTS, default=placement,
        help="where threads and the client run: free on all CPUs, all on one, or apart, the "
        f"computing threads on one CPU and all else on another (default: {placement})",
    )  # fmt: skip


def shorten(args: argparse.Namespace) -> None:
    """What --quick means."""
    if args.quick:
        args.repeats, args.seconds = 1, min(args.seconds, 0.1)


def placed(args: argparse.Namespace) -> str:
    """Where the threads and the client ran, in words."""
    return {
        "free": "Threads and client ran wherever the kernel put them.",
        "one": "All threads and the client ran on one CPU.",
        "apart": "Computing threads ran on one CPU, all others and the client on another.",
    }[str(args.placement)]


def measure(
    args: argparse.Namespace,
    turns: Sequence[tuple[Variant, Window]],
    program: str = "threads.py",
    arguments: Sequence[str] = (),
    *,
    together: bool = False,
) -> Results:
    """Each window in its variant, once a repeat, as `harness.play`. Raises RecordingError."""
    first, last = harness.cpus()[0], harness.cpus()[-1]
    where = {"free": harness.cpus(), "one": [last], "apart": [last]}[args.placement]
    pinned = {"computing_on": first} if args.placement == "apart" else {}
    windows = {window.name: window for _, window in turns}
    with harness.starting_on(*where):
        client = Worker([sys.executable, str(PROGRAMS / "client.py")])
    with client, Progress() as progress:
        return harness.play(
            program,
            [(variant, window.name) for variant, window in turns],
            lambda worker, name: _play(windows[name], worker, client, pinned),
            arguments=arguments,
            repeats=args.repeats,
            tick=progress.tick,
            where=where,
            together=together,
        )


def _play(window: Window, worker: Worker, client: Worker, pinned: Mapping[str, float]) -> Outcome:
    """Tell both the span and hear what they counted."""
    for warm_up_s in _WARM_UP_S:
        begin = time.monotonic_ns() + int(warm_up_s * 1e9)
        span = {"begin": begin, "end": begin + int(window.seconds * 1e9)}
        worker.tell(json.dumps({**window.order, **pinned, **span}))
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

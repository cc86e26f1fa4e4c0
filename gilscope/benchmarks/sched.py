"""What `record --sched` costs: `gilscope bench sched`.

Two programs, each recorded with and without it by turns. *ping-pong*: two processes on one
processor hand a byte to and fro, two context switches a round trip and nothing else: the worst
case. *echo*: a server of two threads and its client, as `gilscope bench echo` has them, small.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from gilscope.benchmarks import harness
from gilscope.errors import RecordingError
from gilscope.recorder.switches import why_forbidden

HELP = "what record --sched costs a program that does little but switch, and an echo server"

REPEATS = 10
SHORT_REPEATS = 2

# Each prints how long one turn took, in ns.
_PING_PONG = """
import os, time
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
(a, b), (c, d) = os.pipe(), os.pipe()
if os.fork() == 0:
    for _ in range(N):
        os.read(a, 1)
        os.write(d, b"x")
    os._exit(0)
begin = time.perf_counter_ns()
for _ in range(N):
    os.write(b, b"x")
    os.read(c, 1)
print((time.perf_counter_ns() - begin) / N)
"""
_ECHO = """
import os, socket, threading, time
ours, theirs = socket.socketpair()
if os.fork() == 0:
    for _ in range(N):
        theirs.sendall(b"x")
        theirs.recv(1)
    os._exit(0)
theirs.close()
over = False
def compute():
    n = 0
    while not over:
        n += 1
thread = threading.Thread(target=compute)
thread.start()
begin = time.perf_counter_ns()
for _ in range(N):
    ours.sendall(ours.recv(1))
print((time.perf_counter_ns() - begin) / N)
over = True
thread.join()
"""
_PROGRAMS = {"ping-pong": (_PING_PONG, 20_000, 2), "echo": (_ECHO, 300, None)}


class Cost(NamedTuple):
    """Of one program. Times in ns, of one turn."""

    without: list[float]
    with_it: list[float]

    @property
    def more(self) -> list[float]:
        """How many times as long with it, in pairs."""
        return [b / a for a, b in zip(self.without, self.with_it, strict=True)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `gilscope bench sched`."""
    parser.add_argument(
        "--repeats",
        type=int,
        default=REPEATS,
        metavar="N",
        help="pairs of runs of each program (default: %(default)s)",
    )
    parser.add_argument(
        "--quick", action="store_true", help="two short runs of each: does it work here?"
    )
    parser.add_argument("--json", action="store_true", help="print the times as JSON")


def run(args: argparse.Namespace) -> int:
    """Measure and tell. Raises RecordingError where the kernel tells no context switches."""
    if why := why_forbidden():
        raise RecordingError(f"--sched cannot be measured here: {why}")
    repeats = SHORT_REPEATS if args.quick else max(2, args.repeats)
    costs = {name: measure(name, repeats, short=args.quick) for name in _PROGRAMS}
    if args.json:
        print(json.dumps({name: cost._asdict() for name, cost in costs.items()}))
        return 0
    print(harness.machine())
    for name, cost in costs.items():
        without, with_it = (statistics.median(times) for times in cost)
        low, high = harness.median_interval(cost.more)
        switches = _PROGRAMS[name][2]
        each = f", {(with_it - without) / switches / 1e3:.2f} µs a switch" if switches else ""
        print(
            f"{name:<10} {without / 1e3:,.1f} µs a turn, with --sched {with_it / 1e3:,.1f} µs"
            f"{each}; {statistics.median(cost.more):.3f} times as long ({low:.3f} to {high:.3f}), "
            f"{repeats} pairs"
        )
    return 0


def measure(name: str, repeats: int, *, short: bool) -> Cost:
    """Run a program by turns without and with it. Raises RecordingError."""
    source, turns, _ = _PROGRAMS[name]
    program = source.replace("N", str(turns // 10 if short else turns))
    cost = Cost([], [])
    with tempfile.TemporaryDirectory(prefix="gilscope-sched-") as folder:
        for number in range(repeats):
            sides: list[tuple[list[float], list[str]]] = [
                (cost.without, []),
                (cost.with_it, ["--sched"]),
            ]
            for times, options in sides if number % 2 else reversed(sides):
                times.append(_once(program, Path(folder) / "t.pftrace", options))
    return cost


def _once(program: str, trace: Path, options: list[str]) -> float:
    command = [sys.executable, "-m", "gilscope", "record", "--quiet", "-o", str(trace), *options]
    done = subprocess.run(
        [*command, "--", sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        return float(done.stdout)
    except ValueError:
        raise RecordingError(f"a program to be measured failed: {done.stderr.strip()}") from None

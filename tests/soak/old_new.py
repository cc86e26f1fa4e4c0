"""An older gilscope and this one, paired: is recording as cheap, and is the end as near?

    python tests/soak/old_new.py OLD [--repeats N] [--events N] [--page FILE.md]

OLD is a checkout of an older version in which `make setup` has run (`git worktree add OLD REV`).
Every repeat runs each program under both, in random order; a program measures itself. A ratio above
1 is in favour of this version.
"""

from __future__ import annotations

import argparse
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gilscope.benchmarks.harness import estimate, machine

ROOT = Path(__file__).parents[2]
EMIT = """
import ctypes, sys, time
from gilscope import _native
probe = ctypes.CDLL(str(_native.probe_path()))
probe.gilscope_bench_emit.argtypes = [ctypes.c_uint64]
pairs = int(sys.argv[1]) // 2
probe.gilscope_bench_emit(100_000)
begin = time.process_time()
probe.gilscope_bench_emit(pairs)
print("result", pairs / (time.process_time() - begin))
"""
WRITES = """
import os, time
file = os.open("/dev/null", os.O_WRONLY)
begin = time.process_time()
for _ in range(400_000):
    os.write(file, b"x")
print("result", 400_000 / (time.process_time() - begin))
"""
ENDS = """
import os, sys, time
file = os.open("/dev/null", os.O_WRONLY)
left = int(sys.argv[1]) // 2
while left > 0:
    for _ in range(min(left, 50_000)):
        os.write(file, b"x")
    left -= 50_000
    time.sleep(0.02)
print("ended", time.time(), flush=True)
"""


@dataclass(frozen=True)
class Way:
    """One program under gilscope; `figure` of its output and of when the command ended."""

    name: str
    program: str  # source, or a path in the checkout
    arguments: tuple[str, ...]
    figure: Callable[[str, float], float]  # more is better
    bound: float  # for the lower end of new / old
    summary: bool = False


def _result(out: str, _: float) -> float:
    return float(re.findall(r"^result (\S+)", out, re.M)[0])


def _requests(out: str, _: float) -> float:
    return float(re.findall(r"(\d+) requests/s", out)[0])


def _to_the_end(out: str, ended: float) -> float:
    return 1 / (ended - float(re.findall(r"^ended (\S+)", out, re.M)[0]))


def ways(events: int) -> list[Way]:
    """What is compared."""
    return [
        Way("events a second of processor time", EMIT, ("6000000",), _result, 0.98),
        Way("os.write a second of processor time", WRITES, (), _result, 0.98),
        Way("echo requests", "examples/echo_server.py", ("--spinners", "0"), _requests, 0.98),
        Way("echo beside a thread", "examples/echo_server.py", (), _requests, 0.98),
        Way(f"end to summary of {events:,} events", ENDS, (str(events),), _to_the_end, 10, True),
    ]


def run(checkout: Path, way: Way, folder: Path) -> float:
    """Its figure."""
    program = checkout / way.program
    if "\n" in way.program:
        program = folder / "program.py"
        program.write_text(way.program)
    python = str(checkout / ".venv/bin/python")
    command = [python, "-m", "gilscope", "record", "-o", str(folder / "trace.pftrace")]
    command += [] if way.summary else ["--no-summary"]
    done = subprocess.run(
        [*command, "--", python, str(program), *way.arguments],
        capture_output=True, text=True, check=True, cwd=checkout,
    )  # fmt: skip
    return way.figure(done.stdout, time.time())


def main() -> int:
    """Exit code 1: a bound was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("old", type=Path)
    parser.add_argument("--repeats", type=int, default=16)
    parser.add_argument("--events", type=int, default=50_000_000)
    parser.add_argument("--ends", type=int, default=3, help="repeats of the last row")
    parser.add_argument("--page", type=Path)
    args = parser.parse_args()
    old = args.old.resolve()
    rev = subprocess.check_output(["git", "-C", old, "rev-parse", "--short", "HEAD"], text=True)
    rows, good = [], True
    with tempfile.TemporaryDirectory() as name:
        for way in ways(args.events):
            pairs = []
            for _ in range(args.ends if way.summary else args.repeats):
                sides = random.sample([old, ROOT], 2)
                figures = {side: run(side, way, Path(name)) for side in sides}
                pairs.append(figures[ROOT] / figures[old])
            rows.append(_row(way, pairs))
            good = good and estimate(pairs).low >= way.bound
            print(rows[-1], flush=True)
    text = [
        "# An older version and this one",
        "",
        f"`python tests/soak/old_new.py OLD`, {time.strftime('%Y-%m-%d')}, OLD at {rev.strip()}; "
        f"{machine()}.",
        "The ratio is this version's figure of the older one's, pair by pair, so above 1 this one "
        "is faster: median",
        "(95 % interval of the median).",
        "",
        "| what | pairs | ratio | lower end at least | |",
        "|---|---|---|---|---|",
        *rows,
        "",
    ]
    if args.page:
        args.page.write_text("\n".join(text))
    return not good


def _row(way: Way, pairs: Sequence[float]) -> str:
    its = estimate(pairs)
    met = "met" if its.low >= way.bound else "NOT MET"
    ratio = f"{its.median:.3f} ({its.low:.3f} to {its.high:.3f})"
    return f"| {way.name} | {len(pairs)} | {ratio} | {way.bound:g} | {met} |"


if __name__ == "__main__":
    sys.exit(main())

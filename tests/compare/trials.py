"""Trials of `gilscope compare` on real programs: `python -m compare.trials` in tests/; an hour.

1. Nothing changed: 100 pairs of folders of five runs of one program, on a busy machine, the sides
   in turn. Counted: pairs with any row called changed. The same runs again as pairs whose sides
   were recorded one after the other.
2. Three deviations: the program computes so much longer that the poller's waiting grows by three
   times its run-to-run deviation, as trial 1 found it. Counted: pairs in which that row is found.
3. Planted fixes, 20 pairs each: told right in the first sentence.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import gilscope
from gilscope.analysis.compare import compare
from gilscope.analysis.measures import Key, Run, run_of
from gilscope.analysis.summary import summarise

PROGRAMS = Path(__file__).parent / "programs"
RUNS = 5
SECONDS = 0.3
POLLER = Key("thread", "poller", "waiting")

FIXES: dict[str, tuple[Sequence[str], Sequence[str], str]] = {
    "io-priority against a convoy": (
        ["convoy.py", str(SECONDS)],
        ["--policy=io-priority", "convoy.py", str(SECONDS)],
        r"poller waits (9\d|>?99|100) % less for the GIL",
    ),
    "a lock taken away": (
        ["lock.py", "shared"],
        ["lock.py", "apart"],
        r"wanter waits (9\d|>99|100) % less for locks",
    ),
    "processes instead of threads": (
        ["workers.py", "threads"],
        ["workers.py", "processes"],
        r"^the program takes \d+ % less time; .*worker-\* \(2 threads\) are no longer there",
    ),
}


def record(python: str, words: Sequence[str], folder: Path) -> Run:
    """One run of a program; words that begin with -- are for gilscope."""
    options = [word for word in words if word.startswith("--")]
    program, *arguments = (word for word in words if not word.startswith("--"))
    trace = folder / "run.pftrace"
    command = [sys.executable, "-m", "gilscope", "record", "--quiet", "-o", str(trace), *options]
    subprocess.run(
        [*command, "--", python, str(PROGRAMS / program), *arguments], check=True, timeout=120
    )
    read = gilscope.read(trace)
    started_ns = read.metadata.start_ns + read.metadata.realtime_offset_ns
    return run_of(str(trace), summarise(read), started_ns)


@contextlib.contextmanager
def busy(number: int) -> Iterator[None]:
    """So many other programs that compute."""
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def interval(hits: int, trials: int) -> str:
    """Wilson's 95 % interval of a share, in percent."""
    z = 1.96
    share = hits / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = (
        z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials**2)) / (1 + z * z / trials)
    )
    return f"{hits} of {trials} ({100 * (centre - half):.1f} to {100 * (centre + half):.1f} %)"


def changed(before: Sequence[Run], after: Sequence[Run]) -> list[str]:
    rows = compare(before, after)["rows"]
    return [f"{row['name']} {row['measure']}" for row in rows if row["changed"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--fixes", type=int, default=20)
    parser.add_argument("--burners", type=int, default=2)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--only", choices=("nothing", "effect", "fixes"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if args.only != "fixes":
            with busy(args.burners):
                deviation = _nothing(args, folder)
                _effect(args, folder, deviation)
        if args.only in (None, "fixes"):
            _fixes(args, folder)


def _nothing(args: argparse.Namespace, folder: Path) -> float:
    pairs = args.pairs if args.only != "effect" else 10
    words = ["convoy.py", str(SECONDS)]
    runs = [record(args.python, words, folder) for _ in range(2 * RUNS * pairs)]
    blocks = [runs[n : n + 2 * RUNS] for n in range(0, len(runs), 2 * RUNS)]
    in_turn = sum(bool(changed(block[::2], block[1::2])) for block in blocks)
    behind = sum(bool(changed(block[:RUNS], block[RUNS:])) for block in blocks)
    print(f"nothing changed, sides in turn: any row in {interval(in_turn, pairs)}")
    print(f"nothing changed, one side behind the other: any row in {interval(behind, pairs)}")
    logs = [math.log(run.figures[POLLER]) for run in runs]
    within = [statistics.variance(logs[n : n + RUNS]) for n in range(0, len(logs), RUNS)]
    deviation = math.sqrt(statistics.mean(within))
    print(f"the poller's waiting deviates by {100 * deviation:.1f} % from run to run")
    return deviation


def _effect(args: argparse.Namespace, folder: Path, deviation: float) -> None:
    longer = SECONDS * math.exp(3 * deviation)
    pairs = max(args.pairs // 2, 10)
    found = 0
    for _ in range(pairs):
        sides: tuple[list[Run], list[Run]] = ([], [])
        for _ in range(RUNS):
            for side, seconds in zip(sides, (SECONDS, longer), strict=True):
                side.append(record(args.python, ["convoy.py", str(seconds)], folder))
        found += "poller waiting" in changed(*sides)
    print(
        f"three deviations more ({longer:.3f} s for {SECONDS} s): found in {interval(found, pairs)}"
    )


def _fixes(args: argparse.Namespace, folder: Path) -> None:
    for fix, (before, after, pattern) in FIXES.items():
        right, wrong = 0, ""
        for _ in range(args.fixes):
            sides: tuple[list[Run], list[Run]] = ([], [])
            for _ in range(RUNS):
                for side, words in zip(sides, (before, after), strict=True):
                    side.append(record(args.python, words, folder))
            answer = compare(*sides)["answer"]
            hit = re.search(pattern, answer) is not None
            right += hit
            wrong = wrong if hit else answer
        print(f"{fix}: right in {right} of {args.fixes}{f', else: {wrong}' if wrong else ''}")


if __name__ == "__main__":
    main()

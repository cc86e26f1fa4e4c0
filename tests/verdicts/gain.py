"""The gain that a convoy's finding promises, beside what `--policy io-priority` gives: `python -m
verdicts.gain` in tests/, on a quiet machine: where others have the processors, a thread comes back
late from its sleep as well. Both sides run in turn; work is counted by the waits of the thread that
suffers, a second of its shared time, so it says nothing of programs whose work is fixed.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from support import interpreters

import gilscope
from gilscope.analysis.summary import summarise
from verdicts.corpus import PROGRAMS, Program, programs

RUNS = 3
FACTOR = 1.5  # within which a promise is kept


def recorded(program: Program, python: str, *options: str) -> dict[str, Any]:
    """The summary of a run."""
    with tempfile.TemporaryDirectory(prefix="verdicts-") as folder:
        trace = Path(folder) / "run.pftrace"
        command = [sys.executable, "-m", "gilscope", "record", "--quiet", "-o", str(trace)]
        command += [*options, "--", str(interpreters.path(python)), str(program.path)]
        subprocess.run(command, check=True, capture_output=True, cwd=program.path.parent)
        return summarise(gilscope.read(trace))


def work(summary: dict[str, Any], name: str, computes: bool) -> float:
    """How often a second of its shared time a thread came back; of those that compute: the share
    of that time in which they held the GIL."""
    threads = [t for p in summary["processes"] for t in p["threads"]]
    if computes:
        held = sum(t["held_ns"] for t in threads if t["class"] == "cpu")
        return held / max(t["shared_ns"] for t in threads)
    thread = max((t for t in threads if t["name"] == name), key=lambda t: t["io_wait_ns"]["count"])
    return float(thread["io_wait_ns"]["count"] / max(thread["shared_ns"], 1) * 1e9)


def main() -> int:
    """Exit code 1: fewer than four of five promises were kept."""
    parser = argparse.ArgumentParser(prog="python -m verdicts.gain", description=__doc__)
    parser.add_argument("--python", default="3.11")
    parser.add_argument("--only", default="*")
    args = parser.parse_args()
    kept = told = 0
    print(
        "| program | promised | measured | loss promised | loss measured |\n|---|---|---|---|---|"
    )
    for program in programs(PROGRAMS):
        if "convoy" not in program.kinds or not fnmatchcase(program.name, args.only):
            continue
        promised, measured, losses, lost = [], [], [], []
        for _ in range(RUNS):
            now = recorded(program, args.python)
            then = recorded(program, args.python, "--policy", "io-priority")
            first = now["findings"][0]
            if first["kind"] != "convoy":
                continue
            threads = {t["id"]: t["name"] for p in now["processes"] for t in p["threads"]}
            name = threads[first["thread"]]
            promised.append(first["gain"]["times"])
            losses.append(first["gain"]["cost"])
            measured.append(work(then, name, False) / work(now, name, False))
            lost.append(1 - work(then, name, True) / work(now, name, True))
        if not promised:
            continue
        said, was = statistics.median(promised), statistics.median(measured)
        told += 1
        kept += max(said / was, was / said) <= FACTOR
        print(
            f"| {program.name} | {said:.2f} | {was:.2f} | {statistics.median(losses):.0%}"
            f" | {statistics.median(lost):.0%} |",
            flush=True,
        )
    print(f"\n{kept} of {told} within a factor of {FACTOR}")
    return int(kept < 0.8 * told)


if __name__ == "__main__":
    sys.exit(main())

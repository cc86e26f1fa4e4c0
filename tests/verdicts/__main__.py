"""Runs the corpus and says how many verdicts are right. See README.md."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from support import interpreters

import gilscope
from gilscope.analysis.summary import summarise
from gilscope.errors import GilscopeError
from verdicts.corpus import FAILED, OUTCOMES, PROGRAMS, RIGHT, SEALED, Program, judge, programs

TIMEOUT_S = 60
BUSY = 0.5  # pressure from which a machine is not quiet: there `no-processor` may be true of any


@dataclass(frozen=True)
class Result:
    """The verdict on one run of a program."""

    program: str
    python: str
    load: int
    outcome: str
    why: str  # "" where it is right in the plain sense
    pressure: float = 0  # share of the time in which somebody on this machine had no processor


def run(program: Program, python: str, load: int, keep: Path | None = None) -> Result:
    """Record it once, and judge what the summary says first."""
    with tempfile.TemporaryDirectory(prefix="verdicts-") as folder:
        trace = (keep or Path(folder)) / f"{program.name}-{python}.pftrace"
        command = [sys.executable, "-m", "gilscope", "record", "--quiet", "-o", str(trace)]
        command += [*program.truth.get("options", []), "--", str(interpreters.path(python))]
        command += [str(program.path), *program.truth.get("arguments", [])]
        started_us, started = _stalled_us(), time.monotonic()
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                cwd=program.path.parent,
                env=os.environ | {"TMPDIR": folder, "PYTHONDONTWRITEBYTECODE": "1"},
                timeout=TIMEOUT_S,
                check=False,
            )
            summary = summarise(gilscope.read(trace))
        except (subprocess.TimeoutExpired, GilscopeError) as error:
            return Result(program.name, python, load, FAILED, str(error))
        failed = done.returncode or "Traceback" in done.stderr
        if failed and "unknown" not in program.kinds:
            why = f"exit code {done.returncode}: {done.stderr[-300:]}"
            return Result(program.name, python, load, FAILED, why)
    pressure = (_stalled_us() - started_us) / 1e6 / (time.monotonic() - started)
    others = load or int(pressure > BUSY)
    return Result(program.name, python, load, *judge(program, summary, others), pressure)


def _stalled_us() -> int:
    """For how long so far somebody on this machine wanted a processor and had none."""
    try:
        some = Path("/proc/pressure/cpu").read_text(encoding="ascii").splitlines()[0]
    except OSError:
        return 0
    return int(some.rpartition("=")[2])


@contextlib.contextmanager
def busy(number: int) -> Iterator[None]:
    """So many other programs that compute."""
    # They end with this process, however that ends.
    burn = f"import os\nwhile os.getppid() == {os.getpid()}: sum(range(10_000))"
    burners = [subprocess.Popen([sys.executable, "-c", burn]) for _ in range(number)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def main() -> int:
    """Exit code 1: something is not right."""
    parser = argparse.ArgumentParser(prog="python -m verdicts", description=__doc__)
    parser.add_argument("--python", action="append", metavar="NAME", help="3.9, debian, plus …")
    parser.add_argument("--load", type=int, action="append", metavar="N")
    parser.add_argument("--runs", type=int, default=1, metavar="N")
    parser.add_argument("--only", action="append", metavar="PATTERN", help="of program names")
    parser.add_argument("--sealed", action="store_true", help="those of sealed/ instead")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the result as Markdown")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the traces there")
    args = parser.parse_args()
    chosen = [
        program
        for program in programs(SEALED if args.sealed else PROGRAMS)
        if not args.only or any(fnmatchcase(program.name, only) for only in args.only)
    ]
    results: list[Result] = []
    started = time.monotonic()
    for load in args.load or [0]:
        with busy(load):
            for python in args.python or interpreters.names():
                version = interpreters.version(python)
                for program in (p for p in chosen if p.least_python <= version):
                    for _ in range(args.runs):
                        result = run(program, python, load, args.keep)
                        results.append(result)
                        if result.outcome != RIGHT:
                            print(f"{python} load {load}: {result.program} {result.outcome}:")
                            print(f"    {result.why}", flush=True)
    text = page(results, args.runs, sealed=args.sealed)
    print(text)
    print(f"{time.monotonic() - started:.0f} s")
    if args.page:
        args.page.write_text(text, encoding="utf-8")
    return int(any(result.outcome != RIGHT for result in results))


def page(results: list[Result], runs: int, *, sealed: bool) -> str:
    """What docs/results/verdicts.md has."""
    arguments = shlex.join(sys.argv[1:])
    pressure = statistics.median(result.pressure for result in results) if results else 0
    starved = sum(bool(result.why) for result in results if result.outcome == RIGHT)
    lines = [
        f"# Verdicts on the {'sealed part of the ' if sealed else ''}corpus",
        "",
        f"`cd tests && python -m verdicts {arguments}`, {os.cpu_count()} processors,"
        f" {platform.machine()}, Linux {platform.release().split('-')[0]}; {runs} runs of each"
        f" program. In half of them somebody on the machine had no processor for {pressure:.0%} of"
        f" the time or more. {starved} verdicts are right in that the program had no processor.",
        "",
        f"| interpreter | load | runs | {' | '.join(OUTCOMES)} | right |",
        "|---|---|---|" + "---|" * (len(OUTCOMES) + 1),
    ]
    groups: dict[tuple[str, int], Counter[str]] = {}
    for result in results:
        groups.setdefault((result.python, result.load), Counter())[result.outcome] += 1
    for (python, load), outcomes in groups.items():
        total = outcomes.total()
        counts = " | ".join(str(outcomes[outcome]) for outcome in OUTCOMES)
        share = f"{100 * outcomes[RIGHT] / total:.1f} %"
        lines.append(f"| {python} | {load} | {total} | {counts} | {share} |")
    lines += ["", "## What was not right", "", "| program | outcome | where |", "|---|---|---|"]
    failed: dict[tuple[str, str], Counter[str]] = {}
    for result in results:
        if result.outcome != RIGHT:
            where = f"{result.python}{f' at load {result.load}' if result.load else ''}"
            failed.setdefault((result.program, result.outcome), Counter())[where] += 1
    for (program, outcome), wheres in sorted(failed.items()):
        told = ", ".join(f"{where} ({n})" if runs > 1 else where for where, n in wheres.items())
        lines.append(f"| {program} | {outcome} | {told} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())

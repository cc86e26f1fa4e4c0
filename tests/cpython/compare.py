"""Compares CPython's own tests with and without recording; prints only what differs.

    cd tests && python -m cpython.compare [--python 3.11]… [--keep DIR] [MODULE]…

A recorded program must do what it does alone, so every case must end the same way. A case that
differs is run again, its whole module up to three times on each side; a difference counts when the
two sides share no verdict. Exit code 1 when a difference is not in expected.txt. `--python plus` is
Python Plus, with its probe off and recording, as it lies in its build tree: there alone are the
programs that test_embed runs. With GILSCOPE_POLICY=io-priority what is recorded runs under the
policy, and what runs alone does not.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cpython import regrtest
from cpython.regrtest import Run
from support import interpreters

VERSIONS = ("3.11", "3.13", interpreters.PLUS)
ROUNDS = 3
MODULES = """
    test_thread test_threading test_threading_local test_threadedtempfile test_threadsignals
    test_queue test_sched test_fork1 test_wait3 test_wait4 test_signal test_eintr test_atexit
    test_faulthandler test_gc test_sys test_audit test_cmd_line test_cmd_line_script test_runpy
    test_os test_posix test_resource test_popen test_pty test_subprocess
    test_socket test_selectors test_socketserver test_asyncio
    test_perf_profiler test_external_inspection test_embed test_capi
    test_interpreters test__interpreters test__xxsubinterpreters
    test_concurrent_futures test_multiprocessing_main_handling test_multiprocessing_fork
    test_multiprocessing_spawn test_multiprocessing_forkserver
"""
EXPECTED = Path(__file__).parent / "expected.txt"
HANGS = Path(__file__).parent / "hangs.txt"


@dataclass(frozen=True)
class Comparison:
    """What became of one module on one interpreter."""

    module: str
    cases: int
    differences: dict[str, str]  # case -> "passed alone, failed recorded"
    flaky: list[str]  # cases that differed at first, but not always
    problems: list[str]  # of the traces, or of the comparison
    counts: tuple[dict[str, int], dict[str, int]]  # of the first run of each side: verdict -> cases
    seconds: tuple[float, float]
    events: int


@dataclass(frozen=True)
class Side:
    """One of the two ways in which a module is run."""

    name: str
    python: Path
    recorded: bool = False
    resources: str = regrtest.RESOURCES

    def run(self, module: str, folder: Path, number: int, left_out: Sequence[str]) -> Run:
        """The run of this number; leaves its files in the folder."""
        files = folder / f"{self.name}-{number}"
        return regrtest.run(
            self.python, module, files, left_out, recorded=self.recorded, resources=self.resources
        )


def python_of(version: str) -> Path:
    """Raises LookupError."""
    if version == interpreters.PLUS:
        return interpreters.in_build_tree("")
    return interpreters.path(version)


def compare(version: str, module: str, folder: Path) -> Comparison:
    """Run one module alone and recorded, as often as it takes to know. Raises LookupError."""
    python = python_of(version)
    sides = Side("alone", python), Side("recorded", python, recorded=True)
    result = compare_sides(sides, module, folder, hangs(version, module))
    if not result.counts[0]:
        result.problems.append("no case gave a verdict alone")
    return result


def compare_sides(
    sides: tuple[Side, Side], module: str, folder: Path, left_out: Sequence[str]
) -> Comparison:
    """Run one module on both sides as often as it takes to know."""
    folder.mkdir(parents=True, exist_ok=True)
    one, two = ([side.run(module, folder, 1, left_out)] for side in sides)
    first = suspects = _differing(_names(one + two), one, two)
    for number in range(2, ROUNDS + 1):
        # The second side first: one good run of it ends most doubts.
        for runs, side in ((two, sides[1]), (one, sides[0])):
            if suspects:
                runs.append(side.run(module, folder, number, left_out))
                suspects = _differing(suspects, one, two)
    return Comparison(
        module,
        cases=len(_names(one)) - 1,
        differences={
            case: f"{_verdicts(case, one)} {sides[0].name}, {_verdicts(case, two)} {sides[1].name}"
            for case in sorted(suspects)
        },
        flaky=sorted(first - suspects),
        problems=[
            f"{sides[1].name} run {number}: {problem}"
            for number, run in enumerate(two, 1)
            for problem in run.problems
        ],
        counts=(dict(Counter(one[0].cases.values())), dict(Counter(two[0].cases.values()))),
        seconds=(one[0].seconds, two[0].seconds),
        events=two[0].events,
    )


# Stands among the cases for the whole module.
WHOLE = "(exit code of the module)"


def _names(runs: list[Run]) -> set[str]:
    return {WHOLE}.union(*(run.cases for run in runs))


# A case that gave no verdict: its module ended before it, or it exists on one side alone.
NO_RESULT = "no result"


def _verdict(case: str, run: Run) -> str:
    if case == WHOLE:
        return "timeout" if run.exit_code is None else f"exit code {run.exit_code}"
    return run.cases.get(case, NO_RESULT)


def _differing(cases: set[str], plain: list[Run], recorded: list[Run]) -> set[str]:
    """Those that never ended the same way on both sides."""
    return {
        case
        for case in cases
        if not {_verdict(case, run) for run in plain} & {_verdict(case, run) for run in recorded}
    }


def _verdicts(case: str, runs: list[Run]) -> str:
    return "/".join(dict.fromkeys(_verdict(case, run) for run in runs))


def _table(path: Path, version: str, columns: int) -> list[list[str]]:
    """Rows of a text file that are for this version, without it; `#` begins a comment."""
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [line.split(maxsplit=columns - 1) for line in lines if line and line[0] != "#"]
    return [row[1:] for row in rows if row[0] in (version, "*")]


def expected(version: str) -> dict[str, str]:
    """Known differences: case and reason."""
    return {row[0]: row[1] for row in _table(EXPECTED, version, 3)}


def hangs(version: str, module: str) -> list[str]:
    """Cases that hang without being recorded."""
    return [case for of, case, _ in _table(HANGS, version, 4) if of == module]


def unexplained(version: str, result: Comparison) -> list[str]:
    """Lines for what differs without a known reason, and for what is wrong with traces."""
    known = expected(version)
    cases = {case for case in result.differences if case != WHOLE}
    if cases and cases <= known.keys():
        known[WHOLE] = "it tells that a case failed"
    return [
        f"{case}: {verdicts}" for case, verdicts in result.differences.items() if case not in known
    ] + result.problems


def outline(result: Comparison) -> str:
    """One line: how many cases, how long, what was flaky."""
    line = (
        f"{result.module}: {result.cases} cases, {len(result.differences)} differ, "
        f"{result.seconds[0]:.0f} s alone, {result.seconds[1]:.0f} s recorded, "
        f"{result.events:,} events"
    )
    return f"{line}; only at times: {', '.join(result.flaky)}" if result.flaky else line


def main() -> int:
    """Returns 1 when anything differs that is not expected."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="all by default")
    parser.add_argument("--python", action="append", metavar="3.X", help="3.11, 3.13 and plus")
    parser.add_argument("--keep", metavar="DIR", type=Path, help="keep logs and traces here")
    args = parser.parse_args()
    if unknown := set(args.modules) - set(MODULES.split()):
        parser.error(f"not among the modules that are compared: {' '.join(sorted(unknown))}")
    # A shell starts what runs in the background with this ignored, and so would every test be.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = args.keep or Path(tempfile.mkdtemp(prefix="gilscope-cpython-"))
    bad = 0
    try:
        for version in args.python or VERSIONS:
            python = python_of(version)
            for module in args.modules or MODULES.split():
                if not regrtest.available(python, module):
                    print(f"{version} {module}: not in this installation", flush=True)
                    continue
                if "*" in hangs(version, module):
                    print(f"{version} {module}: hangs without recording, left out", flush=True)
                    continue
                result = compare(version, module, folder / version / module)
                lines = unexplained(version, result)
                bad += len(lines)
                print(f"{version} {outline(result)}", flush=True)
                for line in lines:
                    print(f"  {line}", flush=True)
    finally:
        if args.keep is None:
            shutil.rmtree(folder)
    print(f"{bad} differences" if bad else "no difference")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())

"""What the benchmarks share: what is measured where, and how its spread is told.

A machine's speed drifts and a program's differs from start to start, so nothing is measured once
and nothing alone. A *repeat* starts each variant anew and measures everything once in each of them;
what is compared is compared within a repeat. Stated are the median over the repeats and the 95 %
interval of the median by order statistics, which assumes no law of the noise.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import random
import re
import select
import shlex
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from gilscope.__main__ import itself
from gilscope.errors import RecordingError, UsageError

CLASSIC = "classic"
IO_PRIORITY = "io-priority"
PROGRAMS = Path(__file__).parent / "programs"
_PATIENCE_S = 120  # for one answer
_GOODBYE_S = 5
_LONGEST_S = 60  # a window: well within _PATIENCE_S
_PYTHON_CONDITION = (
    "-P",
    "-c",
    "import runpy, sys, threading; threading.Condition = threading._PyCondition; "
    "sys.argv[:] = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')",
)


# ---- statistics -------------------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """A figure of several repeats: the median and its 95 % interval."""

    median: float
    low: float
    high: float


def estimate(values: Sequence[float]) -> Estimate:
    """The median of at least one value, with its interval."""
    return Estimate(statistics.median(values), *median_interval(values))


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the median: the r-th smallest and the r-th largest value.

    The median lies outside with the probability that of n coins fewer than r show heads, or fewer
    than r tails, whatever the law of the values; r is the largest for which that is at most 5 %.
    Of fewer than six values it is the whole range.
    """
    ordered, n = sorted(values), len(values)
    outside = rank = 0  # of 2 ** n outcomes, in whole numbers: a float has not room for them
    while 20 * (outside := outside + 2 * math.comb(n, rank)) <= 2**n:
        rank += 1
    rank = max(rank, 1)
    return ordered[rank - 1], ordered[n - rank]


# ---- the machine ------------------------------------------------------------------


def machine() -> str:
    """One line: processor, number of CPUs, kernel (its version alone)."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), model)
    except OSError:
        pass
    kernel = re.match(r"[0-9.]*[0-9]", platform.release())
    return f"{model}, {os.cpu_count()} CPUs, Linux {kernel[0] if kernel else platform.release()}"


def cpus() -> list[int]:
    """The processors that this process may use."""
    return sorted(os.sched_getaffinity(0))


@contextmanager
def starting_on(*where: int) -> Iterator[None]:
    """What is started inside runs on these processors; at the end this process is free again."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, where)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


# ---- what is measured -------------------------------------------------------------


@dataclass(frozen=True)
class Interpreter:
    """A Python to measure."""

    path: str
    version: str
    plus: bool  # it has the feed built in

    @property
    def name(self) -> str:
        """Without the machine's folders."""
        return f"Python Plus {self.version}" if self.plus else f"Python {self.version}"


@cache
def interpreter(path: str) -> Interpreter:
    """Ask the program. Raises UsageError when it is not a Python."""
    found = shutil.which(path)
    if found is None:
        raise UsageError(f"{path}: not a program")
    code = (
        "import ctypes, platform; "
        "print(platform.python_version(), hasattr(ctypes.CDLL(None), 'gilscope_built_in'))"
    )
    try:
        done = subprocess.run(
            [found, "-c", code],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=True,
        )
        version, plus = done.stdout.split()
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        raise UsageError(f"{path} does not run as a Python") from error
    return Interpreter(found, version, plus == "True")


@dataclass(frozen=True)
class Variant:
    """An interpreter under a policy; `grace_us` and `condvar` are the policy's own where None."""

    interpreter: Interpreter
    policy: str
    grace_us: int | None = None
    condvar: str | None = None  # Python Plus alone has several
    watched: bool = False  # under `gilscope run` with classic too: atomic sections need it
    python_condition: bool = False  # in Python Plus too: the Condition that is written in Python

    @property
    def name(self) -> str:
        """The policy with what else was chosen."""
        words = [self.policy]
        if self.grace_us is not None:
            words.append(f"{self.grace_us} µs")
        if self.condvar is not None:
            words.append(self.condvar)
        return ", ".join(words)

    def command(self, program: str, *arguments: str) -> list[str]:
        """The command that runs a file of `programs` in this variant."""
        python, script = self.interpreter.path, [str(PROGRAMS / program), *arguments]
        if self.interpreter.plus:
            options = {"policy": self.policy, "condvar": self.condvar, "grace_us": self.grace_us}
            chosen = [
                f"-Xgilscope.{key}={value}" for key, value in options.items() if value is not None
            ]
            return [python, *chosen, *(_PYTHON_CONDITION if self.python_condition else ()), *script]
        if self.policy == CLASSIC and not self.watched:
            return [python, *script]
        grace = [] if self.grace_us is None else ["--grace", str(self.grace_us)]
        ours = [*itself(), "run", "--policy", self.policy, *grace]
        return [*ours, "--", python, *script]


def policy(text: str) -> tuple[str, int | None]:
    """`io-priority` or `io-priority:20` with a grace in µs. Raises UsageError."""
    name, colon, grace = text.partition(":")
    if name in (CLASSIC, IO_PRIORITY) and ((grace.isascii() and grace.isdigit()) or not colon):
        return name, int(grace) if grace else None
    raise UsageError(f"{text}: not a policy; say {CLASSIC}, {IO_PRIORITY} or {IO_PRIORITY}:20")


# ---- options ----------------------------------------------------------------------


def add_arguments(
    parser: argparse.ArgumentParser, repeats: int, *, interpreters: bool = True
) -> None:
    """The options that every interleaved benchmark has; those of `variants` where it has any."""
    if interpreters:
        parser.add_argument(
            "--interpreter", metavar="PATH", action="append", default=[],
            help="the Python to measure; again for more (default: this one)",
        )  # fmt: skip
        parser.add_argument(
            "--policy", metavar="NAME[:GRACE]", action="append", default=[],
            help=f"compare it with {CLASSIC}; again for more (default: {IO_PRIORITY})",
        )  # fmt: skip
    parser.add_argument(
        "--repeats", metavar="N", type=int, default=repeats, help=f"repeats (default: {repeats})"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="one short repeat that judges nothing: does it work here at all?",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="write the table there too")
    parser.add_argument("--chart", metavar="FILE", type=Path, help="draw it there, as SVG")


def variants(args: argparse.Namespace) -> list[Variant]:
    """Classic first, then the policies that were named, for each interpreter.

    Raises UsageError.
    """
    check(args)
    policies = [policy(text) for text in args.policy or [IO_PRIORITY]]
    return [
        Variant(interpreter(path), *chosen)
        for path in args.interpreter or [sys.executable]
        for chosen in [(CLASSIC, None), *(p for p in policies if p != (CLASSIC, None))]
    ]


def check(args: argparse.Namespace) -> None:
    """Whether it can be measured so. Raises UsageError."""
    if args.repeats < 1:
        raise UsageError("--repeats needs at least 1")
    if not 0 < args.seconds <= _LONGEST_S:
        raise UsageError(f"--seconds needs more than 0 and at most {_LONGEST_S}")
    for page in (args.markdown, args.chart):  # before what takes half an hour
        if page is not None and not page.parent.is_dir():
            raise UsageError(f"{page.parent}: no such directory for {page.name}")


def command_line(benchmark: str, args: argparse.Namespace) -> str:
    """The command to repeat, with interpreters by name instead of by this machine's paths."""
    words = ["gilscope bench", benchmark]
    for path in args.interpreter:
        python = interpreter(path)
        name = "$(gilscope interpreter path)" if python.plus else f"…/python{python.version}"
        words += ["--interpreter", name]
    for text in args.policy:
        words += ["--policy", text]
    if "placement" in args:
        words += ["--placement", args.placement]
    for text in args.only if "only" in args else ():
        words += ["--only", shlex.quote(text)]
    words += ["--quick"] if args.quick else ["--repeats", str(args.repeats)]
    return " ".join(words)


# ---- workers ----------------------------------------------------------------------


class Worker:
    """A process that answers each line with one; `first` is the line that it greeted with."""

    def __init__(self, command: Sequence[str], variables: Mapping[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=variables,
            start_new_session=True,  # Ctrl-C is for gilscope, which ends it
        )
        self._unread = b""
        try:
            self.first = self.answer()
        except RecordingError:
            self.close()
            raise

    def tell(self, line: str) -> None:
        """Send a line. Raises RecordingError when nobody is there."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(f"{line}\n".encode())
        except OSError as error:
            raise RecordingError("a measured process ended early (see above)") from error

    def answer(self) -> str:
        """The next line. Raises RecordingError where none comes."""
        assert self.process.stdout is not None
        pipe = self.process.stdout.fileno()
        deadline = time.monotonic() + _PATIENCE_S
        while b"\n" not in self._unread:
            if not select.select([pipe], [], [], max(0, deadline - time.monotonic()))[0]:
                raise RecordingError(f"a measured process did not answer for {_PATIENCE_S} s")
            part = os.read(pipe, 1 << 16)
            if not part:
                raise RecordingError("a measured process ended early (see above)")
            self._unread += part
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()

    def ask(self, line: str) -> str:
        """Send a line and return the answer. Raises RecordingError."""
        self.tell(line)
        return self.answer()

    def close(self) -> None:
        """Its input ends, so it does; killed only where it does not (`gilscope run` cleans up)."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(_GOODBYE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


Outcome = dict[str, float | None]
Results = dict[tuple[Variant, str], list[Outcome]]  # by variant and load, one outcome a repeat


def play(
    program: str,
    turns: Sequence[tuple[Variant, str]],
    measure: Callable[[Worker, str], Outcome],
    *,
    repeats: int,
    tick: Callable[[int, int], None],
    arguments: Sequence[str] = (),
    where: Sequence[int] = (),
    together: bool = False,
) -> Results:
    """Measure each load in its variant once a repeat.

    The order is random, but an interpreter's variants play a load one after the other: a machine's
    speed drifts within a repeat too. `together`: so do the variants of all interpreters. A repeat
    starts `program arguments` once for each variant, on processors `where` (default: all). `tick`
    hears after each measurement how many of how many are done. Raises RecordingError.
    """
    results: Results = {turn: [] for turn in turns}
    variants = dict.fromkeys(variant for variant, _ in turns)
    groups: dict[tuple[Interpreter | None, str], list[tuple[Variant, str]]] = {}
    for variant, load in turns:
        group = None if together else variant.interpreter
        groups.setdefault((group, load), []).append((variant, load))
    dice = random.Random(1)
    for repeat in range(repeats):
        order = [
            turn
            for group in dice.sample(list(groups.values()), len(groups))
            for turn in dice.sample(group, len(group))
        ]
        with ExitStack() as stack:
            with starting_on(*(where or cpus())):
                workers = {
                    v: stack.enter_context(Worker(v.command(program, *arguments))) for v in variants
                }
            for index, (variant, load) in enumerate(order):
                results[variant, load].append(measure(workers[variant], load))
                tick(repeat * len(order) + index + 1, repeats * len(order))
    return results


def ratios(own: Sequence[Outcome], other: Sequence[Outcome], what: str) -> list[float]:
    """Own of other's, repeat by repeat; those in which the other has nothing are left out."""
    pairs = [(a[what], b[what]) for a, b in zip(own, other, strict=True)]
    return [a / b for a, b in pairs if a is not None and b]

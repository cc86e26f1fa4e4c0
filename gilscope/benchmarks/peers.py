"""What other tools cost and see, beside gilscope: `gilscope bench peers`.

Each tool has a virtual environment of its own, made of the interpreter that is measured and kept in
the user's cache; it is installed from the package index the first time. A repeat runs every
program once under every tool, in random order. The work of a program is fixed, and it says itself
how long that took, so the start of a tool does not count.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import gilscope
from gilscope.__main__ import itself
from gilscope.benchmarks import ab, harness, uprobes
from gilscope.benchmarks.harness import PROGRAMS, Interpreter
from gilscope.benchmarks.report import Figure, Progress, Report, Row, publish
from gilscope.child import output_of
from gilscope.errors import InstallationError, UsageError

HELP = "what other tools cost and see, beside gilscope"

REPEATS = 9
_PATIENCE_S = 120
# Programs and their amounts of work; a quick run does a tenth.
WORK = {"ping-pong": 30_000, "echo + 1 CPU": 120, "web server": 1_000, "numpy mix": 1_000}
COLUMNS = ("slower", "records", "hand-overs seen", "an event", "on disk")

EVENTS_OF = "ping-pong"  # the program that makes events and little else

_KNOCK = """
import runpy, sys
from gilknocker import KnockKnock
knocker = KnockKnock(1_000)
knocker.start()
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
knocker.stop()
"""


@dataclass(frozen=True)
class Tool:
    """How a tool runs a program: `command(folder of its environment's programs, output)`."""

    name: str
    tells: str
    command: Callable[[Path, Path], list[str]]
    packages: tuple[str, ...] = ()
    records: Callable[[Path], int] | None = None  # in its output
    newest: tuple[int, int] = (99, 0)  # Python that it runs on
    each_event: bool = False  # of the GIL is in its records; else samples, or something else


def _gilscope(*options: str) -> Callable[[Path, Path], list[str]]:
    def command(folder: Path, out: Path) -> list[str]:
        record = [*itself(), "record", "--quiet", *options, "-o", f"{out}.pftrace"]
        return [*record, "--", str(folder / "python")]

    return command


def _counters(folder: Path, _: Path) -> list[str]:
    record = [*itself(), "record", "--quiet", "--counters", "--no-summary"]
    return [*record, "--", str(folder / "python")]


def _py_spy(rate: int) -> Callable[[Path, Path], list[str]]:
    def command(folder: Path, out: Path) -> list[str]:
        spy = [str(folder / "py-spy"), "record", "--gil", "--nonblocking", "--threads"]
        return [*spy, f"--rate={rate}", "-f", "raw", "-o", str(out), "--", str(folder / "python")]

    return command


def _samples(out: Path) -> int:
    """Of stacks with their counts, a line each."""
    return sum(int(n) for n in re.findall(r" (\d+)$", out.read_text(errors="replace"), re.M))


def _events(out: Path) -> int:
    """Of Chrome's trace format."""
    return out.read_text(errors="replace").count('"ph":')


def _trace_events(out: Path) -> int:
    """Of gilscope's."""
    return gilscope.read(f"{out}.pftrace").totals.events


PERF = "perf, 2 uprobes"
TOOLS = (
    Tool("nothing", "", lambda folder, _: [str(folder / "python")]),
    Tool(
        "gilscope",
        "who made whom wait, for how long, at which line",
        _gilscope(),
        records=_trace_events,
        each_event=True,
    ),
    Tool(
        "gilscope --keep 10",
        "the same of the last 10 s",
        _gilscope("--keep", "10"),
        records=_trace_events,
        each_event=True,
    ),
    Tool("gilscope --counters", "how long each thread held and waited", _counters),
    Tool(
        PERF,
        "when the GIL was taken and dropped, by whom",
        lambda folder, out: uprobes.command(folder / "python", out),
        records=uprobes.events,
        each_event=True,
    ),
    Tool("py-spy --gil, 100 Hz", "where the holder was", _py_spy(100), ("py-spy",), _samples),
    Tool("py-spy --gil, 1 kHz", "where the holder was", _py_spy(1000), ("py-spy",), _samples),
    Tool(
        "VizTracer",
        "calls of functions; not the GIL",
        lambda folder, out: [
            *(str(folder / "viztracer"), "--quiet", "--tracer_entries", "3000000"),
            *("-o", str(out.with_suffix(".json"))),
        ],
        ("viztracer",),
        lambda out: _events(out.with_suffix(".json")),
    ),
    Tool(
        "gil_load",
        "shares of time held and waited",
        lambda folder, _: [str(folder / "python"), "-m", "gil_load"],
        ("gil_load", "setuptools"),
        newest=(3, 11),
    ),
    Tool(
        "gilknocker, 1 ms",
        "one number: how contended",
        lambda folder, _: [str(folder / "python"), "-c", _KNOCK],
        ("gilknocker",),
    ),
    Tool(
        "austin, 1 ms",
        "where all threads were",
        lambda folder, out: [
            *(str(folder / "austin"), "-i", "1ms", "-o", str(out)),
            *("--", str(folder / "python")),
        ],
        ("austin-dist",),
    ),
)


@dataclass
class Seen:
    """Of one tool and program, a value a repeat."""

    seconds: list[float] = field(default_factory=list)
    records: list[float] = field(default_factory=list)
    handed: list[float] = field(default_factory=list)
    disk: list[float] = field(default_factory=list)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `gilscope bench peers`."""
    parser.add_argument(
        "--interpreter", metavar="PATH", action="append", default=[],
        help="the Python to measure; again for more (default: this one)",
    )  # fmt: skip
    parser.add_argument(
        "--repeats", metavar="N", type=int, default=REPEATS, help=f"repeats (default: {REPEATS})"
    )
    parser.add_argument(
        "--only",
        metavar="TEXT",
        action="append",
        default=[],
        help="only tools whose name has it; again for more",
    )
    parser.add_argument(
        "--quick", action="store_true", help="one short repeat: does it work here at all?"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="write the table there too")


def run(args: argparse.Namespace) -> int:
    """Measure and tell. Raises UsageError; InstallationError: nothing can be measured."""
    if args.repeats < 1:
        raise UsageError("--repeats needs at least 1")
    if args.markdown is not None and not args.markdown.parent.is_dir():
        raise UsageError(f"{args.markdown.parent}: no such directory for {args.markdown.name}")
    args.policy, args.chart = [], None  # of other benchmarks
    if args.quick:
        args.repeats = 1
    chosen = [
        tool for tool in TOOLS
        if tool.name == "nothing" or not args.only or any(text in tool.name for text in args.only)
    ]  # fmt: skip
    report = Report(
        benchmark="peers",
        title="Other tools, and gilscope",
        command=harness.command_line("peers", args),
        machine=harness.machine(),
        repeats=args.repeats,
        words=("interpreter", "program", "tool", "what it can tell"),
        columns=COLUMNS,
    )
    ab.needed()
    for path in args.interpreter or [sys.executable]:
        python = harness.interpreter(path)
        bins, missing = environments(python, chosen)
        with ExitStack() as stack:
            if PERF in bins:
                try:
                    stack.enter_context(uprobes.probes(bins[PERF] / "python"))
                except InstallationError as error:
                    del bins[PERF]
                    missing[PERF] = str(error)
            found, failed = measure(python, chosen, bins, args)
        report.rows += rows(python, chosen, found)
        report.notes += [
            f"{python.name}, {name}: {_without_folders(why)}."
            for name, why in (missing | failed).items()
        ]
    report.notes.append(
        "Slower: the time of the same work, of that under nothing in the same repeat; the tool's "
        "start and end do not count. Records: events or samples in its output. Hand-overs seen: "
        "switches of the GIL in the trace, of those that the program is known to make. An event: "
        "by how much longer the work took for each that was recorded, of tools that record each "
        "taking and dropping of the GIL. Ping-pong runs on one processor. On disk: all that the "
        "tool has written. An interval from below 1 says that this is not known to be slower."
    )
    return publish(report, args)


def _without_folders(text: str) -> str:
    """What a tool said, with paths as `…/name`: a page is of any machine."""
    return re.sub(r"(?<![\w.…])/(?:[^\s/:;,'\"`()]+/)+", "…/", text)


def environments(
    python: Interpreter, tools: Sequence[Tool]
) -> tuple[dict[str, Path], dict[str, str]]:
    """The folder of each tool's programs; and why others have none. Raises InstallationError."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gilscope" / "peers"
    version = tuple(map(int, python.version.split(".")[:2]))
    bins, missing = {}, {}
    for tool in tools:
        if version > tool.newest:
            missing[tool.name] = (
                f"it does not run on this Python (up to {tool.newest[0]}.{tool.newest[1]})"
            )
            continue
        folder = home / python.version / (tool.packages[0] if tool.packages else "plain")
        ready = folder / "ready"
        if not ready.exists():
            try:
                _install(python, folder, ["numpy", *tool.packages])
            except InstallationError as error:
                if not tool.packages:
                    raise
                missing[tool.name] = str(error)
                continue
            ready.touch()
        bins[tool.name] = folder / "bin"
    return bins, missing


def _install(python: Interpreter, folder: Path, packages: list[str]) -> None:
    for command in (
        [python.path, "-m", "venv", "--clear", str(folder)],
        [str(folder / "bin" / "python"), "-m", "pip", "install", "-qq", *packages],
    ):
        done = output_of(command)
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()[-1:]
            raise InstallationError(f"it cannot be installed: {' '.join(said)}")


def measure(
    python: Interpreter, tools: Sequence[Tool], bins: dict[str, Path], args: argparse.Namespace
) -> tuple[dict[tuple[str, str], Seen], dict[str, str]]:
    """By program and tool; and why a tool that failed once was not run again."""
    found: dict[tuple[str, str], Seen] = {}
    failed: dict[str, str] = {}
    total = args.repeats * len(WORK) * len(bins)
    done = 0
    with tempfile.TemporaryDirectory(prefix="gilscope-peers-") as name, Progress() as progress:
        for _ in range(args.repeats):
            for program, whole in WORK.items():
                amount = whole // 10 if args.quick else whole
                for tool in random.sample(tools, len(tools)):
                    if tool.name not in bins or tool.name in failed:
                        continue
                    seen = found.setdefault((program, tool.name), Seen())
                    out = Path(name) / f"{done}"
                    try:
                        told = _once(tool, bins[tool.name], out, program, amount)
                        _note(tool, out, told, seen)
                    except (InstallationError, OSError, ValueError) as error:
                        failed[tool.name] = f"failed with {program} ({error})"
                        found = {key: value for key, value in found.items() if key[1] != tool.name}
                    done += 1
                    progress.tick(done, total)
    return found, failed


def _once(tool: Tool, folder: Path, out: Path, program: str, amount: int) -> dict[str, float]:
    """What the program said of itself. Raises InstallationError where the tool does not run it."""
    command = [*tool.command(folder, out), str(PROGRAMS / "mixes.py"), program, str(amount)]
    try:
        done = output_of(command, timeout=_PATIENCE_S)
    except subprocess.TimeoutExpired:
        raise InstallationError(f"no end within {_PATIENCE_S} s") from None
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"seconds"')]
    if not lines:
        said = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise InstallationError(f"exit code {done.returncode}: {' '.join(said)}")
    told: dict[str, float] = json.loads(lines[0])
    return told


def _note(tool: Tool, out: Path, told: dict[str, float], seen: Seen) -> None:
    seen.seconds.append(told["seconds"])
    if written := sum(path.stat().st_size for path in out.parent.glob(f"{out.name}*")):
        seen.disk.append(written / 1024)
    if tool.records:
        seen.records.append(tool.records(out))
    if told["handed"] and tool.records is _trace_events:
        seen.handed.append(_switches(out) / told["handed"])


def _switches(out: Path) -> int:
    from gilscope.analysis.summary import summarise  # noqa: PLC0415 - heavy

    processes = summarise(gilscope.read(f"{out}.pftrace"))["processes"]
    return sum(gil["switches"] for process in processes for gil in process["gils"])


def rows(
    python: Interpreter, tools: Sequence[Tool], found: dict[tuple[str, str], Seen]
) -> list[Row]:
    """A row a program and tool; a tool without figures has none."""
    told = []
    for program in WORK:
        plain = found[program, "nothing"].seconds
        for tool in tools:
            seen = found.get((program, tool.name))
            if seen is None or tool.name == "nothing":
                continue
            figures = {
                "slower": Figure([a / b for a, b in zip(seen.seconds, plain, strict=True)], "x")
            }
            if seen.disk:
                figures["on disk"] = Figure(seen.disk, " KiB")
            if tool.each_event and program == EVENTS_OF:
                figures["an event"] = Figure(
                    [
                        1e9 * (under - alone) / records
                        for under, alone, records in zip(
                            seen.seconds, plain, seen.records, strict=True
                        )
                    ],
                    "ns",
                )
            if seen.records:
                figures["records"] = Figure(seen.records)
            if seen.handed:
                figures["hand-overs seen"] = Figure([100 * share for share in seen.handed], " %")
            told.append(Row((python.name, program, tool.name, tool.tells), figures))
    return told

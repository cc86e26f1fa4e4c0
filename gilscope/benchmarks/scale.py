"""What many threads, processes and events cost: `gilscope bench scale`.

Each size is run once without gilscope and once under `gilscope record`, which prints its summary.
While that runs, the memory of gilscope's own processes and of the rings is looked at; the program's
own memory is not.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from gilscope.__main__ import itself
from gilscope.benchmarks import chart, harness
from gilscope.benchmarks.chart import Curve
from gilscope.benchmarks.harness import PROGRAMS
from gilscope.benchmarks.programs.scale import TURNS
from gilscope.benchmarks.report import Figure, Progress, Report, Row, publish
from gilscope.errors import RecordingError, UsageError
from gilscope.recorder import running
from gilscope.recorder.notes import RINGS

HELP = "what many threads, processes and events cost: memory, the wait for the summary, size"

# What is run where nothing is said, and what docs/results/scale.md shows.
SMALL = {"threads": "50,100", "processes": "4,8", "events": "100000,200000"}
LARGE = {
    "threads": "250,1000,2000,4000,8000",
    "processes": "16,64,125,250,500",
    "events": "1000000,10000000,100000000",
}
_PERIOD_S = 0.05  # between two looks at memory
_TICK_S = 0.01  # the kernel counts processor time in such steps
_BEND = 2.0  # times as much as the size grew
COLUMNS = (
    "processor time",
    "events",
    "lost",
    "memory",
    "rings",
    "to the summary",
    "trace",
    "an event",
)
_CURVES = ("memory", "rings", "to the summary", "trace")  # what the chart shows, and bends are of


@dataclass(frozen=True)
class Outcome:
    """Of one recorded run. Sizes in bytes, times in seconds."""

    processor: float  # time of the program: times as much as without gilscope
    events: int
    lost: int
    whole: bool  # recording did not stop before the program did
    memory: int  # of gilscope's processes, without the rings: the most at one time
    rings: int  # the most at one time
    to_summary: float  # from the program's last statement to the end of gilscope
    trace: int

    def figures(self) -> dict[str, Figure]:
        """By column."""
        return {
            "processor time": Figure([self.processor], "x"),
            "events": Figure([self.events]),
            "lost": Figure([self.lost]),
            "memory": Figure([self.memory / (1 << 20)], " MiB"),
            "rings": Figure([self.rings / (1 << 20)], " MiB"),
            "to the summary": Figure([self.to_summary * 1e9], "ns"),
            "trace": Figure([self.trace / (1 << 20)], " MiB"),
            "an event": Figure([self.trace / self.events if self.events else 0], " B"),
        }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `gilscope bench scale`."""
    parser.add_argument(
        "--interpreter", metavar="PATH", help="the Python to measure (default: this one)"
    )
    for kind, sizes in SMALL.items():
        parser.add_argument(
            f"--{kind}", metavar="N,N…", help=f"how many; 0: none (default: {sizes})"
        )
    parser.add_argument(
        "--large", action="store_true",
        help="; ".join(f"{kind} {sizes}" for kind, sizes in LARGE.items())
        + " (minutes; 2 GB of memory, 6 GB in the temporary folder)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="write the table there too")
    parser.add_argument("--chart", metavar="FILE", type=Path, help="draw it there, as SVG")


def run(args: argparse.Namespace) -> int:
    """Measure and tell; 1 when something was not recorded. Raises UsageError, RecordingError."""
    turns = list(_turns(args))
    for page in (args.markdown, args.chart):
        if page is not None and not page.parent.is_dir():
            raise UsageError(f"{page.parent}: no such directory for {page.name}")
    python = harness.interpreter(args.interpreter or sys.executable)
    machine = f"{python.name}, {harness.machine()}, load average {os.getloadavg()[0]:.1f} before"
    found: dict[tuple[str, int], Outcome] = {}
    with Progress() as progress:
        for number, (kind, size) in enumerate(turns):
            found[kind, size] = measure(python.path, kind, size)
            progress.tick(number + 1, len(turns))
    args.quick = False  # of other benchmarks
    return publish(tell(args, machine, found), args)


def _turns(args: argparse.Namespace) -> Iterator[tuple[str, int]]:
    for kind, small in SMALL.items():
        text = getattr(args, kind) or (LARGE[kind] if args.large else small)
        if not re.fullmatch(r"\d+(,\d+)*", text, re.ASCII):
            raise UsageError(f"--{kind} takes numbers with commas between them, not {text}")
        for size in sorted({int(number) for number in text.split(",")} - {0}):
            yield kind, size


def measure(python: str, kind: str, size: int) -> Outcome:
    """Run it without gilscope, then recorded. Raises RecordingError."""
    from gilscope.perfetto.reader import open_trace  # noqa: PLC0415 - heavy

    command = [python, str(PROGRAMS / "scale.py"), kind, str(size)]
    plain = subprocess.run(command, capture_output=True, text=True, check=False)
    if plain.returncode:
        why = plain.stderr.strip().splitlines()[-1:]
        raise RecordingError(f"{size:,} {kind} do not run here: {' '.join(why)}")
    with tempfile.TemporaryDirectory(prefix="gilscope-scale-") as folder:
        trace = Path(folder, "scale.pftrace")
        record = [*itself(), "record", "-o", str(trace), "--", *command]
        with Path(folder, "summary").open("w+") as summary, subprocess.Popen(
            record, stdout=subprocess.PIPE, stderr=summary, text=True, start_new_session=True
        ) as recorder:  # fmt: skip
            try:
                memory, rings = _watch(recorder)
                end = time.monotonic()
            except BaseException:
                recorder.terminate()  # and it takes its rings with it
                raise
            assert recorder.stdout is not None
            told = recorder.stdout.read()
        last = Path(folder, "summary").read_text(errors="replace").strip().rpartition("\n")[2]
        events = re.match(r"gilscope: ([\d,]+) events? in ", last)
        if recorder.returncode or events is None:
            raise RecordingError(f"{size:,} {kind} were not recorded: {last}")
        metadata = open_trace(trace).metadata
        recorded, alone = json.loads(told), json.loads(plain.stdout)
        return Outcome(
            processor=recorded["processor"] / max(alone["processor"], _TICK_S),
            events=int(events[1].replace(",", "")),
            lost=metadata.lost_events,
            whole=metadata.stopped is None,
            memory=memory,
            rings=rings,
            to_summary=end - recorded["end"],
            trace=trace.stat().st_size,
        )


def _watch(recorder: subprocess.Popen[str]) -> tuple[int, int]:
    """Until it has ended: the most memory of gilscope's processes, and the most of its rings."""
    memory = rings = 0
    while recorder.poll() is None:
        memory = max(memory, sum(map(_own_memory, _processes(recorder.pid))))
        rings = max(rings, _rings(recorder.pid))
        time.sleep(_PERIOD_S)
    return memory, rings


def _processes(recorder: int) -> Iterator[int]:
    """The recorder, and what it started but the program."""
    yield recorder
    with suppress(OSError):
        for pid in Path(f"/proc/{recorder}/task/{recorder}/children").read_text().split():
            if b"/programs/scale.py" not in Path(f"/proc/{pid}/cmdline").read_bytes():
                yield int(pid)


def _own_memory(pid: int) -> int:
    """Resident bytes that it shares with nobody's file."""
    with suppress(OSError):
        found = re.search(r"RssAnon:\s*(\d+)", Path(f"/proc/{pid}/status").read_text())
        if found:  # a zombie has none
            return int(found[1]) * 1024
    return 0


def _rings(recorder: int) -> int:
    """Bytes that its rings take."""
    directory = running.find(recorder)
    with suppress(OSError):
        if directory is not None:
            return (directory / RINGS).stat().st_blocks * 512
    return 0


def tell(
    args: argparse.Namespace, machine: str, found: Mapping[tuple[str, int], Outcome]
) -> Report:
    """A row a size."""
    words = "gilscope bench scale" + " --large" * args.large
    words += "".join(f" --{kind} {text}" for kind in SMALL if (text := getattr(args, kind)))
    report = Report(
        benchmark="scale",
        title="Many threads, processes, events",
        command=words,
        machine=machine,
        repeats=1,
        words=("what", "how many"),
        columns=COLUMNS,
        rows=[Row((kind, f"{n:,}"), outcome.figures()) for (kind, n), outcome in found.items()],
    )
    report.claims = [
        ("no event was lost", not any(outcome.lost for outcome in found.values())),
        ("all was recorded", all(outcome.whole for outcome in found.values())),
    ]
    curves = list(_curves(found))
    report.chart = chart.curves(report.title, curves, across=len(_CURVES))
    report.notes = [
        f"Threads and processes are all alive at a time; each lets the GIL go {TURNS} times. "
        "Processor time: of the program, times as much as without gilscope. Memory: of gilscope's "
        "own processes, without the rings; both are the most at one time, looked at "
        f"{1 / _PERIOD_S:.0f} times a second. To the summary: from the program's last statement "
        "until gilscope has printed the summary and ended. Of one run a small difference says "
        "nothing.",
        *_bends(curves),
    ]
    return report


def _curves(found: Mapping[tuple[str, int], Outcome]) -> Iterator[Curve]:
    """Of each kind and measure."""
    for kind in dict.fromkeys(kind for kind, _ in found):
        for column in _CURVES:
            figures = {n: o.figures()[column] for (k, n), o in found.items() if k == kind}
            unit = next(iter(figures.values())).unit
            points = [(float(n), figure.values[0]) for n, figure in figures.items()]
            yield Curve(f"{column}, by {kind}", points, unit)


def _bends(curves: Sequence[Curve]) -> Iterator[str]:
    """Where a measure grew much more than what it is of."""
    for curve in curves:
        for (size, value), (next_size, next_value) in pairwise(curve.points):
            grew, more = next_size / size, next_value / value if value else 1.0
            if more > _BEND * grew:
                yield (
                    f"Bend: {curve.title}, grew {more:.1f} times from {size:,.0f} to "
                    f"{next_size:,.0f}, which is {grew:.1f} times as many."
                )

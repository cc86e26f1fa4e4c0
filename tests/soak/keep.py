"""A flight recorder under load: is everything counted, and does memory stay flat?

    python tests/soak/keep.py [--events N] [--threads N] [--forks N] [--streamed N] [--page FILE.md]

Three programs under `gilscope record --keep 64M`, one after another: one thread that emits events
as fast as the probe can, many short threads, many forks. A fourth emits events that are all kept,
in a trace on disk. Meanwhile the resident memory of program
and recorder is looked at; of the program the rings' own pages, which it shares, are told apart.
"""

from __future__ import annotations

import argparse
import os
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

KEEP = "64M"
STREAMED_PAUSE_S = 0.08  # behind each 200,000 events: 2 M a second, which a disk can take
PERIOD_S = 0.25
ROWS = 24  # of the curve that the page shows
GONE_OFFSET, LOST_OFFSET = 88, 136

EVENTS = """
import ctypes, sys, time
from gilscope import _native
probe = ctypes.CDLL(str(_native.probe_path()))  # a thread holds one GIL at a time
probe.gilscope_bench_emit.argtypes = [ctypes.c_uint64]
left, pause = int(sys.argv[1]) // 2, float(sys.argv[2])
while left:
    n = min(left, 100_000)
    probe.gilscope_bench_emit(n)
    left -= n
    time.sleep(pause)
"""
THREADS = """
import sys, threading
def work():
    for _ in range(3): sorted(range(20))
left = int(sys.argv[1])
while left:
    n = min(left, 50)
    threads = [threading.Thread(target=work) for _ in range(n)]
    for t in threads: t.start()
    for t in threads: t.join()
    left -= n
"""
FORKS = """
import os, sys
for _ in range(int(sys.argv[1])):
    pid = os.fork()
    if pid == 0:
        for i in range(200): pass
        os._exit(0)
    os.waitpid(pid, 0)
"""
LAST = """
import threading
def last(): pass
thread = threading.Thread(target=last, name="the last one")
thread.start(); thread.join()
"""


class Sample(NamedTuple):
    """MiB."""

    seconds: float
    program: float  # its own
    rings: float  # what it has of the rings in memory
    recorder: float
    gone: int


class Outcome(NamedTuple):
    """Of one program."""

    samples: list[Sample]
    seconds: float
    emitted: int  # records that were taken back, are in the trace, or were lost
    gone: int
    kept: int
    lost: int
    last: bool  # its last thread is in the trace


def memory(pid: int) -> tuple[float, float]:
    """Resident MiB of a process: its own, and of shared memory."""
    own = shared = 0
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(("RssAnon", "RssFile")):
            own += int(line.split()[1])
        elif line.startswith("RssShmem"):
            shared += int(line.split()[1])
    return own / 1024, shared / 1024


def run(
    folder: Path, rings: Path, source: str, number: int, *, options: Sequence[str], pause_s: float
) -> Outcome:
    """Record one program, with its rings in memory, and look at its memory."""
    program, trace = folder / "program.py", folder / "trace.pftrace"
    program.write_text(source + LAST)
    command = [sys.executable, "-m", "gilscope", "record", "--no-summary", *options]
    command += ["-o", str(trace), "--", sys.executable, str(program), str(number), f"{pause_s}"]
    begin = time.monotonic()
    recorder = subprocess.Popen(command, env={**os.environ, "GILSCOPE_DIR": str(rings)})
    samples: list[Sample] = []
    gone = lost = gone_lost = 0
    while recorder.poll() is None:
        time.sleep(PERIOD_S)
        try:
            children = Path(f"/proc/{recorder.pid}/task/{recorder.pid}/children").read_text()
            (file,) = rings.glob("*/rings")
            header = file.open("rb").read(192)
            gone, gone_lost = struct.unpack_from("<QQ", header, GONE_OFFSET)
            (lost,) = struct.unpack_from("<Q", header, LOST_OFFSET)
            own, shared = memory(int(children.split()[0]))
            of_recorder = memory(recorder.pid)[0]
        except (OSError, ValueError, IndexError, struct.error):
            continue
        seconds = time.monotonic() - begin
        samples.append(Sample(seconds, own, shared, of_recorder, gone))
    assert recorder.returncode == 0
    import gilscope  # noqa: PLC0415

    read = gilscope.read(trace)
    metadata = read.metadata
    lost += gone_lost + metadata.lost_events
    names = {thread.name for thread in metadata.threads}
    kept = read.totals.events
    seconds = time.monotonic() - begin
    total = gone + kept + lost
    return Outcome(samples, seconds, total, gone, kept, lost, "the last one" in names)


def curve(outcome: Outcome) -> list[str]:
    """The samples, thinned out, as a table."""
    rows = ["| s | program, MiB | rings in it, MiB | recorder, MiB | taken back, millions |"]
    rows.append("|---|---|---|---|---|")
    step = max(1, len(outcome.samples) // ROWS)
    rows += [
        f"| {s.seconds:.1f} | {s.program:.1f} | {s.rings:.1f} | {s.recorder:.1f} |"
        f" {s.gone / 1e6:,.1f} |"
        for s in outcome.samples[::step]
    ]
    return rows


def said(what: str, outcome: Outcome) -> str:
    """One program in a line."""
    half = outcome.samples[len(outcome.samples) // 4 :] or outcome.samples
    program = [s.program + s.rings for s in half]
    recorder = [s.recorder for s in half]
    flat = (
        f"memory after the first quarter: program {min(program):.1f} to {max(program):.1f} MiB, "
        f"recorder {min(recorder):.1f} to {max(recorder):.1f} MiB"
        if half
        else "it was too short to look at its memory"
    )
    end = "its last thread is in the trace" if outcome.last else "ITS LAST THREAD IS MISSING"
    return (
        f"- {what}, {outcome.seconds:.0f} s: {outcome.gone:,} records taken back at the last look, "
        f"{outcome.kept:,} events in the trace, {outcome.lost:,} lost and counted; {end}; {flat}."
    )


def main() -> int:
    """Exit code 1: a last thread is missing, or an event that nobody counted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000_000)
    parser.add_argument("--threads", type=int, default=100_000)
    parser.add_argument("--forks", type=int, default=2_000)
    parser.add_argument("--streamed", type=int, default=100_000_000)
    parser.add_argument("--page", type=Path)
    args = parser.parse_args()
    runs = []
    good = True
    keep = ("--keep", KEEP)
    with (
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryDirectory(dir="/dev/shm") as rings,
    ):
        for what, source, number, options, pause_s in (
            ("events of one thread", EVENTS, args.events, keep, 0),
            ("short threads", THREADS, args.threads, keep, 0),
            ("forks", FORKS, args.forks, keep, 0),
            ("events streamed to disk", EVENTS, args.streamed, (), STREAMED_PAUSE_S),
        ):
            if number:
                outcome = run(
                    Path(folder), Path(rings), source, number, options=options, pause_s=pause_s
                )
                all_told = bool(options) or outcome.kept + outcome.lost >= number
                good = good and outcome.last and all_told
                runs.append((f"{number:,} {what}", outcome))
                print(said(*runs[-1]), flush=True)
    text = [
        "# A flight recorder under load",
        "",
        f"`make soak-keep`, {time.strftime('%Y-%m-%d')}: programs under `gilscope record --keep "
        f"{KEEP}`, the last one without it, with whatever else the machine had to do.",
        "",
        *(said(what, outcome) for what, outcome in runs),
        "",
        f"## Memory while {runs[0][0]} go through {KEEP} of rings",
        "",
        *curve(runs[0][1]),
        "",
        f"## Memory while {runs[-1][0]} are recorded",
        "",
        *curve(runs[-1][1]),
        "",
    ]
    if args.page:
        args.page.write_text("\n".join(text))
    return not good


if __name__ == "__main__":
    sys.exit(main())

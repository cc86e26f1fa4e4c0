"""Why a holder keeps the GIL: is it told apart, each time?

    python tests/soak/causes.py [--times N] [--page FILE.md] [INTERPRETER…]

One program, whose holder keeps the GIL for one of three causes while another thread wants it: it is
pinned to a processor that other programs have most of the time; a quota of its cgroup stops it (as
root, for cgroups of version 1 or 2); it is in C code that computes. The first finding must say so.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parent.parent))

from support import interpreters
from support.recorded import GILSCOPE

import gilscope
from gilscope.analysis.summary import summarise

PROGRAM = """
import os, subprocess, sys, threading, time
cause, end = sys.argv[1], time.monotonic() + 1.5
others = []
if cause == "pinned":
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    burn = f"import time\\nwhile time.monotonic() < {end}: pass"
    others = [subprocess.Popen([sys.executable, "-S", "-c", burn]) for _ in range(3)]
def beat():
    while time.monotonic() < end:
        time.sleep(0.001)
thread = threading.Thread(target=beat, name="beat")
thread.start()
while time.monotonic() < end:
    if cause == "c-call":
        sum(range(2_000_000))  # the line
    else:
        sum(range(1_000))
thread.join()
for other in others:
    other.wait()
"""
KINDS = {"pinned": "no-processor", "quota": "no-processor", "c-call": "c-call"}
PERIOD_US, QUOTA_US = 100_000, 30_000
GROUPS = Path("/sys/fs/cgroup")

PAGE = """# Why a holder keeps the GIL

`make soak-causes`, {today}: a program whose holder is pinned to a processor that three other
programs compute on, one under a quota of 30 % of a processor, one in C code that computes; another
thread sleeps a millisecond at a time and wants the GIL. In how many of {times} runs the first
finding was the true one.

| interpreter | pinned | quota | in C code |
|---|---|---|---|
{rows}
"""


@contextlib.contextmanager
def limited() -> Iterator[Path]:
    """A cgroup with the quota: the file that takes pids. Raises OSError where there can be none."""
    old = GROUPS / "cpu"
    group = (old if old.is_dir() else GROUPS) / f"gilscope-causes-{os.getpid()}"
    group.mkdir()
    try:
        if old.is_dir():
            (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (group / "cpu.cfs_quota_us").write_text(str(QUOTA_US))
        else:
            (group / "cpu.max").write_text(f"{QUOTA_US} {PERIOD_US}")
        yield group / "cgroup.procs"
    finally:
        group.rmdir()


def told(name: str, cause: str, folder: Path, group: Path) -> str:
    """One run: "" where the first finding is the true one, else what was found."""
    program = folder / "program.py"
    program.write_text(PROGRAM)
    trace = folder / "out.pftrace"
    enter = f"echo $$ > {group} && " if cause == "quota" else ""  # gilscope too, as in a container
    command = [*GILSCOPE, "record", "--quiet", "-o", trace, interpreters.path(name), program, cause]
    done = subprocess.run(
        ["sh", "-c", f'{enter}exec "$@"', "sh", *command],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return done.stderr[-300:]
    findings = summarise(gilscope.read(trace))["findings"]
    if not findings:
        return "nothing was found"
    first = findings[0]
    line = PROGRAM.split("# the line", maxsplit=1)[0].count("\n") + 1
    right = first["kind"] == KINDS[cause] and ("quota" in first["text"]) == (cause == "quota")
    if cause == "c-call":
        right = right and f"program.py:{line}" in first["text"]
    return "" if right else f"{first['kind']}: {first['text']}"


def main() -> int:
    """Exit code 1 when a cause was not told, once."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=interpreters.names())
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--page", type=Path)
    args = parser.parse_args()
    rows, good = [], True
    with limited() as group, TemporaryDirectory() as folder:
        for name in args.names:
            cells = []
            for cause in KINDS:
                wrong = [told(name, cause, Path(folder), group) for _ in range(args.times)]
                right = wrong.count("")
                cells.append(f"{right} of {args.times}")
                good = good and right == args.times
                print(name, cause, cells[-1], *filter(None, wrong), sep="\n    ", flush=True)
            rows.append(f"| {name} | {' | '.join(cells)} |")
    if args.page:
        today = datetime.datetime.now(datetime.UTC).date()
        args.page.write_text(PAGE.format(today=today, times=args.times, rows="\n".join(rows)))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

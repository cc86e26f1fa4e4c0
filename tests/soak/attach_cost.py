"""What attaching costs a program: its speed, its gaps; and what others cost that attach.

    python tests/soak/attach_cost.py [--python NAME]… [--repeats N] [--page FILE.md]

Speed: turns of `os.write` that a program does in a window of half a second, in turn: before it is
attached to, attached to, let go of; beside it one that was started by `gilscope record`. Gaps: how
much later than asked a thread comes back from sleeps of a millisecond, less what the kernel says it
wanted to run and had no processor, in windows with an attach and in windows without. Others:
py-spy, memray and gdb come into the same program, each several times, and gilscope as often.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from support import interpreters  # noqa: E402

from gilscope.attach.blob import Request  # noqa: E402
from gilscope.attach.place import place_of  # noqa: E402
from gilscope.attach.process import Attached  # noqa: E402
from gilscope.benchmarks.harness import median_interval  # noqa: E402
from gilscope.recorder.notes import Notes  # noqa: E402
from gilscope.recorder.session import Session  # noqa: E402

WINDOW_S = 0.5
MEMRAY = "memray attach --duration 1"
PROGRAM = """
import json, os, sys, threading, time
null, gaps = os.open(os.devnull, os.O_WRONLY), []
def queued():
    with open("/proc/thread-self/schedstat") as file:
        return int(file.read().split()[1])
def nap():
    while True:
        before, begin = queued(), time.monotonic_ns()
        time.sleep(0.001)
        late = time.monotonic_ns() - begin - 1_000_000
        gaps.append((late / 1e6, (late - (queued() - before)) / 1e6))
threading.Thread(target=nap, name="nap", daemon=True).start()
print("ready", flush=True)
for line in sys.stdin:
    word, _, argument = line.partition(" ")
    if word == "turns":
        end, turns = time.monotonic() + float(argument), 0
        while time.monotonic() < end:
            for _ in range(100):
                os.write(null, b"x")
            turns += 100
        print(turns, flush=True)
    else:
        seen, gaps[:] = list(gaps), []
        print(json.dumps(seen), flush=True)
"""


class Program:
    """It does what it is asked to."""

    def __init__(self, *command: str) -> None:
        self.process = subprocess.Popen(
            [*command, "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.pid = self.process.pid
        assert self.line() == "ready"

    def line(self) -> str:
        """The next that it says."""
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def ask(self, words: str) -> str:
        """One line, one answer."""
        assert self.process.stdin
        self.process.stdin.write(words + "\n")
        self.process.stdin.flush()
        return self.line()

    def turns(self) -> int:
        """Of a window."""
        return int(self.ask(f"turns {WINDOW_S}"))

    def gaps(self) -> list[tuple[float, float]]:
        """Since the last time: ms too late, and those of them that the kernel does not explain."""
        return [(late, own) for late, own in json.loads(self.ask("gaps"))]

    def end(self) -> None:
        """Of it."""
        self.process.kill()
        self.process.communicate()


@contextmanager
def attached(pid: int) -> Iterator[Callable[[], None]]:
    """The probe is in, and its rings are kept ahead by the call that is given."""
    place = place_of(pid)
    session = Session(64 << 20, directory=place.directory)
    try:
        Notes(command=("program",), gilscope="", limit=session.limit).write(session.directory)
        session.begin(pid)
        session.stream()
        session.tick()
        one = Attached.open(pid, place)
        one.begin(Request(str(place.rings)))
        while not one.is_in():
            session.tick()
            time.sleep(0.0005)
        yield session.tick
        session.stop_for_good()
        if not one.end():
            raise SystemExit("the rings are mapped still")
        one.close()
    finally:
        session.discard()


def speed(python: str, repeats: int) -> list[str]:
    """Cells: attached of preloaded, let go of never attached, attached of never attached."""
    rows: dict[str, list[float]] = {"attached/preloaded": [], "let go": [], "attached": []}
    with tempfile.TemporaryDirectory() as folder:
        record = [sys.executable, "-m", "gilscope", "record", "--no-summary"]
        limit = ["--keep", "2", "-o", f"{folder}/out.pftrace", "--"]
        plain, preloaded = Program(python), Program(*record, *limit, python)
        alone = Program(python)
        try:
            plain.turns(), preloaded.turns(), alone.turns()  # warm
            for _ in range(repeats):
                before = plain.turns() / alone.turns()
                with attached(plain.pid) as tick:
                    tick()
                    inside = plain.turns()
                    beside = preloaded.turns()
                    reference = alone.turns()
                after = plain.turns() / alone.turns()
                rows["attached/preloaded"].append(inside / beside)
                rows["attached"].append(inside / reference / before)
                rows["let go"].append(after / before)
        finally:
            for program in (plain, preloaded, alone):
                program.end()
    cells = []
    for ratios in rows.values():
        low, high = median_interval(ratios)
        cells.append(f"{statistics.median(ratios):.3f} ({low:.3f} to {high:.3f})")
    return cells


def late(gaps: Sequence[float]) -> str:
    """p50, p99.9, longest."""
    ordered = sorted(gaps)
    at = [ordered[int((len(ordered) - 1) * share)] for share in (0.5, 0.999, 1)]
    return " / ".join(f"{max(ms, 0):.2f}" for ms in at)


def gaps(python: str, repeats: int) -> list[str]:
    """Cells: of windows without an attach, of those with one; less the kernel's part."""
    program = Program(python)
    found: dict[bool, list[float]] = {False: [], True: []}
    try:
        program.turns()
        for number in range(2 * repeats):
            program.gaps()
            if number % 2:
                with attached(program.pid):
                    program.turns()
            else:
                program.turns()
            found[bool(number % 2)] += [own for _, own in program.gaps()]
    finally:
        program.end()
    return [late(found[False]), late(found[True])]


def others(repeats: int) -> list[str]:
    """Rows: who attaches, how long until it has what it came for, the longest gap, failures."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([interpreters.path("3.11"), "-m", "venv", folder], check=True)
        subprocess.run([f"{folder}/bin/pip", "install", "-qq", "py-spy", "memray"], check=True)
        program = Program(f"{folder}/bin/python")
        pid = str(program.pid)
        ways: dict[str, Callable[[int], list[str]]] = {
            "nobody": lambda _: ["sleep", "0.5"],
            "gilscope attach -d 0.2": lambda _: [
                *(sys.executable, "-m", "gilscope", "attach", pid, "-d", "0.2"),
                *("--no-summary", "-o", f"{folder}/out.pftrace"),
            ],
            "gilscope stacks": lambda _: [sys.executable, "-m", "gilscope", "stacks", pid],
            "py-spy dump": lambda _: [f"{folder}/bin/py-spy", "dump", "-p", pid],
            "py-spy dump --nonblocking": lambda _: [
                *(f"{folder}/bin/py-spy", "dump", "--nonblocking", "-p", pid)
            ],
            MEMRAY: lambda number: [
                *(f"{folder}/bin/memray", "attach", "--duration", "1"),
                *("-o", f"{folder}/{number}.bin", pid),
            ],
            "gdb, one backtrace": lambda _: [
                *("gdb", "-batch", "-nx", "-p", pid, "-ex", "thread apply all bt 1")
            ],
        }
        if not shutil.which("gdb"):
            raise SystemExit("gdb is missing")
        took: dict[str, list[float]] = {way: [] for way in ways}
        worst = dict.fromkeys(ways, 0.0)
        failed = dict.fromkeys(ways, 0)
        for number in range(repeats):
            for way, command in ways.items():
                program.gaps()
                begin = time.monotonic()
                done = subprocess.run(
                    command(number), capture_output=True, stdin=subprocess.DEVNULL, check=False
                )
                took[way].append(time.monotonic() - begin)
                time.sleep(1.5 if way == MEMRAY else 0)  # until it has gone
                failed[way] += done.returncode != 0
                if program.process.poll() is not None:
                    raise SystemExit(f"{way} has ended the program")
                worst[way] = max(worst[way], *(own for _, own in program.gaps()))
        program.end()
    return [
        f"| {way} | {statistics.median(took[way]):.2f} s | {worst[way]:.1f} ms"
        f" | {failed[way]} of {repeats} |"
        for way in ways
    ]


def main() -> int:
    """Exit code 1: a bound was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", action="append", choices=interpreters.names())
    parser.add_argument("--repeats", type=int, default=24)
    parser.add_argument("--page", type=Path)
    args = parser.parse_args()
    names = args.python or interpreters.names()
    head = ["attached, of preloaded", "let go, of before", "attached, of alone"]
    lines = [
        "# What attaching costs the program",
        "",
        f"`make bench-attach`, {time.strftime('%Y-%m-%d')}, {os.cpu_count()} processors,"
        f" {args.repeats} repeats: turns of `os.write` in windows of",
        f"{WINDOW_S:g} s, medians and the 95 % intervals of the medians. Gaps: ms that a thread"
        " comes back too late from sleeps of 1 ms, p50 / p99.9 / longest,",
        "without what the kernel says it waited for a processor, in windows without an attach and"
        " in windows with one.",
        "",
        f"| interpreter | {' | '.join(head)} | gaps without | gaps with |",
        "|---|---|---|---|---|---|",
    ]
    for name in names:
        python = str(interpreters.path(name))
        cells = [*speed(python, args.repeats), *gaps(python, args.repeats)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    lines += [
        "",
        "## Who else attaches",
        "",
        "In one run, on 3.11: from the start of the command to its end, and the longest such gap"
        " meanwhile.",
        "",
        "| who | took | longest gap | failed |",
        "|---|---|---|---|",
        *others(max(args.repeats // 2, 3)),
        "",
    ]
    text = "\n".join(lines)
    if args.page:
        args.page.write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

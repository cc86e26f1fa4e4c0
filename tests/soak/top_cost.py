"""What sampling a program of many threads costs, beside py-spy and CPython's own sampler.

    python tests/soak/top_cost.py [--threads N] [--seconds S] [--repeats N] [--python PATH]
        [--page FILE.md]

The program's threads come back from a sleep now and then, and one computes. It is looked at by
`gilscope top`'s sampler, by py-spy as `top` and `record` use it, and by nobody, in turns; a turn
tells the processor time of whoever looks, without its start, and what the program did meanwhile.
All look at the same rate. py-spy is installed in an environment of its own. A program that runs on
CPython 3.15 is looked at by `profiling.sampling`, too, which that version brings.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

HZ = 100
PROGRAM = """
import sys, threading, time
done = 0
def naps():
    while True:
        time.sleep(0.05)
for _ in range(int(sys.argv[1]) - 2):
    threading.Thread(target=naps, daemon=True).start()
def computes():
    global done
    while True:
        sum(range(1000))
        done += 1
threading.Thread(target=computes, daemon=True).start()
for line in sys.stdin:
    print(done, flush=True)
"""
SAMPLER = """
import sys, time
from gilscope.live.sampler import SampledSource
source = SampledSource(int(sys.argv[1]), hz=float(sys.argv[2]))
while True:
    time.sleep(1)
    source.picture()
"""
SETTLE_S = 2.0


class Program:
    """It runs, and tells how much it has done."""

    def __init__(self, python: str, threads: int) -> None:
        self.process = subprocess.Popen(
            [python, "-c", PROGRAM, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def done(self) -> int:
        """So far."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


def cpu_s(pid: int) -> float:
    """The processor time of a process so far."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def turn(program: Program, command: Sequence[str], seconds: float) -> tuple[float, float]:
    """Share of a processor that it took, and what the program did a second."""
    looks = None
    with tempfile.TemporaryFile() as out:
        if command:
            looks = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        time.sleep(SETTLE_S)
        began, done = time.monotonic(), program.done()
        cpu = cpu_s(looks.pid) if looks else 0.0
        time.sleep(seconds)
        passed = time.monotonic() - began
        rate = (program.done() - done) / passed
        if not looks:
            return 0.0, rate
        if looks.poll() is not None:
            out.seek(0)
            raise SystemExit(f"{command[0]} ended: {out.read().decode(errors='replace')[-500:]}")
        took = (cpu_s(looks.pid) - cpu) / passed
        looks.terminate()
        looks.wait()
    return took, rate


def py_spy(folder: Path) -> str:
    """Where it is, installed."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run([folder / "bin/pip", "install", "-qq", "py-spy"], check=True)
    return str(folder / "bin/py-spy")


def has_sampler(python: str) -> bool:
    """Does this interpreter bring CPython's own?"""
    done = subprocess.run(
        [python, "-c", "import profiling.sampling"], check=False, capture_output=True
    )
    return done.returncode == 0


def version(python: str) -> str:
    """As it says itself."""
    done = subprocess.run([python, "-V"], capture_output=True, text=True, check=True)
    return done.stdout.split()[1]


def main() -> int:
    """Exit code 1: a bound was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--python", default=sys.executable, help="that the program runs on")
    parser.add_argument("--page", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        spy = py_spy(Path(folder))
        program = Program(args.python, args.threads)
        pid, raw = str(program.process.pid), str(Path(folder) / "raw")
        record = [spy, "record", "--nonblocking", "-r", str(HZ), "-d", "600", "-p", pid]
        ways: dict[str, list[str]] = {
            "nobody": [],
            "gilscope top": [sys.executable, "-c", SAMPLER, pid, str(HZ)],
            "py-spy record --nonblocking": [*record, "-f", "raw", "-o", raw],
            "py-spy record": [*(w for w in record if w != "--nonblocking"), "-f", "raw", "-o", raw],
        }
        if has_sampler(args.python):
            sampler = [args.python, "-m", "profiling.sampling", "attach", "-r", str(HZ)]
            ways["profiling.sampling"] = [
                *sampler,
                "-a",
                "-d",
                "600",
                "--collapsed",
                "-o",
                raw,
                pid,
            ]
        found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        for _ in range(args.repeats):
            for way, command in ways.items():
                found[way].append(turn(program, command, args.seconds))
        program.process.kill()
        program.process.wait()
    rows = []
    for way, turns in found.items():
        cpu = [100 * share for share, _ in turns]
        speed = [its / alone for (_, its), (_, alone) in zip(turns, found["nobody"], strict=True)]
        rows.append(
            f"| {way} | {statistics.median(cpu):.2f} % ({min(cpu):.2f} to {max(cpu):.2f}) "
            f"| {statistics.median(speed):.3f} ({min(speed):.3f} to {max(speed):.3f}) |"
        )
    text = [
        "# What top costs",
        "",
        f"`make bench-top-cost`, {time.strftime('%Y-%m-%d')}: a program of {args.threads} threads "
        f"on CPython {version(args.python)},",
        f"{HZ} looks a second, {args.repeats} turns of {args.seconds:g} s each; medians and range.",
        "",
        "| who looks | of a processor | the program's speed, of nobody's |",
        "|---|---|---|",
        *rows,
        "",
    ]
    if args.page:
        args.page.write_text("\n".join(text))
    print("\n".join(text))
    mine = statistics.median(share for share, _ in found["gilscope top"])
    theirs = [
        statistics.median(share for share, _ in turns)
        for way, turns in found.items()
        if way not in ("nobody", "gilscope top")
    ]
    return mine > 0.03 or mine > min(theirs)


if __name__ == "__main__":
    sys.exit(main())

"""Runs a program that is recorded and reads its counters meanwhile."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from support.recorded import GILSCOPE

import gilscope
from gilscope.live.counters import Counters, Reading, Sums
from gilscope.recorder.notes import RINGS
from gilscope.recorder.running import find

DEADLINE_S = 120
PART = 0.005

# A thread that comes back from sleep, two that compute, and a main thread that waits for them. It
# begins when its counters are read: the longest waits are of those that end from then on.
CONVOY = """
import sys, threading, time
sys.stdin.readline()
over = time.monotonic() + 1.5
def naps():
    while time.monotonic() < over:
        time.sleep(0.001)
def computes():
    while time.monotonic() < over:
        sum(range(2000))
threads = [threading.Thread(target=naps, name="naps")]
threads += [threading.Thread(target=computes, name=f"computes-{i}") for i in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


class Run:
    """`gilscope record` of a program, whose counters are read meanwhile."""

    def __init__(self, folder: Path, python: Path, source: str, *options: str) -> None:
        program = folder / "program.py"
        program.write_text(source)
        self.trace = folder / "trace.pftrace"
        command = [*GILSCOPE, "record", "--no-summary", *options, "--", python, program]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        deadline = time.monotonic() + DEADLINE_S
        while (directory := find(self.process.pid)) is None:
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.002)
        self.counters = Counters(directory / RINGS)
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def readings(self, take_longest: bool = True) -> Iterator[Reading]:
        """One after another; the last one when the program is over and its trace is written."""
        while self.process.poll() is None:
            reading = self.counters.read(take_longest)
            if reading.threads:  # else it begins, or its rings were given back
                yield reading
            time.sleep(0.01)
        _, error = self.process.communicate(timeout=DEADLINE_S)
        assert self.process.returncode == 0, error
        self.counters.close()


def all_of(reading: Reading) -> Sums:
    """Of all threads that there ever were."""
    parts = [thread.sums for thread in reading.threads]
    parts += [process.gone for process in reading.processes]
    return sum(parts, reading.gone)


def near(counted: int, recorded: int) -> bool:
    return abs(counted - recorded) <= max(PART * recorded, 100_000)


def expect_counters_equal_a_recording(folder: Path, python: Path) -> None:
    """Of one run of CONVOY: what was counted and what the trace says."""
    run = Run(folder, python, CONVOY, "-o", str(folder / "trace.pftrace"))
    longest: dict[str, int] = {}
    for reading in run.readings():
        for thread in reading.threads:
            longest[thread.name] = max(longest.get(thread.name, 0), thread.longest_wait_ns)
    trace = gilscope.read(run.trace)
    stats, waits = trace.thread_stats, trace.waits
    counted = {thread.tid: thread for thread in reading.threads}
    assert len(counted) == len(trace.metadata.threads) == 4
    for thread in trace.metadata.threads:
        its, told = counted[thread.tid], stats[thread.id]
        mine = waits[waits["thread"] == thread.id]
        took, cpu = mine["end_ns"] - mine["start_ns"], mine["cpu"] != 0
        assert its.name == thread.name
        assert its.sums.acquires == told["acquires"]
        assert its.sums.contended == told["contended_acquires"]
        assert near(its.sums.held_ns, int(told["held_ns"])), its
        assert near(its.sums.io_wait_ns, int(took[~cpu].sum())), its
        assert near(its.sums.cpu_wait_ns, int(took[cpu].sum())), its
        assert near(longest[thread.name], int(took.max(initial=0))), its
    gil = trace.gil_stats[0]
    assert near(all_of(reading).made_wait_ns, int(gil["contended_ns"]))
    # The first holder took it over from nobody.
    assert all_of(reading).hand_overs == gil["switches"] + 1

"""`record --sched`: what the kernel tells of each thread, against what the system counts itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import interpreters
from support.perfetto_engine import engine, query
from support.recorded import GILSCOPE, Recording, record

from gilscope.analysis.summary import summarise
from gilscope.perfetto.reader import open_trace
from gilscope.trace.text import lines

# A holder pinned beside a program that computes, one in C code that keeps the GIL, one that sleeps
# with it; each tells its own CPU time and its own time on the clock.
HOLDERS = """
import ctypes, json, os, subprocess, sys, threading, time
libc = ctypes.PyDLL(None)  # its calls keep the GIL
told = {}

def timed(work):
    begin, cpu = time.monotonic_ns(), time.thread_time_ns()
    work()
    name = threading.current_thread().name
    told[name] = [time.monotonic_ns() - begin, time.thread_time_ns() - cpu]

def until(seconds, work):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        work()

def crowded():
    timed(lambda: until(0.4, lambda: None))

def sums():
    numbers = list(range(400_000))
    until(0.2, lambda: sum(numbers))

def computes():
    timed(sums)

def sleeps():
    timed(lambda: until(0.2, lambda: libc.usleep(20_000)))

def run(work):
    thread = threading.Thread(target=work, name=work.__name__)
    thread.start()
    thread.join()

spin = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\\nwhile True: pass"
other = subprocess.Popen([sys.executable, "-S", "-c", spin])
time.sleep(0.1)
processors = os.sched_getaffinity(0)
os.sched_setaffinity(0, {min(processors)})  # its own too: a thread inherits it
run(crowded)
os.sched_setaffinity(0, processors)
other.kill()
other.wait()
run(computes)
run(sleeps)
print(json.dumps(told))
"""


def threads_of(recording: Recording) -> dict[str, dict[str, Any]]:
    """The rows of the first process, by name."""
    summary = summarise(recording.trace)
    return {thread["name"]: thread for thread in summary["processes"][0]["threads"]}


@pytest.mark.parametrize("name", interpreters.names())
def test_running_preempted_and_off_of_a_holder(tmp_path: Path, name: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(HOLDERS)
    recording = record(
        tmp_path, interpreters.path(name), program, options=("--sched", "--no-follow")
    )
    assert recording.code == 0, recording.err
    told = json.loads(recording.out)
    found = threads_of(recording)
    assert recording.metadata.switches
    assert recording.metadata.lost_switches == 0
    for who, (clock_ns, cpu_ns) in told.items():
        parts = found[who]["held"]
        sides = [found[who][side] for side in ("held", "waiting", "outside")]
        running = sum(side["running_ns"] for side in sides)
        assert running >= cpu_ns * 0.98 - 0.01 * clock_ns  # of its life; it timed nearly all
        assert running <= cpu_ns + 0.1 * clock_ns
        known = sum(ns for key, ns in parts.items() if key != "unknown_ns")
        assert known == pytest.approx(found[who]["held_ns"], rel=0.01)
        if who == "sleeps":
            assert parts["off_ns"] > 0.5 * found[who]["held_ns"]
        else:
            assert parts["off_ns"] < 0.05 * found[who]["held_ns"]
    crowded, computes = found["crowded"], found["computes"]
    missing = told["crowded"][0] - told["crowded"][1]
    assert crowded["held"]["preempted_ns"] >= 0.9 * missing
    assert crowded["held"]["preempted_ns"] > 0.25 * crowded["held_ns"]
    assert computes["held"]["running_ns"] >= 0.98 * told["computes"][1]


PING = """
import os, threading, time
a, b = os.pipe()
def echo():
    for _ in range(300):
        os.read(a, 1)
thread = threading.Thread(target=echo, name="echo")
thread.start()
for _ in range(300):
    os.write(b, b"x")
    time.sleep(0.0005)
thread.join()
"""


@pytest.fixture(scope="module")
def ping(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    folder = tmp_path_factory.mktemp("ping")
    program = folder / "program.py"
    program.write_text(PING)
    recording = record(folder, interpreters.path("3.11"), program, options=("--sched",))
    assert recording.code == 0, recording.err
    return recording


def test_perfetto_has_its_tables_of_scheduling(ping: Recording) -> None:
    rows = ping.trace.processors
    names = {thread.id: thread.name for thread in ping.metadata.threads}
    with engine(ping.path) as tp:
        wrong = query(
            tp, "select name from stats where severity in ('error','data_loss') and value"
        )
        states = query(
            tp,
            "select t.name as who, state, sum(dur) as ns from thread_state"
            " join thread t using (utid) where dur >= 0 group by 1, 2",
        )
        turns = query(
            tp,
            "select t.name as who, count(*) as n from sched join thread t using (utid)"
            " where t.tid > 0 group by 1",
        )
    assert not wrong
    shown = {(row["who"], row["state"]): row["ns"] for row in states}
    for thread, name in names.items():
        mine = rows[rows["thread"] == thread]
        lengths = np.diff(mine["time_ns"])
        for state, letter in ((3, "Running"), (0, "S"), (1, "R")):
            expected = int(lengths[mine["state"][:-1] == state].sum())
            assert shown.get((name, letter), 0) == expected
        (n,) = (row["n"] for row in turns if row["who"] == name)
        assert n == (mine["state"] == 3).sum()


def test_there_and_back_and_in_parts(ping: Recording, tmp_path: Path) -> None:
    text = "".join(lines(open_trace(ping.path)))
    assert " processor.on cpu=" in text
    assert " processor.off cpu=" in text
    whole = threads_of(ping)["echo"]
    (echo,) = (t for t in ping.metadata.threads if t.name == "echo")
    middle = (echo.start_ns + echo.end_ns) // 2 - ping.metadata.start_ns
    sums = dict.fromkeys(whole["waiting"], 0)
    for number, side in enumerate(("--to", "--from")):
        part = tmp_path / f"{number}.pftrace"
        seconds = f"{middle / 1e9:.9f}"
        run = [*GILSCOPE, "cut", str(ping.path), "-o", str(part), side, seconds]
        subprocess.run(run, check=True)
        for key, ns in threads_of(Recording(0, "", "", part))["echo"]["waiting"].items():
            sums[key] += ns
    for key, ns in sums.items():
        assert abs(ns - whole["waiting"][key]) <= 0.01 * whole["waiting_ns"] + 50_000


def test_a_streamed_and_a_kept_recording_have_them_too(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PING)
    streamed = record(
        tmp_path,
        interpreters.path("3.11"),
        program,
        options=("--sched",),
        variables={"GILSCOPE_STREAM_AT": "1"},
    )
    assert streamed.code == 0, streamed.err
    kept = record(
        tmp_path, interpreters.path("3.11"), program, options=("--sched", "--keep", "0.1")
    )
    assert kept.code == 0, kept.err
    for recording in (streamed, kept):
        echo = threads_of(recording)["echo"]
        parts = echo["waiting"]
        assert recording.metadata.switches
        assert sum(parts.values()) == echo["waiting_ns"]
        assert parts["unknown_ns"] <= 0.02 * echo["waiting_ns"] + 100_000
        assert echo["held"]["running_ns"] > 0


def test_where_the_kernel_forbids_it_one_line_says_so(tmp_path: Path) -> None:
    """A seccomp filter as Docker's, here as a library that refuses."""
    source = tmp_path / "refuse.py"
    source.write_text(
        "import errno, sys\n"
        "from gilscope.recorder import switches\n"
        "engine = switches._engine()\n"
        "class Refuses:\n"
        "    def __getattr__(self, name): return getattr(engine, name)\n"
        "    def gs_switches_open(self, fd, room, error):\n"
        "        error._obj.value = errno.EPERM\n"
        "        return None\n"
        "switches._engine = Refuses\n"
        "from gilscope.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    trace = tmp_path / "t.pftrace"
    done = subprocess.run(
        [
            *(sys.executable, source, "record", "--no-summary", "--sched", "-o", trace, "--"),
            *(interpreters.path("3.11"), "-c", "pass"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if "--sched" in line]
    assert len(said) == 1
    assert "the rest is recorded" in said[0]
    metadata = open_trace(trace).metadata
    assert not metadata.switches

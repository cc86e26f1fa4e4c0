"""gilscope.trace and gilscope.install, in programs that gilscope did not start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.recorded import GILSCOPE

import gilscope
from gilscope.perfetto.reader import open_trace
from gilscope.trace.model import Trace

# A thread that naps and one that computes; ends with what the test gives.
BEGIN = """
import os, sys, threading, time
import gilscope
from gilscope.errors import GilscopeError
over = threading.Event()
def nap():
    while not over.is_set(): time.sleep(0.001)
def spin():
    while not over.is_set(): sum(range(1000))
threads = [threading.Thread(target=work, name=work.__name__) for work in (nap, spin)]
for thread in threads: thread.start()
def end():
    over.set()
    for thread in threads: thread.join()
"""


def run(folder: Path, program: str, *before: str) -> list[str]:
    """Lines of its output; it has to end well, and to say nothing else."""
    done = subprocess.run(
        [
            *before,
            sys.executable,
            "-c",
            f"{BEGIN}\ntry:\n{_indented(program)}\nfinally:\n    end()",
        ],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def _indented(program: str) -> str:
    return "\n".join(f"    {line}" for line in program.strip("\n").split("\n"))


def names(trace: Trace) -> set[str]:
    """Of its threads."""
    return {thread.name for thread in trace.metadata.threads}


def test_it_records_from_now_on(tmp_path: Path) -> None:
    (line,) = run(
        tmp_path,
        """
before = set(sys.modules), threading.active_count(), len(os.listdir("/proc/self/fd"))
with gilscope.trace("out.pftrace") as recording:
    time.sleep(0.2)
    threads_now = threading.active_count()
news = {name.partition(".")[0] for name in set(sys.modules) - before[0]} - {"gilscope"}
maps = open("/proc/self/maps").read()
print(recording.events, threads_now - before[1], "/rings" in maps, sorted(news), sep=";")
""",
    )
    events, more_threads, has_rings, news = line.split(";")
    trace = gilscope.read(tmp_path / "out.pftrace")
    assert int(events) > 10
    assert (more_threads, has_rings) == ("0", "False")
    assert not {"numpy", "perfetto", "rich", "psutil", "subprocess"} & set(news[1:-1].split(", "))
    assert {"nap", "spin"} <= names(trace)
    assert len(trace.holds) > 3


def test_again_and_by_start_and_stop(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
for number in range(3):
    with gilscope.trace(f"{number}.pftrace"):
        time.sleep(0.1)
maps = [line.split()[0] for line in open("/proc/self/maps")]
gilscope.trace.start("3.pftrace")
time.sleep(0.1)
gilscope.trace.stop()
""",
    )
    for number in range(4):
        assert len(gilscope.read(tmp_path / f"{number}.pftrace").holds) > 1


def test_one_inside_another_and_in_threads(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
with gilscope.trace("outer.pftrace"):
    time.sleep(0.2)
    with gilscope.trace("inner.pftrace"):
        time.sleep(0.2)
    time.sleep(0.2)
def one(number):
    time.sleep(0.05 * number)
    with gilscope.trace(f"thread-{number}.pftrace"):
        time.sleep(0.2)
workers = [threading.Thread(target=one, args=(number,)) for number in range(3)]
for worker in workers: worker.start()
for worker in workers: worker.join()
""",
    )
    outer, inner = (gilscope.read(tmp_path / f"{name}.pftrace") for name in ("outer", "inner"))
    assert inner.metadata.start_ns > outer.metadata.start_ns
    assert 0 < len(inner.holds) < len(outer.holds)
    for number in range(3):
        assert {"nap", "spin"} <= names(gilscope.read(tmp_path / f"thread-{number}.pftrace"))


def test_around_a_fork(tmp_path: Path) -> None:
    (line,) = run(
        tmp_path,
        """
with gilscope.trace("parent.pftrace"):
    child = os.fork()
    if child == 0:
        one = threading.Thread(target=sum, args=(range(1000),)); one.start(); one.join()
    else:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
if child == 0:
    with gilscope.trace("child.pftrace"):
        time.sleep(0.05)
    os._exit(5)
print("/rings" in open("/proc/self/maps").read())
""",
    )
    assert line == "False"
    parent = open_trace(tmp_path / "parent.pftrace").metadata
    assert len(parent.processes) == 2
    assert len(open_trace(tmp_path / "child.pftrace").metadata.processes) == 1


def test_mistakes(tmp_path: Path) -> None:
    lines = run(
        tmp_path,
        """
def told(action):
    try:
        action()
    except GilscopeError as error:
        print(type(error).__name__, error)
told(gilscope.trace.stop)
told(lambda: gilscope.trace("/no/such/folder/out.pftrace"))
told(lambda: gilscope.install(policy="fair"))
with gilscope.trace("out.pftrace") as recording: pass
told(recording.stop)
""",
    )
    assert [line.split()[0] for line in lines] == ["UsageError"] * 4
    assert "trace.start before trace.stop" in lines[0]


def test_a_program_that_is_recorded_already(tmp_path: Path) -> None:
    record = [*GILSCOPE, "record", "--quiet", "-o", "all.pftrace"]
    (line,) = run(
        tmp_path,
        """
try:
    with gilscope.trace("out.pftrace"): pass
except GilscopeError as error:
    print(error)
""",
        *record,
    )
    assert "was started by gilscope" in line
    assert not (tmp_path / "out.pftrace").exists()


@pytest.mark.parametrize("first", ["", "import gilscope.sync"])
def test_a_policy_and_atomic_sections_later(tmp_path: Path, first: str) -> None:
    lines = run(
        tmp_path,
        f"""
{first or "pass"}
def section():
    try:
        with gilscope.atomic:
            sum(range(2000))
        print("atomic")
    except Exception as error:
        print(type(error).__name__)
if {bool(first)}: section()
gilscope.install(policy="io-priority")
section()
with gilscope.trace("out.pftrace"):
    section()
    time.sleep(0.2)
section()
gilscope.install(policy="classic")
section()
""",
    )
    assert lines == [*(["GilscopeError"] if first else []), *["atomic"] * 4]
    trace = gilscope.read(tmp_path / "out.pftrace")
    assert {"nap", "spin"} <= names(trace)

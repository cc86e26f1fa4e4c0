"""gilscope attach: into programs that run already, and out of them again."""

from __future__ import annotations

import ast
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from support import interpreters
from support.attached import (
    SERVER,
    Target,
    attach,
    attach_command,
    attaching,
    is_recorded,
    running,
    wait_until,
)

import gilscope
from gilscope.analysis.summary import summarise
from gilscope.perfetto.reader import open_trace
from gilscope.trace.model import Trace

ALL = interpreters.names()
SOME = ["3.9", "3.13", *(name for name in ("3.14", "3.15") if name in ALL), interpreters.PLUS]

# Threads that nap beside one that computes. Each line of its input is carried out, by MainThread.
NAPS = """
import ctypes, os, sys, threading, time
over = threading.Event()
def nap():
    while not over.is_set(): time.sleep(0.001)
def spin():
    while not over.is_set(): sum(range(1000))
threads = [threading.Thread(target=nap, name=f"nap-{i}") for i in range(3)]
threads.append(threading.Thread(target=spin, name="spin"))
for thread in threads: thread.start()
print("ready", flush=True)
for line in sys.stdin: exec(line)
over.set()
for thread in threads: thread.join()
print("fine", flush=True)
"""

COMPUTES = """
import select, sys
print("ready", flush=True)
x = 1.5
while not select.select([sys.stdin], [], [], 0)[0]:
    for i in range(3000000):
        x = x * 1.0000001 + 0.25 if x < 1e9 else 1.5
print("fine", flush=True)
"""

SLEEPS = """
import sys, threading
wake = threading.Event()
threads = [threading.Thread(target=wake.wait, name=f"sleeper-{i}") for i in range(3)]
for thread in threads: thread.start()
print("ready", flush=True)
sys.stdin.readline()
wake.set()
for thread in threads: thread.join()
print("fine", flush=True)
"""


@pytest.fixture(params=ALL)
def python(request: pytest.FixtureRequest) -> Path:
    return _path(request.param)


@pytest.fixture(params=SOME)
def some_python(request: pytest.FixtureRequest) -> Path:
    return _path(request.param)


def _path(name: str) -> Path:
    try:
        return interpreters.path(name)
    except LookupError as missing:
        pytest.fail(str(missing), pytrace=False)


def test_a_loaded_server_five_times(python: Path, tmp_path: Path) -> None:
    with running(python, SERVER) as server:
        before = server.footprint()
        first = None
        for number in range(5):
            trace = tmp_path / f"{number}.pftrace"
            done = attach(server, trace, "-d", "0.3")
            assert (done.returncode, done.stdout) == (0, ""), done.stderr
            recorded = gilscope.read(trace)
            assert recorded.metadata.processes[0].attached
            names = {thread.name for thread in recorded.metadata.threads}
            assert {"echo", "spin", "pair"} <= names
            assert len(recorded.holds) > 10
            assert not is_recorded(server.pid)
            first = first or server.footprint()
            wait_until(lambda then=first: server.footprint() == then)
        assert first is not None
        assert first[1:] == before[1:]
        ours = [line for line in first[0] if line.rpartition("/")[2].startswith("_probe")]
        assert sorted(set(first[0]) - set(ours)) == sorted(set(before[0]))
        code, out = server.end()
        assert (code, out.split()[0]) == (0, "fine"), out


def test_who_only_computes(some_python: Path, tmp_path: Path) -> None:
    trace = tmp_path / "out.pftrace"
    with running(some_python, COMPUTES) as program:
        for _ in range(2):
            done = attach(program, trace, "-d", "0.3")
            assert done.returncode == 0, done.stderr
            assert not is_recorded(program.pid)
        recorded = gilscope.read(trace)
        (process,) = recorded.metadata.processes
        life = process.end_ns - process.start_ns if process.end_ns else 0
        held = int((recorded.holds["end_ns"] - recorded.holds["start_ns"]).sum())
        assert life >= held > 0.9 * life
        assert program.end() == (0, "fine\n")


def test_who_sleeps_is_recorded_from_when_it_wakes(some_python: Path, tmp_path: Path) -> None:
    trace = tmp_path / "out.pftrace"
    with running(some_python, SLEEPS) as program:
        done = attach(program, trace, "-d", "0.2")
        assert done.returncode == 0
        assert "no thread of process" in done.stderr
        assert not any("_probe" in path for path in program.libraries())
        with _started(program, trace) as process:
            assert "all threads of process" in (process.stderr.readline() if process.stderr else "")
            assert program.end() == (0, "fine\n")
            assert process.wait(60) == 0
    recorded = gilscope.read(trace)
    assert {"sleeper-0", "sleeper-1", "sleeper-2"} <= {t.name for t in recorded.metadata.threads}


def _started(program: Target, trace: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(attach_command(program.pid, trace), stderr=subprocess.PIPE, text=True)


HOLD = (
    "a = time.monotonic_ns(); ctypes.PyDLL(None).usleep(30000); b = time.monotonic_ns();"
    "stamps.append((a, b))"
)


def test_what_it_says_is_what_the_program_saw(python: Path, tmp_path: Path) -> None:
    """Holds of 30 ms in C, stamped before and behind by the thread that holds."""
    trace = tmp_path / "out.pftrace"
    with running(python, NAPS) as program:
        program.say("stamps = []")
        with attaching(program, trace) as process:
            for _ in range(5):
                program.say(HOLD)
            program.say("print(stamps, flush=True)")
            stamps = ast.literal_eval(program.line())
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        assert program.end() == (0, "fine\n")
    recorded = gilscope.read(trace)
    (main,) = (i for i, t in enumerate(recorded.metadata.threads) if t.name == "MainThread")
    holds = recorded.holds[recorded.holds["thread"] == main]
    waits = recorded.waits[recorded.waits["thread"] != main]
    assert len(stamps) == 5
    for before, behind in stamps:
        # A forced yield may come between a stamp and the call, so the two may be in other holds.
        inside = np.minimum(holds["end_ns"], behind) - np.maximum(holds["start_ns"], before)
        assert (inside >= 30_000_000).sum() == 1
        (its,) = holds[inside >= 30_000_000]
        meanwhile = (waits["start_ns"] < its["end_ns"]) & (waits["end_ns"] >= its["end_ns"])
        assert meanwhile.sum() >= 3


COLLECTS = "import gc; gc.collect(); gc.collect()"


@pytest.mark.parametrize("policy", ["classic", "io-priority"])
def test_an_interpreter_with_a_probe_records_by_that(
    policy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python Plus knows each collection, and its condition variables may be gilscope's own."""
    monkeypatch.setenv("GILSCOPE_POLICY", policy)
    traces = [tmp_path / "first.pftrace", tmp_path / "second.pftrace"]
    with running(_path(interpreters.PLUS), NAPS) as program:
        for trace in traces:
            with attaching(program, trace) as process:
                program.say(f"{COLLECTS}; print('collected', flush=True)")
                assert program.line() == "collected"
                process.send_signal(signal.SIGINT)
                assert process.wait(60) == 0
            assert not is_recorded(program.pid)
        assert program.end() == (0, "fine\n")
    for trace in traces:
        summary = summarise(gilscope.read(trace))
        (its,) = summary["processes"]
        assert its["feed"] == "built-in"
        assert its["gc"]["collections"] >= 2
        assert {"nap-0", "spin", "MainThread"} <= {one["name"] for one in its["threads"]}


def test_a_policy_is_not_brought_into_an_interpreter_that_has_its_own(tmp_path: Path) -> None:
    with running(_path(interpreters.PLUS), NAPS) as program:
        done = attach(program, tmp_path / "out.pftrace", "--policy", "io-priority")
        assert done.returncode == 4
        assert "-X gilscope.policy" in done.stderr
        assert program.end() == (0, "fine\n")


def test_children_are_recorded_and_are_clean_again(some_python: Path, tmp_path: Path) -> None:
    trace = tmp_path / "out.pftrace"
    with running(some_python, SERVER) as server:
        with attaching(server, trace) as process:
            server.say("spawn")
            assert server.line() == "b'42\\n'"
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        processes = open_trace(trace).metadata.processes
        forked = [one for one in processes if one.parent is not None and one.python]
        started = [one for one in processes if one.command[1:] == ("-c", "print(7 * 6)")]
        assert forked
        assert len(started) == 1
        assert [one.pid for one in processes if one.attached] == [server.pid]
        wait_until(lambda: not _children_with_rings(server.pid))
        server.say("spawn")
        assert server.line() == "b'42\\n'"
        assert server.end()[0] == 0


def test_what_starts_programs_may_be_imported_later(some_python: Path, tmp_path: Path) -> None:
    trace = tmp_path / "out.pftrace"
    run = "subprocess.run([sys.executable, '-c', 'print(7 * 6)'], stdout=-1)"
    spawn = f"print({run}.stdout, flush=True)"
    with running(some_python, NAPS) as program:
        program.say("print('subprocess' in sys.modules, flush=True)")
        assert program.line() == "False"
        with attaching(program, trace) as process:
            program.say(f"import subprocess, resource; {spawn}")
            assert program.line() == "b'42\\n'"
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        processes = open_trace(trace).metadata.processes
        assert [one.command[1:] for one in processes[1:]] == [("-c", "print(7 * 6)")]
        done = attach(program, trace, "-d", "0.2")  # nothing of the first is left in the slots
        assert done.returncode == 0, done.stderr
        program.say(spawn)
        assert program.line() == "b'42\\n'"
        assert program.end() == (0, "fine\n")


def _children_with_rings(pid: int) -> list[int]:
    children = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that ended
            text = Path(f"/proc/{pid}/task/{task}/children").read_text()
            children += [int(child) for child in text.split()]
    return [child for child in children if is_recorded(child)]


def test_children_that_were_there(some_python: Path, tmp_path: Path) -> None:
    trace = tmp_path / "out.pftrace"
    forks = """
import os, sys, time
children = []
for _ in range(3):
    child = os.fork()
    if child == 0:
        while os.getppid() != 1: time.sleep(0.001)
        os._exit(0)
    children.append(child)
print("ready", flush=True)
while not __import__("select").select([sys.stdin], [], [], 0.001)[0]: pass
for child in children: os.kill(child, 9); os.waitpid(child, 0)
print("fine", flush=True)
"""
    with running(some_python, forks) as program:
        done = attach(program, trace, "-d", "1")
        assert done.returncode == 0, done.stderr
        assert len(open_trace(trace).metadata.processes) == 4
        done = attach(program, trace, "-d", "0.5", "--no-follow")
        assert done.returncode == 0, done.stderr
        assert len(open_trace(trace).metadata.processes) == 1
        assert program.end() == (0, "fine\n")


def test_the_recording_ends_with_the_program(some_python: Path, tmp_path: Path) -> None:
    trace = tmp_path / "out.pftrace"
    with running(some_python, NAPS) as program, attaching(program, trace) as process:
        program.process.kill()
        program.process.wait()
        assert process.wait(60) == 0
    assert len(gilscope.read(trace).holds) > 0


def test_a_part_and_a_flight_recorder(some_python: Path, tmp_path: Path) -> None:
    trace = tmp_path / "out.pftrace"
    with running(some_python, NAPS) as program:
        done = attach(program, trace, "--delay", "0.3", "-d", "0.3", "--no-stacks")
        assert done.returncode == 0, done.stderr
        recorded = gilscope.read(trace)
        assert recorded.metadata.kept_from_ns is not None
        with attaching(program, trace, "--keep", "5") as process:
            wait_until(lambda: is_recorded(program.pid))
            snapshot = tmp_path / "now.pftrace"
            done = subprocess.run(
                [sys.executable, "-m", "gilscope", "snapshot", str(program.pid), "-o", snapshot],
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            assert isinstance(gilscope.read(snapshot), Trace)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        assert len(gilscope.read(trace).holds) > 0
        assert program.end() == (0, "fine\n")


def test_killed_attachers_do_no_harm(some_python: Path, tmp_path: Path) -> None:
    """At moments before, in the middle of, and after coming in; the next one cleans up."""
    trace = tmp_path / "out.pftrace"
    with running(some_python, SERVER) as server:
        before = server.footprint()
        for number in range(8):
            process = subprocess.Popen(attach_command(server.pid, trace, "-d", "9"))
            if number % 2:
                wait_until(lambda: is_recorded(server.pid))
            time.sleep(0.05 * number)  # any moment will do
            process.kill()
            process.wait()
        done = attach(server, trace, "-d", "0.3")
        assert done.returncode == 0, done.stderr
        assert len(gilscope.read(trace).holds) > 5
        assert not is_recorded(server.pid)
        files, *rest = server.footprint()
        assert rest == list(before[1:])
        assert not [line for line in files if "/gilscope-" in line]
        code, out = server.end()
        assert (code, out.split()[0]) == (0, "fine"), out
    _remove_left_behind()


def _remove_left_behind() -> None:
    from gilscope.recorder import left  # noqa: PLC0415

    for one in left.found():
        if any("over = threading.Event()" in word for word in one.command) and not one.programs:
            left.remove(one.directory)

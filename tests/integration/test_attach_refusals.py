"""What gilscope attach refuses: in one line, with exit code 4, and the process untouched."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from support import interpreters
from support.attached import Target, attach, attaching, running, wait_until
from support.recorded import GILSCOPE

from gilscope.live import tasks

PROGRAM = """
import select, sys
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0.001)[0]: pass
print("fine", flush=True)
"""

# The GIL is kept in C, as an extension may.
IN_C = """
import ctypes, sys
print("ready", flush=True)
ctypes.PyDLL(None).read(0, ctypes.create_string_buffer(1), 1)
print("fine", flush=True)
"""


@pytest.fixture
def python() -> Path:
    return interpreters.path("3.11")


def refused(target: Target, folder: Path, *options: str) -> str:
    """Why."""
    before = target.footprint()
    done = attach(target, folder / "out.pftrace", *options)
    assert done.returncode == 4, done.stderr
    assert not (folder / "out.pftrace").exists()
    assert target.footprint() == before
    (line,) = done.stderr.splitlines()
    assert line.startswith("gilscope: ")
    return line


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*GILSCOPE, "attach", *words], capture_output=True, text=True, timeout=60, check=False
    )


def test_no_such_process() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    done = command(str(gone.pid))
    assert (done.returncode, done.stderr) == (4, f"gilscope: there is no process {gone.pid}\n")
    assert command("0").returncode == 2


def test_no_python(tmp_path: Path) -> None:
    other = subprocess.Popen(["sleep", "60"])
    try:
        done = command(str(other.pid), "-o", str(tmp_path / "out.pftrace"))
        assert done.returncode == 4
        assert "runs no Python" in done.stderr
    finally:
        other.kill()
        other.wait()


def test_one_that_is_stopped(python: Path, tmp_path: Path) -> None:
    with running(python, PROGRAM) as program:
        os.kill(program.pid, signal.SIGSTOP)
        wait_until(lambda: tasks.state(program.pid) == "T")
        line = refused(program, tmp_path)
        assert f"kill -CONT {program.pid}" in line
        os.kill(program.pid, signal.SIGCONT)
        assert program.end() == (0, "fine\n")


def test_one_that_never_lets_the_gil_go(python: Path, tmp_path: Path) -> None:
    with running(python, IN_C) as program:
        assert "has kept the GIL for 5 s" in refused(program, tmp_path)
        assert program.end() == (0, "fine\n")


def test_one_that_is_attached_to(python: Path, tmp_path: Path) -> None:
    with running(python, PROGRAM) as program:
        with attaching(program, tmp_path / "first.pftrace"):
            assert "another gilscope attaches to process" in refused(program, tmp_path)
        assert program.end() == (0, "fine\n")


def test_one_that_is_recorded(python: Path, tmp_path: Path) -> None:
    recorder = subprocess.Popen(
        [*GILSCOPE, "record", "--quiet", "-o", tmp_path / "r.pftrace", python, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert recorder.stdout
    assert recorder.stdout.readline() == "ready\n"
    (pid,) = Path(f"/proc/{recorder.pid}/task/{recorder.pid}/children").read_text().split()
    done = command(pid, "-o", str(tmp_path / "out.pftrace"))
    assert done.returncode == 4
    assert re.search(rf"process {pid} is recorded already, by gilscope \(pid \d+\)", done.stderr)
    assert recorder.communicate(timeout=60)[0] == "fine\n"
    assert recorder.returncode == 0


def test_one_that_came_with_the_probe(python: Path, tmp_path: Path) -> None:
    runner = subprocess.Popen(
        [*GILSCOPE, "run", "--policy", "classic", python, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert runner.stdout
    assert runner.stdout.readline() == "ready\n"
    (pid,) = Path(f"/proc/{runner.pid}/task/{runner.pid}/children").read_text().split()
    done = command(pid, "-o", str(tmp_path / "out.pftrace"))
    assert done.returncode == 4
    assert len(done.stderr.splitlines()) == 1
    assert runner.communicate(timeout=60)[0] == "fine\n"


def test_a_trace_that_cannot_be_written_is_found_out_before(python: Path) -> None:
    with running(python, PROGRAM) as program:
        before = program.footprint()
        done = attach(program, Path("/no/such/folder/out.pftrace"))
        assert done.returncode == 2
        assert program.footprint() == before
        assert program.end() == (0, "fine\n")

"""Runs a program without gilscope and with it, and holds what the world sees of both equal."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import gilscope
from gilscope.trace.model import Trace

GILSCOPE = (sys.executable, "-m", "gilscope")
DEADLINE_S = 120  # nothing here takes a tenth of it; past it the test fails instead of hanging

# What a program of these tests imports for a moment of work on the GIL by named threads.
WORK = """
import os, threading

def work(turns=20):
    for _ in range(turns):
        os.stat("/")  # gives the GIL up and takes it again

def crew(number=3, turns=20):
    threads = [
        threading.Thread(target=work, args=(turns,), name=f"crew-{i}") for i in range(number)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


@dataclass(frozen=True)
class Outcome:
    """What a program leaves to the world. `said` are gilscope's own lines, taken out of stderr."""

    code: int  # 128+N for signal N
    stdout: str
    stderr: str
    files: dict[str, bytes]
    said: list[str] = field(compare=False)


@dataclass(frozen=True)
class Recording:
    """A recorded run and its trace."""

    outcome: Outcome
    path: Path

    def trace(self, lost: int = 0) -> Trace:
        """The trace, read to its end by the story checker, with exactly this many lost events."""
        trace = gilscope.read(self.path)
        assert trace.metadata.lost_events == lost
        assert trace.metadata.exit_code == self.outcome.code
        return trace

    def said(self, part: str) -> bool:
        """Whether one of gilscope's lines has this in it."""
        return any(part in line for line in self.outcome.said)


def thread_names(trace: Trace, process: int | None = None) -> list[str]:
    """Names in the table of threads, of one process (its id) or of all."""
    return [t.name for t in trace.metadata.threads if process in (None, t.process)]


def script(folder: Path, source: str, name: str = "program.py") -> Path:
    """A program's file, outside the folders that are compared."""
    path = folder / name
    path.write_text(source, encoding="utf-8")
    return path


@contextmanager
def rings_folder() -> Iterator[Path]:
    """A folder for rings that must be as empty in the end as it was."""
    with memory_folder() as folder:
        yield folder
        assert list(folder.iterdir()) == []


@contextmanager
def memory_folder() -> Iterator[Path]:
    """A folder in memory; what is left in it goes with it."""
    folder = Path(tempfile.mkdtemp(prefix="gilscope-test-", dir="/dev/shm"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def recording(
    trace: Path, command: Sequence[str | Path], options: Sequence[str] = ("--no-summary",)
) -> list[str]:
    """The command line that records `command` into `trace`."""
    return [*GILSCOPE, "record", "-o", str(trace), *options, "--", *map(str, command)]


def run(
    command: Sequence[str | Path],
    folder: Path,
    environment: Mapping[str, str] | None = None,
    during: Callable[[subprocess.Popen[str]], None] | None = None,
    stdin: str = "",
) -> Outcome:
    """Run a command in an empty folder; `during` is called when it has been started."""
    folder.mkdir()
    (given := folder.with_suffix(".stdin")).write_text(stdin, encoding="utf-8")
    with (
        given.open(encoding="utf-8") as standard_input,
        subprocess.Popen(
            list(map(str, command)),
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdin=standard_input,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        try:
            if during:
                during(process)
            out, errors = process.communicate(timeout=DEADLINE_S)
        except BaseException:
            end_session(process.pid)
            raise
    lines = errors.splitlines(keepends=True)
    return Outcome(
        code=process.returncode if process.returncode >= 0 else 128 - process.returncode,
        stdout=out,
        stderr="".join(line for line in lines if not line.startswith("gilscope: ")),
        files={
            str(p.relative_to(folder)): p.read_bytes()
            for p in sorted(folder.rglob("*"))
            if p.is_file()
        },
        said=[line for line in lines if line.startswith("gilscope: ")],
    )


def end_session(leader: int) -> None:
    """Kill a process and those that it started, whose session it leads."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return


def same(
    tmp_path: Path,
    command: Sequence[str | Path],
    *,
    options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    within: Sequence[str] = (),
    during: Callable[[subprocess.Popen[str]], None] | None = None,
    stdin: str = "",
) -> Recording:
    """Run a command plain and recorded: exit code, output and files are the same.

    `within` is what both run under: `("sh", "-c", 'ulimit -n 64; exec "$@"', "sh")`.
    """
    trace = tmp_path / "trace.pftrace"
    with rings_folder() as rings:
        surroundings = {"GILSCOPE_DIR": str(rings), **(environment or {})}
        plain = run([*within, *command], tmp_path / "plain", surroundings, during, stdin)
        record = recording(trace, command, ("--no-summary", *options))
        recorded = run([*within, *record], tmp_path / "recorded", surroundings, during, stdin)
    assert recorded == plain, f"\nplain:    {plain}\nrecorded: {recorded}"
    return Recording(recorded, trace)


def require_root() -> None:
    """Fail, with a line that says why, where users, roots and cgroups cannot be changed."""
    if os.geteuid() != 0:
        pytest.fail("this test changes its user, root or cgroup: run it as root", pytrace=False)


def limited(limits: str) -> tuple[str, ...]:
    """For `within`: a shell's ulimit."""
    return ("sh", "-c", f'{limits} && exec "$@"', "sh")


def await_line(path: Path, timeout_s: float = DEADLINE_S) -> str:
    """What somebody writes into the FIFO `path`, once; fails when nobody does."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        assert poll.poll(timeout_s * 1000), f"nobody wrote to {path.name}"
        return os.read(descriptor, 4096).decode()
    finally:
        os.close(descriptor)


def children_of(pid: int) -> list[int]:
    """Pids of a process's children, from the kernel."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    except OSError:
        return []
    return [int(word) for word in text.split()]


def state_of(pid: int) -> str:
    """The kernel's letter for what a process does."""
    text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    return text.rpartition(")")[2].split()[0]


def await_state(condition: Callable[[], bool], process: subprocess.Popen[str]) -> bool:
    """Look again and again until `condition` holds; False when the process ended before."""
    end = time.monotonic() + DEADLINE_S
    while process.poll() is None:
        if condition():
            return True
        assert time.monotonic() < end, "what was waited for did not happen"
        os.sched_yield()
    return False


SECCOMP = """
import ctypes, errno, struct

def forbid(*calls):
    '''From now on these system calls fail with EPERM, in this process and its children.'''
    def line(code, k, true=0, false=0):
        return struct.pack("<HBBI", code, true, false, k)
    program = line(0x20, 0)  # the call's number
    for number in calls:
        program += line(0x15, number, 0, 1) + line(0x06, 0x00050000 | errno.EPERM)
    program += line(0x06, 0x7FFF0000)
    buffer = ctypes.create_string_buffer(program)
    head = struct.pack("<HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
    assert libc.prctl(22, 2, head, 0, 0) == 0, ctypes.get_errno()  # PR_SET_SECCOMP
"""

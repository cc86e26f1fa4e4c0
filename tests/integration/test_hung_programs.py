"""`gilscope stacks` of programs that hang: who waits for what, and who waits in a circle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import interpreters
from support.hung_programs import (
    C_CALL,
    CIRCLES,
    IDLE,
    LOCK_AND_GIL,
    LOST_RELEASE,
    Hung,
)
from support.live_programs import running

SEMAPHORES = [  # interpreters whose Lock is a semaphore
    name for name in interpreters.names() if name not in ("3.14", "3.15", interpreters.PLUS)
]


def gilscope(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gilscope", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def _stacks(pid: int) -> dict[str, Any]:
    done = gilscope("stacks", pid, "--json")
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    assert said["schema"] == 1
    assert said["pid"] == pid
    return said


def _until(pid: int, reached: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    end = time.monotonic() + 60
    while not reached(said := _stacks(pid)):
        assert time.monotonic() < end, said
        time.sleep(0.05)
    return said


def _named(said: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {thread["name"]: thread for thread in said["threads"]}


def _own_line(thread: dict[str, Any]) -> int | None:
    """The innermost line of the program itself."""
    return next((f["line"] for f in thread["frames"] if f["file"] == "<string>"), None)


def _assert_circle(hung: Hung, said: dict[str, Any]) -> None:
    threads = _named(said)
    names = {thread["tid"]: name for name, thread in threads.items()}
    (deadlock,) = said["deadlocks"]
    circle = [names[tid] for tid in deadlock["threads"]]
    expected = [name for name, _, _ in hung.circle]
    turn = circle.index(expected[0])
    assert circle[turn:] + circle[:turn] == expected
    for index, (name, kind, how) in enumerate(hung.circle):
        wait = threads[name]["waits_for"]
        holder = expected[(index + 1) % len(expected)]
        assert wait["kind"] == kind
        assert wait["holder"] == threads[holder]["tid"]
        assert wait["holder_known_by"] == how
        assert not wait["has_time_limit"]
        assert _own_line(threads[name]) == hung.line(name)


# Each of these finds locks in frames in a way of its own: blocks, table, mutexes.
WAYS = ("3.9", "3.11", "3.13", "3.14", "3.15", interpreters.PLUS)


@pytest.mark.parametrize(
    ("python", "name"),
    [
        (python, name)
        for python in interpreters.names()
        for name in (CIRCLES if python in WAYS else ("two-locks", "import"))
    ],
)
def test_a_circle_is_named_with_all_its_threads_and_lines(python: str, name: str) -> None:
    hung = CIRCLES[name]
    with running(interpreters.path(python), hung.source) as (process, _):
        said = _until(process.pid, lambda said: bool(said["deadlocks"]))
        _assert_circle(hung, said)
        page = gilscope("stacks", process.pid)
        assert page.returncode == 0
        assert "DEADLOCK" in page.stdout
        for thread, _, _ in hung.circle:
            assert f"<string>:{hung.line(thread)}" in page.stdout


@pytest.mark.parametrize("name", SEMAPHORES)
def test_c_code_that_waits_for_a_lock_with_the_gil(name: str) -> None:
    with running(interpreters.path(name), LOCK_AND_GIL.source) as (process, _):
        _assert_circle(LOCK_AND_GIL, _until(process.pid, lambda said: bool(said["deadlocks"])))


def test_a_call_into_c_that_keeps_the_gil(interpreter: Path) -> None:
    with running(interpreter, C_CALL.source) as (process, _):
        said = _until(
            process.pid,
            lambda said: (
                [t["name"] for t in said["threads"] if t["gil"] == "holds"] == ["solver"]
                and any(t["gil"] == "waits" for t in said["threads"])
            ),
        )
        threads = _named(said)
        (gil,) = said["gils"]
        assert gil["holder"] == threads["solver"]["tid"]
        assert gil["locked"]
        assert _own_line(threads["solver"]) == C_CALL.line("solver")
        assert threads["solver"]["call"] in ("clock_nanosleep", "nanosleep")
        wait = threads["MainThread"]["waits_for"]
        assert (wait["kind"], wait["holder"]) == ("gil", threads["solver"]["tid"])
        assert said["deadlocks"] == []
        assert "solver" in gilscope("stacks", process.pid).stdout


def test_a_lock_that_nobody_notes(interpreter: Path) -> None:
    """Who took it is unknown, and is said to be."""
    with running(interpreter, LOST_RELEASE.source) as (process, _):
        said = _until(
            process.pid, lambda said: _named(said).get("waiter", {}).get("waits_for") is not None
        )
        wait = _named(said)["waiter"]["waits_for"]
        assert (wait["kind"], wait["holder"], wait["holder_known_by"]) == ("lock", None, None)
        assert said["deadlocks"] == []
        assert "who has it is not known" in gilscope("stacks", process.pid).stdout


def test_waits_that_are_none_of_a_deadlock(interpreter: Path) -> None:
    names = ("notified", "consumer", "patient", "listener", "outside")
    with running(interpreter, IDLE.source) as (process, _):
        said = _until(
            process.pid,
            lambda said: all(
                _named(said).get(name, {}).get("waits_for") is not None for name in names
            ),
        )
        threads = _named(said)
        for name in names[:4]:
            assert threads[name]["waits_for"]["kind"] == "condition"
            assert threads[name]["waits_for"]["holder"] is None
            assert _own_line(threads[name]) == IDLE.line(name)
        assert threads["patient"]["waits_for"]["has_time_limit"]
        wait = threads["outside"]["waits_for"]
        assert (wait["kind"], wait["holder"]) == ("lock", threads["inside"]["tid"])
        assert said["deadlocks"] == []


def test_who_cannot_be_read_is_told_within_five_seconds(tmp_path: Path) -> None:
    ended = subprocess.Popen(["/bin/true"])
    ended.wait()
    sleeper = subprocess.Popen(["/bin/sleep", "600"])
    try:
        for pid, line in ((ended.pid, "there is no process"), (sleeper.pid, "runs no Python")):
            began = time.monotonic()
            done = gilscope("stacks", pid)
            assert time.monotonic() - began < 30  # of a busy machine; nothing in it waits
            assert done.returncode == 4
            assert done.stdout == ""
            assert done.stderr.startswith("gilscope: ")
            assert done.stderr.count("\n") == 1
            assert line in done.stderr
        assert gilscope("stacks", "0").returncode == 2
        assert gilscope("stacks", "me").returncode == 2
    finally:
        sleeper.kill()
        sleeper.wait()


def test_the_process_is_left_as_it_was(interpreter: Path) -> None:
    """Not stopped, not written to: its memory's mappings, descriptors and threads are the same."""

    def state(pid: int) -> list[object]:
        folder = Path(f"/proc/{pid}")
        return [
            (folder / "maps").read_text(),
            sorted(one.name for one in (folder / "task").iterdir()),
            sorted(one.name for one in (folder / "fd").iterdir()),
            [
                line
                for line in (folder / "status").read_text().splitlines()
                if line.startswith(("TracerPid", "State", "SigPnd", "ShdPnd"))
            ],
        ]

    with running(interpreter, LOST_RELEASE.source) as (process, _):
        _until(
            process.pid, lambda said: _named(said).get("waiter", {}).get("waits_for") is not None
        )
        before = state(process.pid)
        for _ in range(3):
            _stacks(process.pid)
        assert state(process.pid) == before


AS_NOBODY = """
import os, sys
from gilscope.errors import NotAllowed
from gilscope.live.picture import take
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    take(int(sys.argv[1]))
except NotAllowed as error:
    sys.exit(f"{error.exit_code} {error}")
"""


def test_another_users_process_is_refused() -> None:
    with running(interpreters.path("3.13"), LOST_RELEASE.source) as (process, _):
        pid = process.pid if os.geteuid() == 0 else 1  # which is root's
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, str(pid)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.stderr.startswith(f"4 process {pid} belongs to another user")
        assert "run gilscope as that user, or as root" in done.stderr
        assert process.poll() is None


def test_a_process_in_a_container(tmp_path: Path) -> None:
    """With pids and a /proc of its own: it is told by the numbers that are known here."""
    flags = "-pf" if os.geteuid() == 0 else "-Urpf"
    hung = CIRCLES["rlocks"]
    before = ("unshare", flags, "--mount-proc")
    with running(interpreters.path("3.9"), hung.source, before=before) as (process, inside):
        (child,) = (
            int(pid)
            for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        )
        assert child != inside
        said = _until(child, lambda said: bool(said["deadlocks"]))
        _assert_circle(hung, said)
        here = {int(one.name) for one in Path(f"/proc/{child}/task").iterdir()}
        assert {thread["tid"] for thread in said["threads"]} == here

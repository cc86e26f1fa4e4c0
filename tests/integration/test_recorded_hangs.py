"""Programs that hang, recorded: the recording has the circle, or the line, however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
    MUTEX_AND_GIL,
    TWO_LOCKS,
    Hung,
)

from gilscope.recorder.notes import LOOKS

SEMAPHORES = [  # interpreters whose Lock is a semaphore
    name for name in interpreters.names() if name not in ("3.14", "3.15", interpreters.PLUS)
]


class Recording:
    """`gilscope record` of a program that hangs."""

    def __init__(self, folder: Path, process: subprocess.Popen[str], pid: int) -> None:
        self.trace = folder / "hung.pftrace"
        self.process = process
        self.pid = pid  # of the program
        self._folder = folder

    @property
    def looks(self) -> dict[str, Any]:
        """What is beside the rings by now."""
        for file in self._folder.glob(f"rings/*/{LOOKS}"):
            said: dict[str, Any] = json.loads(file.read_text())
            return said
        return {"looks": [], "circles": []}

    def until_seen(self, looks: int, circles: int) -> None:
        end = time.monotonic() + 60
        while len(self.looks["looks"]) < looks or len(self.looks["circles"]) < circles:
            assert time.monotonic() < end, self.looks
            time.sleep(0.05)

    def end(self, number: int = signal.SIGKILL) -> dict[str, Any]:
        """End the program, and return the summary."""
        os.kill(self.pid, number)
        self.process.communicate(timeout=60)
        return summary(self.trace)


def gilscope(*arguments: object) -> str:
    command = [sys.executable, "-m", "gilscope", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return done.stdout


def summary(trace: Path) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(gilscope("summary", trace, "--json"))
    return said


@contextmanager
def recording(
    folder: Path, python: Path, hung: Hung, *options: str, **environment: str
) -> Iterator[Recording]:
    program, rings = folder / "hung.py", folder / "rings"
    program.write_text(hung.source)
    rings.mkdir()
    command = [sys.executable, "-m", "gilscope", "record", "--no-summary", *options]
    process = subprocess.Popen(
        [*command, "-o", str(folder / "hung.pftrace"), str(python), str(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "GILSCOPE_DIR": str(rings), **environment},
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        yield Recording(folder, process, json.loads(process.stdout.readline()))
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def _assert_deadlock(hung: Hung, said: dict[str, Any]) -> None:
    first = said["findings"][0]
    assert (first["severity"], first["kind"]) == ("problem", "deadlock"), said["findings"]
    threads = {t["id"]: t["name"] for p in said["processes"] for t in p["threads"]}
    names = [name for name, _, _ in hung.circle]
    assert threads[first["thread"]] in names
    assert first["value_ns"] >= 1_000_000_000
    assert first["site"]["line"] in {hung.line(name) for name in names}
    for index, name in enumerate(names):
        holder = names[(index + 1) % len(names)]
        begin = first["text"].index(f"`{name}` waits in hung.py:{hung.line(name)}")
        assert f"`{holder}`" in first["text"][begin:].split(";")[0]


@pytest.mark.parametrize(
    ("name", "hung"),
    [
        *(("3.11", name) for name in CIRCLES),
        *((name, "two-locks") for name in interpreters.names() if name != "3.11"),
        (interpreters.PLUS, "mutex-and-gil"),
    ],
)
def test_a_deadlock_is_the_verdict(name: str, hung: str, tmp_path: Path) -> None:
    with recording(tmp_path, interpreters.path(name), CIRCLES[hung]) as it:
        it.until_seen(0, 1)
        _assert_deadlock(CIRCLES[hung], it.end())


@pytest.mark.parametrize("name", SEMAPHORES[-1:])
def test_a_lock_and_the_gil(name: str, tmp_path: Path) -> None:
    with recording(tmp_path, interpreters.path(name), LOCK_AND_GIL) as it:
        it.until_seen(0, 1)
        _assert_deadlock(LOCK_AND_GIL, it.end())


@pytest.mark.parametrize("name", ["3.9", "3.13"])
def test_a_hold_that_nobody_asked_for(name: str, tmp_path: Path) -> None:
    """The whole process is one call into C: nobody asks, and no hold ends."""
    alone = Hung(C_CALL.program.replace("while True:\n    time.sleep(0.01)", "time.sleep(600)"))
    with recording(tmp_path, interpreters.path(name), alone) as it:
        it.until_seen(1, 0)
        said = it.end()
    first = said["findings"][0]
    assert first["kind"] == "hang"
    assert first["site"]["line"] == alone.line("solver")
    assert "`solver` had the GIL" in first["text"]
    assert first["value_ns"] >= 1_000_000_000


def test_ctrl_c_of_a_program_that_hangs(tmp_path: Path) -> None:
    """The program unwinds, and its trace still says where it stood."""
    with recording(tmp_path, interpreters.path("3.11"), CIRCLES["join"]) as it:
        it.until_seen(0, 1)
        os.kill(it.process.pid, signal.SIGINT)  # passed on: MainThread leaves its join
        it.process.communicate(timeout=60)
        _assert_deadlock(CIRCLES["join"], summary(it.trace))


def test_a_lock_whose_holder_is_unknown(tmp_path: Path) -> None:
    with recording(tmp_path, interpreters.path("3.13"), LOST_RELEASE) as it:
        it.until_seen(1, 0)
        said = it.end()
    first = said["findings"][0]
    assert first["kind"] == "hang"
    assert "who had it is not known" in first["text"]
    assert first["site"]["line"] == LOST_RELEASE.line("waiter")


def test_threads_with_nothing_to_do_do_not_hang(tmp_path: Path) -> None:
    """All stand for seconds; the only one that waits for what another has is told."""
    with recording(tmp_path, interpreters.path("3.13"), IDLE) as it:
        it.until_seen(5, 0)
        said = it.end()
    found = [finding for finding in said["findings"] if finding["kind"] in ("hang", "deadlock")]
    (hang,) = found
    assert "`outside` waited" in hang["text"]
    assert "`inside` had it" in hang["text"]
    assert hang["site"]["line"] == IDLE.line("outside")


def test_a_trace_that_was_written_meanwhile_has_the_looks(tmp_path: Path) -> None:
    with recording(
        tmp_path, interpreters.path("3.11"), MUTEX_AND_GIL, GILSCOPE_STREAM_AT="1"
    ) as it:
        it.until_seen(0, 1)
        _assert_deadlock(MUTEX_AND_GIL, it.end())


def test_a_killed_recorder_leaves_the_looks(tmp_path: Path) -> None:
    with recording(tmp_path, interpreters.path("3.11"), TWO_LOCKS) as it:
        it.until_seen(0, 1)
        it.process.kill()
        os.kill(it.pid, signal.SIGKILL)
        it.process.wait()
        (rings,) = (tmp_path / "rings").iterdir()
        gilscope("recover", rings, "-o", it.trace)
    _assert_deadlock(TWO_LOCKS, summary(it.trace))


def test_a_part_and_what_is_shown_to_others(tmp_path: Path) -> None:
    """`cut` keeps the looks of what it keeps; `--redact` shows no folder."""
    with recording(tmp_path, interpreters.path("3.11"), TWO_LOCKS) as it:
        it.until_seen(0, 1)
        it.end()
    part = tmp_path / "part.pftrace"
    gilscope("cut", it.trace, "-o", part, "--from", "0")
    _assert_deadlock(TWO_LOCKS, summary(part))
    gilscope("cut", it.trace, "-o", part, "--to", "0.5")  # before anybody was looked at
    assert {f["kind"] for f in summary(part)["findings"]}.isdisjoint({"deadlock", "hang"})
    folder = str(tmp_path)
    report = tmp_path / "report.html"
    gilscope("report", it.trace, "-o", report, "--redact")
    assert folder not in report.read_text()


def test_the_program_is_not_delayed(tmp_path: Path) -> None:
    """Its threads stand again and again, and are looked at: it does the same work."""
    work = Hung(
        """
import queue
jobs = queue.Queue()

def idle():
    while True:
        try:
            jobs.get(timeout=1.1)
        except queue.Empty:
            pass

for number in range(20):
    start(f"idle-{number}", idle)
said()
end = time.monotonic() + 4
turns = 0
while time.monotonic() < end:
    time.sleep(0.01)
    turns += 1
print(turns, flush=True)
"""
    )
    with recording(tmp_path, interpreters.path("3.11"), work) as it:
        it.until_seen(5, 0)
        out, err = it.process.communicate(timeout=60)
    assert err == "" or "gilscope: " in err
    assert int(out.split()[-1]) > 0
    assert it.process.returncode == 0
    said = summary(it.trace)
    assert not any(f["kind"] in ("hang", "deadlock") for f in said["findings"])


def test_who_was_away_is_said_to_be_unknown(tmp_path: Path) -> None:
    """A killed program in which nobody hung: silence would say that all was well."""
    away = Hung(
        """
def beat():
    while True:
        time.sleep(0.05)

start("heartbeat", beat)
said()
time.sleep(600)
"""
    )
    with recording(tmp_path, interpreters.path("3.11"), away) as it:
        time.sleep(2)  # of its life
        said = it.end()
    (note,) = (f for f in said["findings"] if f["severity"] == "note" and f["kind"] == "unknown")
    assert note["text"].startswith(("`heartbeat`", "`MainThread`"))
    assert "outside" in note["text"]
    assert "`--sched` tells" in note["text"]

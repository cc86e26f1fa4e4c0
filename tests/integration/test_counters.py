"""Counters that stay on: against a recording of the same run, and through every kind of end."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path

import pytest
from support import interpreters
from support.counting import CONVOY, Run, all_of, expect_counters_equal_a_recording

from gilscope.live.counters import NAMES, Counters, Sums
from gilscope.recorder.notes import RINGS
from gilscope.recorder.record import environment
from gilscope.recorder.session import Session

# Short threads, children that are killed while they hold the GIL, and programs that become others.
# With --keep 1 their pages are used again and again.
ENDS = """
import os, signal, sys, threading, time
def computes(seconds=0.004):
    over = time.monotonic() + seconds
    while time.monotonic() < over:
        sum(range(500))
if len(sys.argv) > 1:
    computes(0.02)
    sys.exit()
for _ in range(30):
    threads = [threading.Thread(target=computes, name=f"short-{i}") for i in range(8)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    child = os.fork()
    if not child:
        computes(0.02)
        os.execv(sys.executable, [sys.executable, __file__, "again"])
    killed = os.fork()
    if not killed:
        while True:
            sum(range(1000))
    computes(0.03)
    os.kill(killed, signal.SIGKILL)
    os.waitpid(killed, 0)
    os.waitpid(child, 0)
"""


@pytest.mark.parametrize("name", [n for n in interpreters.names() if n != interpreters.PLUS])
def test_counters_equal_a_full_recording(name: str, tmp_path: Path) -> None:
    expect_counters_equal_a_recording(tmp_path, interpreters.path(name))


@pytest.mark.parametrize("options", [("--keep", "1"), ("--max-size", "64M")], ids=" ".join)
def test_no_sum_ever_falls(options: tuple[str, ...], tmp_path: Path) -> None:
    python = interpreters.path("3.11")
    run = Run(tmp_path, python, ENDS, "-o", str(tmp_path / "trace.pftrace"), *options)
    before, threads, serials = Sums(), dict[tuple[int, int], Sums](), set[int]()
    for reading in run.readings():
        now = all_of(reading)
        for each in NAMES:
            assert getattr(now, each) >= getattr(before, each), each
        for thread in reading.threads:
            earlier = threads.get(thread.key, Sums())
            assert thread.sums.at_least(earlier) == thread.sums, thread
            threads[thread.key] = thread.sums
        serials |= {process.serial for process in reading.processes}
        before = now
    assert len(serials) > 60
    assert len(threads) > 200
    if options[0] == "--keep":
        assert reading.gone.acquires > 0
        assert reading.gone.held_ns > 0


def test_a_reading_that_takes_nothing_leaves_the_longest_wait(tmp_path: Path) -> None:
    python = interpreters.path("3.11")
    run = Run(tmp_path, python, CONVOY, "-o", str(tmp_path / "trace.pftrace"))
    left = [max(t.longest_wait_ns for t in r.threads) for r in run.readings(False) if r.threads]
    assert left == sorted(left)
    assert left[-1] > 1_000_000


def test_what_was_read_last_stays_when_the_rings_are_given_back() -> None:
    """Their memory goes piece by piece: who reads meanwhile must not take a piece for all."""
    source = "import threading as t\nfor _ in range(1000):\n x = t.Thread(); x.start(); x.join()"
    for _ in range(8):
        session = Session()
        counters = Counters(session.path)
        empty = Counters(session.path)
        command = [str(interpreters.path("3.11")), "-c", source]
        watched = subprocess.Popen(command, env={**os.environ, **environment(session)})
        while watched.poll() is None:
            session.tick()
            time.sleep(0.002)
        session.stop()
        last = counters.read()
        assert len(last.threads) > 1000
        ends = threading.Thread(target=session.discard)
        ends.start()
        while ends.is_alive():
            assert all_of(counters.read()) == all_of(last)
        ends.join()
        after = counters.read()
        assert not after.goes_on
        assert after.processes == last.processes
        assert [thread.sums for thread in after.threads] == [t.sums for t in last.threads]
        assert {thread.longest_wait_ns for thread in after.threads} == {0}
        assert empty.read().threads == ()
        counters.close()
        empty.close()


def test_a_foreign_file_is_told(tmp_path: Path) -> None:
    from gilscope.errors import RecordingError  # noqa: PLC0415

    (tmp_path / RINGS).write_bytes(bytes(8192))
    with pytest.raises(RecordingError, match="another version of gilscope"):
        Counters(tmp_path / RINGS)
    with pytest.raises(RecordingError, match="cannot be read"):
        Counters(tmp_path / "nowhere" / RINGS)

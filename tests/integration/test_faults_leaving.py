"""A program that was asked to end and does not: a second request ends the recording alone."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import interpreters
from support.faults import (
    DEADLINE_S,
    WORK,
    await_line,
    await_state,
    end_session,
    recording,
    rings_folder,
    script,
    thread_names,
)

import gilscope

# The main thread would end, but never gets the GIL for it.
STUBBORN = f"""
import os, sys
{WORK}
crew()
thread = threading.Thread(target=lambda: sum(range(10**11)), name="stubborn")
with open(sys.argv[1], "w") as fifo:
    fifo.write(str(os.getpid()))
thread.start()
thread.join()
"""


@contextmanager
def stubborn(tmp_path: Path, trace: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The recorder of a program that computes for minutes, and the program's pid."""
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    command = [interpreters.path("3.13"), script(tmp_path, STUBBORN), ready]
    with (
        rings_folder() as rings,
        (tmp_path / "said").open("w") as said,  # no pipe: the program that goes on has it, too
        subprocess.Popen(
            recording(trace, command),
            env={**os.environ, "GILSCOPE_DIR": str(rings)},
            stderr=said,
            text=True,
            start_new_session=True,
        ) as recorder,
    ):
        try:
            yield recorder, int(await_line(ready))
        finally:
            end_session(recorder.pid)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_request_ends_the_recording(tmp_path: Path, number: int) -> None:
    trace = tmp_path / "t.pftrace"
    with stubborn(tmp_path, trace) as (recorder, pid):
        assert await_state(lambda: len(os.listdir(f"/proc/{pid}/task")) == 2, recorder)
        # SIGTERM would end this program; of what it does to others a stopped one is an example.
        os.kill(pid, signal.SIGSTOP)
        said = tmp_path / "said"
        recorder.send_signal(number)
        assert await_state(lambda: f"(pid {pid}) was asked to end" in said.read_text(), recorder)
        recorder.send_signal(number)
        assert recorder.wait(DEADLINE_S) == 128 + number
        os.kill(pid, 0)  # it goes on
        assert f"the program goes on (pid {pid})" in said.read_text()
    read = gilscope.read(trace)
    assert (read.metadata.stopped, read.metadata.exit_code) == ("left", None)
    assert "crew-2" in thread_names(read)


def test_two_at_once_leave_the_program_a_moment(tmp_path: Path) -> None:
    """A program that ends of it is recorded to its end, however often it was asked."""
    trace, ready = tmp_path / "t.pftrace", tmp_path / "ready"
    os.mkfifo(ready)
    source = f"""
import os, signal, sys
{WORK}
signal.signal(signal.SIGINT, lambda *_: None)
with open(sys.argv[1], "w") as fifo:
    fifo.write("ready")
signal.pause()
crew()
raise SystemExit(7)
"""
    command = [interpreters.path("3.13"), script(tmp_path, source), ready]
    recorder = subprocess.Popen(recording(trace, command), start_new_session=True)
    try:
        await_line(ready)
        recorder.send_signal(signal.SIGINT)
        recorder.send_signal(signal.SIGINT)
        assert recorder.wait(DEADLINE_S) == 7
    finally:
        end_session(recorder.pid)
    read = gilscope.read(trace)
    assert (read.metadata.stopped, read.metadata.exit_code) == (None, 7)
    assert "crew-2" in thread_names(read)

"""What is recorded when: flight recorders, snapshots, durations, delays."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import gilscope
from gilscope import _native
from gilscope.cli import snapshot
from gilscope.errors import RecordingError, UsageError
from gilscope.recorder.options import DumpWhen, Keep
from gilscope.recorder.session import Session
from gilscope.trace.model import Trace

DEADLINE_S = 60
# Threads that hand the GIL around until a file appears; what it is told is done in between.
PROGRAM = """
import os, sys, threading, time
stop, stall = sys.argv[1], sys.argv[2]
def spin():
    while not os.path.exists(stop):
        for _ in range(200):
            time.sleep(0)
def once():
    while not os.path.exists(stall):
        time.sleep(0.01)
        if os.path.exists(stop):
            return
    sum(range(30_000_000))
threads = [threading.Thread(target=spin, name=f"spin {i}") for i in range(2)]
threads.append(threading.Thread(target=once, name="staller"))
for thread in threads: thread.start()
print("ready", flush=True)
for thread in threads: thread.join()
print("done")
"""


class Recording:
    """`gilscope record` of the program, while it runs."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder, self.trace = folder, folder / "trace.pftrace"
        self.stop, self.stall = folder / "stop", folder / "stall"
        program = folder / "program.py"
        program.write_text(PROGRAM)
        command = [sys.executable, "-m", "gilscope", "record", "--no-summary", *options]
        command += ["-o", str(self.trace), "--", sys.executable, str(program)]
        (folder / "rings").mkdir()
        self.environment = {**os.environ, "GILSCOPE_DIR": str(folder / "rings")}
        self.process = subprocess.Popen(
            [*command, str(self.stop), str(self.stall)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
        )
        assert self.process.stdout
        assert self.process.stdout.readline() == "ready\n"

    def end(self) -> str:
        """What was said, when the program was told to end."""
        self.stop.touch()
        out, error = self.process.communicate(timeout=DEADLINE_S)
        assert (self.process.returncode, out) == (0, "done\n"), error
        assert [*(self.folder / "rings").iterdir()] == []
        return error

    def snapshot(self, pid: int, trace: Path) -> subprocess.CompletedProcess[str]:
        """`gilscope snapshot`."""
        command = [sys.executable, "-m", "gilscope", "snapshot", str(pid), "-o", str(trace)]
        return subprocess.run(
            command, capture_output=True, text=True, env=self.environment, check=False
        )

    def until(self, holds: Callable[[], Any]) -> None:
        """Wait for a state."""
        end = time.monotonic() + DEADLINE_S
        while not holds():
            assert self.process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.02)


@pytest.fixture
def recording(tmp_path: Path) -> Iterator[Callable[..., Recording]]:
    started = []

    def start(*options: str) -> Recording:
        started.append(Recording(tmp_path, *options))
        return started[-1]

    yield start
    for one in started:
        one.stop.touch()
        one.process.communicate(timeout=DEADLINE_S)


def whole(trace: Path) -> Trace:
    """A trace whose story was checked."""
    return gilscope.read(trace)


def program_of(recorder: int) -> int:
    """The command's pid."""
    (pid,) = Path(f"/proc/{recorder}/task/{recorder}/children").read_text().split()[:1]
    return int(pid)


def test_what_is_old_is_not_kept_and_snapshots_have_the_rest(
    recording: Callable[..., Recording], tmp_path: Path
) -> None:
    running = recording("--keep", "4M")
    rings = next((tmp_path / "rings").glob("*/rings"))

    def cut() -> int:
        with open(rings, "rb") as file:
            return int.from_bytes(os.pread(file.fileno(), 8, 72), "little")

    running.until(cut)
    first = cut()
    done = running.snapshot(program_of(running.process.pid), tmp_path / "snapshot.pftrace")
    assert done.returncode == 0, done.stderr
    assert re.search(r"events in .*snapshot.pftrace, the last [\d.]+ s", done.stderr)
    running.until(lambda: cut() > first)  # recording goes on
    said = running.end()
    assert "events in" in said
    for path in (tmp_path / "snapshot.pftrace", running.trace):
        trace = whole(path)
        metadata = trace.metadata
        assert metadata.kept_from_ns == metadata.start_ns
        assert metadata.lost_events == 0 or "lost" in said
        assert trace.totals.events > 10_000
        assert {t.name for t in metadata.threads} >= {"spin 0", "spin 1", "staller"}
        assert all(t.start_ns >= metadata.start_ns for t in metadata.threads)
    assert whole(tmp_path / "snapshot.pftrace").metadata.stopped == "snapshot"
    assert whole(running.trace).metadata.stopped is None


def test_a_signal_and_a_long_wait_write_snapshots(
    recording: Callable[..., Recording], tmp_path: Path
) -> None:
    running = recording("--keep", "60", "--max-size", "64M", "--dump-when", "wait=100ms")
    running.process.send_signal(signal.SIGUSR2)
    running.until((tmp_path / "trace.1.pftrace").exists)
    running.stall.touch()
    running.until((tmp_path / "trace.2.pftrace").exists)
    said = running.end()
    assert re.search(r"trace\.1\.pftrace; because of (SIGUSR2|.* and .*); recording goes on", said)
    assert re.search(r"trace\.2\.pftrace; because of wait=100ms: [\d.,]+ ms; recording", said)
    trace = whole(tmp_path / "trace.2.pftrace")
    assert max(w["end_ns"] - w["start_ns"] for w in trace.waits) > 100_000_000


def test_a_recording_of_some_seconds_is_written_while_the_program_goes_on(
    recording: Callable[..., Recording],
) -> None:
    running = recording("-d", "1.5")
    running.until(running.trace.exists)
    before = running.trace.read_bytes()
    said = running.end()
    assert "the recording is over, the program goes on" in said
    assert running.trace.read_bytes() == before
    metadata = whole(running.trace).metadata
    assert 1.0 < (metadata.end_ns - metadata.start_ns) / 1e9 < 10


def test_a_delayed_recording_begins_in_the_middle(recording: Callable[..., Recording]) -> None:
    running = recording("--delay", "1")
    time.sleep(0)  # it begins by itself
    rings = next((running.folder / "rings").glob("*/rings"))
    running.until(lambda: os.pread(os.open(rings, os.O_RDONLY), 4, 28) == bytes(4))
    running.stall.touch()
    time.sleep(0.5)
    running.end()
    trace = whole(running.trace)
    assert trace.metadata.kept_from_ns is not None
    assert trace.totals.events > 100
    assert trace.metadata.lost_events == 0


@pytest.mark.parametrize(
    ("text", "kept"),
    [("30", (30, None)), ("1.5s", (1.5, None)), ("5min", (300, None)), ("64M", (None, 64 << 20)),
     ("1GiB", (None, 1 << 30))],
)  # fmt: skip
def test_how_much_is_kept(text: str, kept: tuple[float | None, int | None]) -> None:
    assert tuple(Keep.parse(text)) == kept


@pytest.mark.parametrize("text", ["", "0", "0s", "1M", "x", "-3", "3 weeks"])
def test_what_cannot_be_kept(text: str) -> None:
    with pytest.raises(UsageError, match="--keep"):
        Keep.parse(text)


@pytest.mark.parametrize("text", ["io_wait", "io_wait=", "io_wait=5", "x=5ms", "hold=0ms"])
def test_what_is_no_reason_for_a_snapshot(text: str) -> None:
    with pytest.raises(UsageError, match="--dump-when takes"):
        DumpWhen.parse(text)
    assert DumpWhen.parse("hold=1.5s").ns == 1_500_000_000


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--dump-when", "wait=5ms"], "add --keep"),
        (["--keep", "64M", "--max-size", "64M"], "leave --max-size out"),
        (["--keep", "x"], "--keep takes"),
        (["-d", "0"], "not a number of seconds"),
    ],
)
def test_options_that_contradict_each_other(options: list[str], complaint: str) -> None:
    command = [sys.executable, "-m", "gilscope", "record", *options, "--", "true"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert complaint in done.stderr


def test_no_recording_of_that_process() -> None:
    command = [sys.executable, "-m", "gilscope", "snapshot", str(os.getpid())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"no recording of process {os.getpid()}" in done.stderr


@pytest.mark.parametrize("when", ["gs_rooms_is_held", "gs_rooms_ticks", "gs_rooms_copy"])
def test_a_copy_of_rings_that_are_given_back_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """The recording may end at any step of a snapshot."""
    monkeypatch.setenv("GILSCOPE_DIR", str(tmp_path))
    session, engine = Session(8 << 20), _native.engine()

    class Engine:
        """The engine; the recording ends before the function `when`, and ticks else."""

        def __getattr__(self, name: str) -> Any:
            function = getattr(engine, name)

            def called(*arguments: int) -> Any:
                if name == when:
                    session.discard()
                elif name == "gs_rooms_is_held":
                    session.tick()
                function.argtypes = [ctypes.c_uint64] * len(arguments)
                return function(*arguments)

            return called

    ending = Engine()
    session.tick()
    monkeypatch.setattr(snapshot._native, "engine", lambda: ending)
    with pytest.raises(RecordingError, match="just ended"):
        snapshot.copy(session.directory)
    assert not list(tmp_path.iterdir())

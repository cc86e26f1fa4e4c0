"""The trace is written while the program runs, by a process of gilscope's beside it."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from gilscope.cli.recording import open_recording
from gilscope.perfetto.reader import open_trace
from gilscope.recorder.beside import START
from gilscope.recorder.notes import Notes
from gilscope.trace.following import Following
from gilscope.trace.rings import open_rings
from gilscope.trace.schema import EventKind, Metadata
from gilscope.trace.story import Story, checked

# Threads hand the GIL on until the file `stop` is there; others and children come meanwhile.
PROGRAM = """
import os, queue, subprocess, sys, threading, time
stop = sys.argv[1]
def pass_on(inbox, outbox):
    while (item := inbox.get()) is not None:
        outbox.put(item)
a, b = queue.SimpleQueue(), queue.SimpleQueue()
threads = [threading.Thread(target=pass_on, args=pair, name="player") for pair in ((a, b), (b, a))]
for thread in threads:
    thread.start()
a.put(1)
print("ready", flush=True)
while not os.path.exists(stop):
    short = threading.Thread(target=time.sleep, args=(0.001,), name="short")
    short.start()
    short.join()
    if not os.fork():
        os._exit(0)
    os.wait()
    time.sleep(0.01)
a.put(None), b.put(None)
for thread in threads:
    thread.join()
"""


@pytest.fixture(autouse=True)
def nothing_stays(tmp_path: Path) -> Iterator[None]:
    """A test that fails leaves its program running, which ends when it finds `stop`."""
    yield
    (tmp_path / "stop").touch()
    while any(_is_in(process, tmp_path) for process in psutil.process_iter(["cmdline"])):
        time.sleep(0.05)


def _is_in(process: psutil.Process, folder: Path) -> bool:
    return str(folder) in " ".join(process.info["cmdline"] or ())


class Recording:
    """`gilscope record` of a program, which runs until `stop`."""

    program, gilscope = PROGRAM, ["-m", "gilscope"]

    def __init__(
        self,
        folder: Path,
        *options: str,
        arguments: tuple[str, ...] = (),
        name: str = "t.pftrace",
    ) -> None:
        self.trace, self._stop, self.rings = folder / name, folder / "stop", folder / "rings"
        self.rings.mkdir()
        (folder / "program.py").write_text(self.program, encoding="utf-8")
        command = [sys.executable, *self.gilscope, "record", "-o", str(self.trace), *options]
        program = [sys.executable, str(folder / "program.py"), str(self._stop), *arguments]
        self.process = subprocess.Popen(
            [*command, *program],
            env={**os.environ, "GILSCOPE_DIR": str(self.rings), START: "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    @property
    def directory(self) -> Path:
        return next(self.rings.iterdir())

    def writer(self) -> psutil.Process:
        """The process that writes, once it has begun the file."""
        while not list(self.trace.parent.glob(".*.part")):
            assert self.process.poll() is None
            time.sleep(0.01)
        children = psutil.Process(self.process.pid).children()
        return next(child for child in children if "gilscope.cli.stream" in str(child.cmdline()))

    def end(self) -> tuple[int, str]:
        """Let the program end; exit code and standard error."""
        self._stop.touch()
        _, said = self.process.communicate(timeout=120)
        return self.process.returncode, said


def told(metadata: Metadata) -> tuple[object, ...]:
    """The tables but for times, those behind the last snapshot of the clocks are guessed, and for
    ids: whose page is found first has the lower one.
    """
    pids = [process.pid for process in metadata.processes]
    return (
        sorted((p.pid, p.command, str(p.python), str(p.feed)) for p in metadata.processes),
        sorted((pids[t.process], t.tid, t.name, t.is_main) for t in metadata.threads),
        sorted(pids[gil.process] for gil in metadata.gils),
    )


def sequences(events: NDArray[np.void], metadata: Metadata) -> dict[tuple[int, int], list[object]]:
    """The events of each GIL as tid, kind and flags, by pid and its number in the process."""
    found: dict[tuple[int, int], list[object]] = {}
    numbers: dict[int, int] = {}
    for gil in metadata.gils:
        mine = events[events["gil"] == gil.id]
        tids = [metadata.threads[thread].tid for thread in mine["thread"].tolist()]
        number = numbers[gil.process] = numbers.get(gil.process, -1) + 1
        rows = zip(tids, mine["kind"].tolist(), mine["flags"].tolist(), strict=True)
        found[metadata.processes[gil.process].pid, number] = list(rows)
    return found


def test_what_is_followed_is_what_is_read_at_the_end(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    directory = recording.directory
    parts: list[NDArray[np.void]] = []
    with Following(directory, Notes.read(directory)) as following:
        following.poll()
        story = Story(following, keep=False)

        def take() -> int:
            story.grow()
            before = len(parts)
            for batch in following.batches():
                story.feed(batch)
                parts.append(batch.copy())
            return sum(map(len, parts[before:]))

        live = 0
        while live < 20_000 or len(following.metadata.threads) < 8:
            time.sleep(0.02)
            following.poll()
            following.refresh()
            live += take()
        os.kill(recording.process.pid, signal.SIGKILL)  # else it removes the rings
        (tmp_path / "stop").touch()
        program = following.metadata.processes[0].pid
        while psutil.pid_exists(program):
            time.sleep(0.01)
        notes = Notes.read(directory)
        following.finish(notes)
        take()
        story.finish()
        events, metadata = np.concatenate(parts), following.metadata
        with open_rings(directory) as rings:
            all_events = np.concatenate([batch.copy() for batch in checked(rings)])
            assert told(rings.metadata) == told(metadata)
            assert {t.name for t in metadata.threads} >= {"player", "short", "MainThread"}
            assert sequences(all_events, rings.metadata) == sequences(events, metadata)
        assert following.totals.events == len(all_events)


def test_record_writes_meanwhile_and_tells_the_summary(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    writer = recording.writer()
    part = next(tmp_path.glob(".*.part"))
    while part.stat().st_size < 1 << 20:
        time.sleep(0.02)
    code, said = recording.end()
    assert code == 0
    assert not writer.is_running()
    assert list(recording.rings.iterdir()) == []
    assert "player" in said
    assert f"events in {recording.trace}" in said
    trace = open_trace(recording.trace)
    assert sum(map(len, checked(trace))) > 1 << 14
    assert {thread.name for thread in trace.metadata.threads} >= {"player", "short"}
    assert (trace.metadata.exit_code, trace.metadata.lost_events) == (0, 0)


def test_a_killed_writer_costs_nothing_but_time(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    recording.writer().kill()
    code, said = recording.end()
    assert code == 0
    assert "events in" in said
    trace = open_trace(recording.trace)
    assert sum(map(len, checked(trace))) > 0
    assert trace.metadata.exit_code == 0


def test_a_killed_recorder_leaves_the_rings(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    writer = recording.writer()
    directory = recording.directory
    recording.process.kill()
    writer.wait(60)
    (tmp_path / "stop").touch()
    command = [sys.executable, "-m", "gilscope", "recover", str(directory)]
    subprocess.run([*command, "-o", str(recording.trace)], check=True, capture_output=True)
    assert sum(map(len, checked(open_trace(recording.trace)))) > 0
    assert not list(tmp_path.glob(".*.part"))


@pytest.mark.parametrize("option", ["--no-summary", "--quiet"])
def test_no_summary(tmp_path: Path, option: str) -> None:
    recording = Recording(tmp_path, option)
    recording.writer()
    code, said = recording.end()
    assert code == 0
    assert "player" not in said
    assert len(said.splitlines()) == (option == "--no-summary")


# More than the rings hold: `limit` bytes of them.
SMALL_RINGS = """
import sys
from gilscope.cli import main
from gilscope.recorder import session
session.MOST_BYTES = 16 << 20
sys.exit(main(sys.argv[1:]))
"""
PACED = """
import os, sys, time
stop = sys.argv[1]
print("ready", flush=True)
null = os.open("/dev/null", os.O_WRONLY)
while not os.path.exists(stop):
    for _ in range(200):
        os.write(null, b"x")
    time.sleep(0.005)
"""


class Endless(Recording):
    """Of a program that writes steadily, in small rings that are used again."""

    program, gilscope = PACED, ["-c", SMALL_RINGS]

    def written(self) -> int:
        """How often the rings were filled, so far."""
        with Following(self.directory, Notes.read(self.directory)) as rings:
            return (self._gone(rings) * 16) // (16 << 20)

    @staticmethod
    def _gone(rings: Following) -> int:
        return struct.unpack_from("<Q", rings._map, 88)[0]

    def wait_until_used_again(self) -> None:
        """Until more was taken back than the rings can hold."""
        while self.written() < 1:
            assert self.process.poll() is None
            time.sleep(0.05)


@pytest.mark.parametrize("name", ["t.pftrace", "t.pftrace.gz"])
@pytest.mark.parametrize("killed", ["nobody", "writer", "recorder"])
def test_longer_than_the_rings(killed: str, name: str, tmp_path: Path) -> None:
    recording = Endless(tmp_path, name=name)
    writer = recording.writer()
    recording.wait_until_used_again()
    if killed == "writer":
        writer.kill()
        code, said = recording.end()
        assert code == 0, said
    elif killed == "recorder":
        directory = recording.directory
        recording.process.kill()
        writer.wait(60)
        (tmp_path / "stop").touch()
        with open_recording(directory) as joined:
            assert joined.metadata.kept_from_ns is None
        command = [sys.executable, "-m", "gilscope", "recover", str(directory)]
        done = subprocess.run(
            [*command, "-o", str(recording.trace)], check=True, capture_output=True, text=True
        )
        assert ".part is needed no more" in done.stderr
    else:
        recording.end()
    trace = open_trace(recording.trace)
    holds = 0
    for batch in checked(trace):
        holds += int((batch["kind"] == EventKind.GIL_ACQUIRE).sum())
        assert not (batch["kind"] == EventKind.GIL_LOST).any() or trace.metadata.stopped
    assert holds * 2 * 16 > 16 << 20
    assert trace.metadata.lost_events == 0


def test_secrets_are_left_out(tmp_path: Path) -> None:
    recording = Recording(tmp_path, arguments=("--password", "hunter2-of-mine"))
    recording.writer()
    assert recording.end()[0] == 0
    assert b"hunter2" not in recording.trace.read_bytes()

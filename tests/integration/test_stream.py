"""The trace is written while the program runs, by a process of gilscope's beside it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from gilscope.perfetto.reader import open_trace
from gilscope.recorder.beside import START
from gilscope.recorder.notes import Notes
from gilscope.trace.following import Following
from gilscope.trace.rings import open_rings
from gilscope.trace.schema import Metadata
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


class Recording:
    """`gilscope record` of PROGRAM, which runs until `stop`."""

    def __init__(self, folder: Path, *options: str, arguments: tuple[str, ...] = ()) -> None:
        self.trace, self._stop, self.rings = folder / "t.pftrace", folder / "stop", folder / "rings"
        self.rings.mkdir()
        (folder / "program.py").write_text(PROGRAM, encoding="utf-8")
        command = [sys.executable, "-m", "gilscope", "record", "-o", str(self.trace), *options]
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
    """The tables but for times: those behind the last snapshot of the clocks are guessed."""
    return (
        [(p.pid, p.parent, p.command, p.python, p.feed) for p in metadata.processes],
        [(t.process, t.tid, t.name, t.is_main) for t in metadata.threads],
        metadata.gils,
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


def test_secrets_are_left_out(tmp_path: Path) -> None:
    recording = Recording(tmp_path, arguments=("--password", "hunter2-of-mine"))
    recording.writer()
    assert recording.end()[0] == 0
    assert b"hunter2" not in recording.trace.read_bytes()

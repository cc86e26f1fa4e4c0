"""What survives when the recorder, the program or both stop in the middle.

GILSCOPE_TEST_KILLS is the number of random kills and of random pauses of each example (200 for a
release; few by default).
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from support import interpreters
from support.faults import (
    DEADLINE_S,
    GILSCOPE,
    WORK,
    await_line,
    await_state,
    children_of,
    end_session,
    memory_folder,
    recording,
    run,
    script,
    state_of,
    thread_names,
)

import gilscope
from gilscope.trace.model import Trace
from gilscope.trace.rings import open_rings
from gilscope.trace.text import lines

PYTHON = interpreters.path("3.13")
KILLS = int(os.environ.get("GILSCOPE_TEST_KILLS", "3"))
EXAMPLES = (
    "asyncio_to_thread.py",
    "echo_server.py",
    "hash_pool.py",
    "process_pool.py",
    "queue_pipeline.py",
)

# Tells on the FIFO that it is ready; goes on when it reads a line from its standard input.
TWO_HALVES = f"""
import os, sys
{WORK}
crew()
with open(sys.argv[1], "w") as fifo:
    fifo.write(str(os.getpid()))
sys.stdin.readline()
threading.Thread(target=work, args=(20000,), name="after").start()
work(20000)
print("the end")
with open("left.txt", "w") as file:
    file.write("behind")
"""


@contextmanager
def started(
    tmp_path: Path, rings: Path, *options: str
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A recorded program that stands in its middle: the recorder, and the program's pid."""
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    command = [PYTHON, script(tmp_path, TWO_HALVES), ready]
    with subprocess.Popen(
        recording(tmp_path / "trace.pftrace", command, ("--no-summary", *options)),
        cwd=tmp_path,
        env={**os.environ, "GILSCOPE_DIR": str(rings)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as recorder:
        try:
            yield recorder, int(await_line(ready))
        except BaseException:
            end_session(recorder.pid)
            raise


def recovered(tmp_path: Path, rings: Path) -> Trace:
    """What `gilscope recover` makes of the one recording there; its dump is that of the rings."""
    (folder,) = rings.iterdir()
    path = tmp_path / "recovered.pftrace"
    outcome = run([*GILSCOPE, "recover", folder, "-o", path], tmp_path / "recover")
    assert (outcome.code, outcome.stdout, outcome.stderr) == (0, "", "")
    with open_rings(folder) as source:
        text = "".join(lines(source))
    dump = run([*GILSCOPE, "dump", path], tmp_path / "dump")
    assert dump.stdout == text
    return gilscope.read(path)


def test_the_recorder_dies_and_the_program_does_not(tmp_path: Path) -> None:
    with memory_folder() as rings, started(tmp_path, rings) as (recorder, pid):
        os.kill(recorder.pid, signal.SIGKILL)
        recorder.wait(DEADLINE_S)
        end = os.pidfd_open(pid)
        assert recorder.stdin
        assert recorder.stdout
        recorder.stdin.write("go on\n")
        recorder.stdin.flush()
        assert recorder.stdout.read() == "the end\n"  # until the program closes it
        with suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, end, os.WEXITED)
        os.close(end)
        assert (tmp_path / "left.txt").read_text(encoding="utf-8") == "behind"
        trace = recovered(tmp_path, rings)
    assert thread_names(trace) == ["MainThread", "crew-0", "crew-1", "crew-2", "after"]
    assert trace.metadata.lost_events == 0
    assert trace.metadata.exit_code is None
    after = trace.thread_stats[-1]
    assert after["acquires"] >= 20000


def test_recorder_and_program_die_together(tmp_path: Path) -> None:
    with memory_folder() as rings, started(tmp_path, rings) as (recorder, _):
        end_session(recorder.pid)
        recorder.wait(DEADLINE_S)
        trace = recovered(tmp_path, rings)
    assert {"MainThread", "crew-0", "crew-2"} <= set(thread_names(trace))
    assert trace.process_stats["unclean"].tolist() == [1]


def test_recover_while_the_program_runs(tmp_path: Path) -> None:
    """The rings may be read at any time: what has happened so far is a trace.

    The recorder stands still meanwhile: each second it looks at the clocks once more, by which the
    text of the rings and that of the trace would differ by nanoseconds.
    """
    with memory_folder() as rings, started(tmp_path, rings) as (recorder, _):
        os.kill(recorder.pid, signal.SIGSTOP)
        assert await_state(lambda: state_of(recorder.pid) == "T", recorder)
        trace = recovered(tmp_path, rings)
        os.kill(recorder.pid, signal.SIGCONT)
        recorder.communicate("go on\n", timeout=DEADLINE_S)
        assert recorder.returncode == 0
    assert {"crew-0", "crew-2"} <= set(thread_names(trace))
    assert "after" in thread_names(gilscope.read(tmp_path / "trace.pftrace"))


@pytest.mark.parametrize("who", ["program", "recorder"])
def test_stopped_and_continued(tmp_path: Path, who: str) -> None:
    """A stopped program is a gap in its own time; a stopped recorder only stops being ahead."""
    with memory_folder() as rings, started(tmp_path, rings) as (recorder, pid):
        target = pid if who == "program" else recorder.pid
        os.kill(target, signal.SIGSTOP)
        assert await_state(lambda: state_of(target) == "T", recorder)
        assert recorder.stdin
        recorder.stdin.write("go on\n")
        recorder.stdin.flush()
        if who == "recorder":
            # The program goes to its end meanwhile: a zombie, since nobody asks for its code.
            assert await_state(lambda: state_of(pid) == "Z", recorder)
        os.kill(target, signal.SIGCONT)
        out, errors = recorder.communicate(timeout=DEADLINE_S)
    assert (recorder.returncode, out, errors.count("\n")) == (0, "the end\n", 1)
    trace = gilscope.read(tmp_path / "trace.pftrace")
    assert trace.metadata.lost_events == 0
    assert "after" in thread_names(trace)


# ---- at random moments --------------------------------------------------------------------------


@contextmanager
def running(
    tmp_path: Path, root: Path, example: str, rings: Path
) -> Iterator[subprocess.Popen[str]]:
    """An example that is being recorded."""
    command = [PYTHON, root / "examples" / example, "--seconds", "0.3"]
    with subprocess.Popen(
        recording(tmp_path / "trace.pftrace", command),
        env={**os.environ, "GILSCOPE_DIR": str(rings)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as recorder:
        try:
            yield recorder
        finally:
            end_session(recorder.pid)


def passes(process: subprocess.Popen[str], seconds: float) -> None:
    """Let a random part of a program's life go by."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def group_of(leader: int) -> list[int]:
    """Pids of the living processes of a process group."""
    members = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            text = (folder / "stat").read_text(encoding="utf-8", errors="replace")
            how, _, group = text.rpartition(")")[2].split()[:3]
            if int(group) == leader and how not in "ZX":
                members.append(int(folder.name))
    return members


def whole(tmp_path: Path) -> Trace:
    """The trace, which opens and lost nothing."""
    trace = gilscope.read(tmp_path / "trace.pftrace")
    assert trace.metadata.lost_events == 0
    return trace


@pytest.mark.timeout(DEADLINE_S * (1 + KILLS // 10))
@pytest.mark.parametrize("example", EXAMPLES)
def test_killed_at_random_moments(tmp_path: Path, root: Path, example: str) -> None:
    for seed in range(KILLS):
        moment = random.Random(f"{example} {seed}").uniform(0, 0.6)
        with memory_folder() as rings, running(tmp_path, root, example, rings) as recorder:
            assert await_state(lambda r=recorder: bool(children_of(r.pid)), recorder)
            passes(recorder, moment)
            # With all that it started: a pool whose parent alone is killed waits for ever.
            while others := [p for p in group_of(recorder.pid) if p != recorder.pid]:
                for pid in others:
                    send(pid, signal.SIGKILL)
            _, errors = recorder.communicate(timeout=DEADLINE_S)
            assert recorder.returncode in (0, 137), (seed, errors)
            trace = whole(tmp_path)
            assert trace.metadata.exit_code == recorder.returncode
            assert list(rings.iterdir()) == []


@pytest.mark.timeout(DEADLINE_S * (1 + KILLS // 10))
@pytest.mark.parametrize("example", EXAMPLES)
def test_stopped_and_continued_at_random_moments(tmp_path: Path, root: Path, example: str) -> None:
    """Program and recorder take turns at standing still; the program ends as it would have."""
    for seed in range(KILLS):
        chance = random.Random(f"{example} {seed}")
        with memory_folder() as rings, running(tmp_path, root, example, rings) as recorder:
            assert await_state(lambda r=recorder: bool(children_of(r.pid)), recorder)
            (program,) = children_of(recorder.pid)
            for _ in range(5):
                target = chance.choice([program, recorder.pid])
                passes(recorder, chance.uniform(0, 0.1))
                send(target, signal.SIGSTOP)
                # Not wait(): a recorder that stands still has to be continued in any case.
                passes(recorder, chance.uniform(0, 0.05))
                send(target, signal.SIGCONT)
            out, errors = recorder.communicate(timeout=DEADLINE_S)
            assert (recorder.returncode, bool(out)) == (0, True), (seed, errors)
            trace = whole(tmp_path)
            assert int(trace.process_stats["unclean"][0]) == 0

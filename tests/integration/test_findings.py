"""Each finding has a program that brings it about, and a twin that differs and does not.

What no program can bring about (clocks that disagree, a build whose releases cannot be told apart)
has its story in tests/unit/test_summary.py; frames that cannot be read are in test_stacks.py.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from support import interpreters
from support.recorded import record
from support.stack_programs import KEEPS

from gilscope.analysis.summary import summarise
from gilscope.perfetto.reader import open_trace
from gilscope.trace.schema import EventKind

CONVOY = """
import threading, time
def spin():
    while not done:
        for i in range(1000):
            i * i
def io():
    for n in range(60):
        time.sleep(0.001)
done = False
thread = threading.Thread(target=spin, name="spin", daemon=True)
thread.start()
io()
done = True
thread.join()
"""
CROWD = """
import threading, time
def compute():
    deadline = time.thread_time() + 0.2
    while time.thread_time() < deadline:
        for i in range(1000):
            i * i
threads = [threading.Thread(target=compute, name=f"compute-{n}") for n in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""
# Each has little to do at a time; together they have more than there is time for.
SERVERS = """
import threading, time
def serve():
    for n in range(100):
        time.sleep(0.001)
        deadline = time.thread_time() + 0.0002
        while time.thread_time() < deadline:
            pass
threads = [threading.Thread(target=serve, name=f"serve-{n}") for n in range(12)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""
# Threads that all live and fill their first pages want more room than the rings have ready, and the
# recorder cannot make more.
FLOOD = """
import os, signal, threading
def flood():
    for n in range(150):
        os.stat("/")
    end.wait()
os.kill(os.getppid(), signal.SIGSTOP)
end = threading.Event()
threads = [threading.Thread(target=flood) for n in range(1_100)]
for thread in threads:
    thread.start()
end.set()
for thread in threads:
    thread.join()
os.kill(os.getppid(), signal.SIGCONT)
"""
KILLED = "import os, signal, time; time.sleep(0); os.kill(os.getpid(), signal.SIGKILL)"


def findings(folder: Path, source: str, *options: str, code: int = 0) -> dict[str, str]:
    """Of a recorded program: text by kind. Texts of one kind are joined."""
    program = folder / "program.py"
    program.write_text(source)
    python = interpreters.path(interpreters.DEBIAN)
    done = record(folder, python, program, options=options)
    assert done.code == code, done.err
    found: dict[str, str] = {}
    for finding in summarise(done.trace)["findings"]:
        found[finding["kind"]] = found.get(finding["kind"], "") + finding["text"]
    return found


def problem(folder: Path, source: str, kind: str) -> str:
    """The text of a problem that this program has; on a busy machine it may take three runs."""
    for _ in range(2):
        if text := findings(folder, source).get(kind):
            return text
    return findings(folder, source)[kind]


def test_a_convoy(tmp_path: Path) -> None:
    text = problem(tmp_path, CONVOY, "convoy")
    assert "`spin` held it" in text
    assert "program.py:" in text
    assert "gilscope run --policy io-priority" in text
    assert "convoy" not in findings(tmp_path, CONVOY.replace("while not done", "while False"))


def test_io_threads_that_wait_for_each_other(tmp_path: Path) -> None:
    text = problem(tmp_path, SERVERS, "io-waits")
    assert "for the GIL when they came back from IO" in text
    assert "policy" not in text  # IO priority has nothing to give here
    one_by_one = SERVERS.replace("thread.start()", "thread.start(), thread.join()")
    assert "io-waits" not in findings(tmp_path, one_by_one)


def test_c_code_that_keeps_the_gil(tmp_path: Path) -> None:
    text = problem(tmp_path, KEEPS, "c-call")
    assert re.search("`MainThread` kept the GIL [3-8] times when others had asked for it", text)
    assert "in program.py:11 <module>" in text
    assert "c-call" not in findings(tmp_path, KEEPS.replace("PyDLL", "CDLL"))


def test_a_crowd(tmp_path: Path) -> None:
    assert "and 2 more compute on one GIL" in problem(tmp_path, CROWD, "crowd")
    one_by_one = CROWD.replace("thread.start()", "thread.start(), thread.join()")
    assert "crowd" not in findings(tmp_path, one_by_one)


def test_nothing_to_fix(tmp_path: Path) -> None:
    one_by_one = CROWD.replace("thread.start()", "thread.start(), thread.join()")
    assert "to fix: threads waited" in findings(tmp_path, one_by_one)["nothing"]
    assert "nothing" not in findings(tmp_path, CROWD)


def test_events_that_were_lost(tmp_path: Path) -> None:
    assert "events were lost" in findings(tmp_path, FLOOD)["incomplete"]
    trace = tmp_path / "out.pftrace"
    events = np.concatenate([batch.copy() for batch in open_trace(trace).batches()])
    (lost,) = np.nonzero(events["kind"] == EventKind.GIL_LOST)
    assert events["arg"][lost].any()
    for index in lost.tolist():  # each where the last event of its GIL, or of its thread, stands
        loss, before = events[index], events[:index]
        known = before[(before["gil"] == loss["gil"]) | (before["thread"] == loss["thread"])]
        assert len(known) == 0 or known["time_ns"].max() == loss["time_ns"]
    assert "incomplete" not in findings(tmp_path, FLOOD.replace("SIGSTOP", "SIGCONT"))


def test_a_recording_that_stopped_early(tmp_path: Path) -> None:
    short = FLOOD.replace("SIGSTOP", "SIGCONT").replace("1_100", "100")
    found = findings(tmp_path, short, "--max-size", "2M")
    assert "recording stopped early (max-size), after " in found["incomplete"]
    assert "incomplete" not in findings(tmp_path, short)


def test_a_program_that_was_killed(tmp_path: Path) -> None:
    found = findings(tmp_path, KILLED, code=137)
    assert "its only process ended without saying so" in found["incomplete"]
    assert "incomplete" not in findings(tmp_path, KILLED.replace("os.kill", "print"))


def test_a_program_that_ctrl_c_ended(tmp_path: Path) -> None:
    """Python dies of the signal too, but that was meant."""
    found = findings(tmp_path, KILLED.replace("SIGKILL", "SIGINT"), code=130)
    assert "incomplete" not in found
    assert "as Ctrl-C ends a program" in found["trust"]

"""What others tell a probe in their process arrives: a C library's condition and sections."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from support.programs import compiled, producer
from support.recorded import GILSCOPE, TIMEOUT_S, record, record_rings

from gilscope.analysis.summary import summarise
from gilscope.perfetto.reader import open_trace
from gilscope.trace.rings import open_rings
from gilscope.trace.text import lines

ROUNDS = 50
PROGRAM = f"""
import ctypes, sys, threading, time
library = ctypes.CDLL(sys.argv[1])
def waits():
    for _ in range({ROUNDS}):
        library.take()
        library.sections()
        library.nonsense()
waiter = threading.Thread(target=waits, name="waiter")
waiter.start()
given = 0
while given < {ROUNDS}:
    if library.give():
        given += 1
    else:
        time.sleep(0.0002)
waiter.join()
"""


def library(folder: Path) -> Path:
    return compiled(producer(folder), folder / "producer.so", "gcc", "-shared", "-fPIC", "-pthread")


def test_a_librarys_condition_and_sections(interpreter: Path, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    recording = record(tmp_path, interpreter, "program.py", library(tmp_path))
    assert recording.code == 0, recording.err
    process = summarise(recording.trace)["processes"][0]
    # Python Plus shows its own waits too; they are of other kinds.
    (condition,) = (row for row in process["conditions"] if row["kind"] == "unknown")
    assert (condition["waits"], condition["notifies"]) == (ROUNDS, ROUNDS)
    assert condition["wakeup_ns"]["count"] == condition["gil_ns"]["count"] == ROUNDS
    assert 0 < condition["wakeup_ns"]["sum"] < condition["gil_ns"]["sum"]
    assert condition["wakeup_ns"]["sum"] < condition["wait_ns"]["sum"]
    assert process["locks"] is not None
    atomic = process["atomic"]
    assert (atomic["sections"], atomic["deferred_yields"]) == (ROUNDS, ROUNDS)
    assert atomic["held_ns"]["sum"] == 0  # the library is called without the GIL


def test_rings_and_trace_have_the_same_text(interpreter: Path, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    directory = record_rings(interpreter, program, library(tmp_path))
    trace = tmp_path / "out.pftrace"
    try:
        subprocess.run(
            [*GILSCOPE, "recover", directory, "-o", trace],
            check=True,
            capture_output=True,
            timeout=TIMEOUT_S,
        )
        with open_rings(directory) as rings:
            text = "".join(lines(rings))
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    assert "".join(lines(open_trace(trace))) == text
    assert text.count("cond.notify unknown") == ROUNDS


def test_without_a_probe_nothing_is_told(interpreter: Path, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    done = subprocess.run(
        [interpreter, "program.py", library(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")

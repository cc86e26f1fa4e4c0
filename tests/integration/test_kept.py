"""Why a holder that was asked for the GIL kept it: told apart on every interpreter."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import interpreters
from support.recorded import record

from gilscope.analysis.classification import LONG_STRETCH_NS, PROMPT_NS
from gilscope.analysis.intervals import fold
from gilscope.analysis.kept import COMPUTES, NO_PROCESSOR, SLEEPS, kept_gils

# Each holder works until it has been asked for the GIL often enough. `crowded` runs Python code on
# one processor beside three programs that never sleep.
PROGRAM = """
import ctypes, os, subprocess, sys, threading, time

libc = ctypes.PyDLL(None)  # its calls keep the GIL
asked, over = 0, False

def ping():
    global asked
    while not over:
        begin = time.monotonic()
        time.sleep(0.001)
        asked += time.monotonic() - begin > 0.02

def until_asked(work):
    end = asked + 8
    while asked < end:
        work()

def computes():
    until_asked(lambda: sum(range(4_000_000)))

def sleeps():
    until_asked(lambda: libc.usleep(40_000))

def crowded():
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    n = 0
    def work():
        nonlocal n
        for i in range(100):
            n += i
    until_asked(work)

def run(work):
    thread = threading.Thread(target=work, name=work.__name__)
    thread.start()
    thread.join()

threading.Thread(target=ping, name="ping").start()
run(computes)
run(sleeps)
spin = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\\nwhile True: pass"
others = [subprocess.Popen([sys.executable, "-S", "-c", spin]) for _ in range(3)]
run(crowded)
for other in others:
    other.kill()
    other.wait()
over = True
"""


@pytest.mark.parametrize("name", interpreters.names())
def test_the_reasons_are_told_apart(tmp_path: Path, name: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    recording = record(tmp_path, interpreters.path(name), program, options=("--no-follow",))
    assert recording.code == 0, recording.err
    trace = recording.trace
    sites = fold(trace, long_ns=LONG_STRETCH_NS, prompt_ns=PROMPT_NS).sites
    names = {thread.id: thread.name for thread in trace.metadata.threads}
    reasons = {}
    for row in kept_gils(trace, sites):
        reasons.setdefault(names[row.thread], row)
    assert {who: reasons[who].why for who in ("computes", "sleeps", "crowded")} == {
        "computes": COMPUTES,
        "sleeps": SLEEPS,
        "crowded": NO_PROCESSOR,
    }
    lines = {text.strip(): n for n, text in enumerate(PROGRAM.splitlines(), 1)}
    site = reasons["sleeps"].site
    assert site is not None
    assert site.place.line == lines["until_asked(lambda: libc.usleep(40_000))"]
    assert reasons["sleeps"].cpu_ns < 0.05 * reasons["sleeps"].late_ns

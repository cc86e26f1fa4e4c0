"""gil.wakeup in real recordings: who lets the GIL go names whom it woke, wherever the queue under
the GIL is gilscope's own."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from support import interpreters
from support.perfetto_engine import engine, query
from support.recorded import GILSCOPE, record

from gilscope.trace.story import NEVER

# Two threads that only compute; two that give the GIL up all the time; main waits outside.
PROGRAM = """
import os, threading
over = False
def spin():
    while not over:
        sum(range(200))
def call():
    for _ in range(300):
        os.read(ends[0], os.write(ends[1], b"x"))
ends = os.pipe()
spinners, callers = ([threading.Thread(target=f, name=f"{f.__name__}{i}") for i in range(2)]
                     for f in (spin, call))
for thread in spinners + callers:
    thread.start()
for thread in callers:
    thread.join()
over = True
"""
QUEUES = {
    "plus-io-priority": (interpreters.PLUS, {"GILSCOPE_POLICY": "io-priority"}),
    "stock-io-priority": ("3.13", {"GILSCOPE_POLICY": "io-priority"}),
    "plus-futex": (interpreters.PLUS, {"GILSCOPE_CONDVAR": "futex"}),
    "plus-emulated": (interpreters.PLUS, {"GILSCOPE_CONDVAR": "emulated"}),
}
RELEASE = re.compile(r"gil\.(release|yield) gil=0")
WAKEUP = re.compile(r"\S+ (\d+):\S+ +gil\.wakeup gil=0 thread=(\d+)")
ACQUIRE = re.compile(r"\S+ (\d+):\S+ +gil\.acquire gil=0")


@pytest.mark.parametrize("queue", QUEUES)
def test_a_release_names_whom_it_woke(tmp_path: Path, queue: str) -> None:
    """The story refuses a wakeup of a thread that does not wait, and of another process's."""
    name, variables = QUEUES[queue]
    done = record(tmp_path, interpreters.path(name), "-c", PROGRAM, variables=variables)
    assert done.code == 0, done.err
    told = done.trace.waits["woken_ns"] != NEVER
    waits = done.trace.waits[told]
    assert len(waits) >= 5
    assert np.all(waits["start_ns"] <= waits["woken_ns"])
    assert np.all(waits["woken_ns"] <= waits["end_ns"])

    command = [*GILSCOPE, "dump", done.path]
    dump = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    lines = [line for line in dump.splitlines() if " gil=0" in line]
    wakeups = right = 0
    for before, line, after in zip(lines, lines[1:], lines[2:], strict=False):
        if (wakeup := WAKEUP.match(line)) is None:
            continue
        wakeups += 1
        assert RELEASE.search(before), "a wakeup stands right behind the release that made it"
        assert wakeup[1] == before.split()[1].split(":")[0], "and is the releaser's"
        assert wakeup[2] != wakeup[1]
        acquire = ACQUIRE.match(after)
        right += acquire is not None and acquire[1] == wakeup[2]
    print(f"{queue}: {wakeups} wakeups of {len(waits)} waits, {right} had the GIL next")
    # Each wakeup is for one wait; a wait may have several: who was woken can find the GIL taken.
    assert wakeups >= len(waits)
    assert right > wakeups / 5, "who is woken often is the next to have it"

    with engine(done.path) as processor:
        (shown,) = query(processor, "select count(*) as n from slice where name = 'GIL wakeup'")
        (flows,) = query(
            processor,
            "select count(*) as n from flow join slice on slice.id = slice_out"
            " join slice as hold on hold.id = slice_in where slice.name = 'GIL wakeup'",
        )
    assert shown["n"] == wakeups
    assert len(waits) * 0.9 <= flows["n"] <= len(waits)


def test_cpythons_own_condition_variable_tells_nobody(tmp_path: Path) -> None:
    """It does not know whom it wakes."""
    done = record(tmp_path, interpreters.path(interpreters.PLUS), "-c", PROGRAM)
    assert done.code == 0, done.err
    assert len(done.trace.waits) > 0
    assert np.all(done.trace.waits["woken_ns"] == NEVER)

"""The switch interval in a trace is the program's own: on every version, by both feeds."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.recorded import record

SAYS = "print(round(sys.getswitchinterval() * 1e6), flush=True)\n"

# Each prints it in microseconds, last.
PROGRAMS = {
    "untouched": SAYS,
    "set": "sys.setswitchinterval(0.0007)\n" + SAYS,
    "by _exit": "sys.setswitchinterval(0.0007)\n" + SAYS + "os._exit(0)",
    # Nobody asks for the GIL in the child.
    "a child's own": """
sys.setswitchinterval(0.0007)
if os.fork() == 0:
    sys.setswitchinterval(0.02)
    os._exit(0)
os.wait()
"""
    + SAYS,
    # The other thread gets in by asking: the interval is known by then.
    "killed": """
import signal, threading
sys.setswitchinterval(0.0007)
turns = 0
def spin():
    global turns
    while True:
        turns += 1
threading.Thread(target=spin, daemon=True).start()
seen = set()
while len(seen) < 5:
    seen.add(turns)
"""
    + SAYS
    + "os.kill(os.getpid(), signal.SIGKILL)",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_is_told(interpreter: Path, tmp_path: Path, name: str) -> None:
    done = record(tmp_path, interpreter, "-c", "import os, sys\n" + PROGRAMS[name])
    assert done.code == (137 if name == "killed" else 0), done.err
    assert done.metadata.policy.switch_interval_ns == int(done.out) * 1000


def test_what_is_no_python_has_none(tmp_path: Path) -> None:
    assert record(tmp_path, "true").metadata.policy.switch_interval_ns is None

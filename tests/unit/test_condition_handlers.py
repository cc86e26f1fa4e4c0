"""A signal's handler runs in a thread that waits, and wants the same lock or condition: with
gilscope's Conditions and, as the oracle, threading's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

NESTED = """
import os, signal, sys, threading, time
kit, what, lock = sys.argv[1:]
if kit == "native":
    from gilscope import Condition
elif kit == "locks":
    from gilscope.locks import Condition
else:
    from threading import Condition
condition = Condition(None if lock == "own" else threading.RLock())
main, begun, told = threading.get_native_id(), threading.Event(), []

def sleeps():
    seen = 0
    while seen < 5:
        time.sleep(0.002)
        with open(f"/proc/self/task/{main}/stat") as stat:
            seen = seen + 1 if stat.read().rpartition(")")[2].split()[0] == "S" else 0

def handler(number, frame):
    begun.set()
    time.sleep(0.05)  # the lock is let go, or the wait notified, meanwhile
    with condition:
        told.append(condition.wait(60) if what == "wait" else True)

def other():
    if what == "acquire":
        with condition:
            holds.set()
            sleeps()
            os.kill(os.getpid(), signal.SIGUSR1)
            begun.wait()
        return
    sleeps()
    os.kill(os.getpid(), signal.SIGUSR1)
    begun.wait()
    for _ in range(2 if what == "wait" else 1):
        while not condition._waiters:
            time.sleep(0.002)
        with condition:
            condition.notify()

holds = threading.Event()
signal.signal(signal.SIGUSR1, handler)
threading.Thread(target=other, daemon=True).start()
if what == "acquire":
    holds.wait()
with condition:
    told.append(True if what == "acquire" else condition.wait(60))
print(told)
os._exit(0)
"""


@pytest.mark.parametrize("lock", ["own", "foreign"])
@pytest.mark.parametrize("what", ["acquire", "take", "wait"])
@pytest.mark.parametrize("kit", ["native", "locks", "python"])
def test_a_handler_inside_a_wait_wants_the_same(kit: str, what: str, lock: str, root: Path) -> None:
    probe = {"LD_PRELOAD": str(root / "gilscope" / "_probe.so")} if kit == "locks" else {}
    done = subprocess.run(
        [sys.executable, "-c", NESTED, kit, what, lock],
        env={**os.environ, "PYTHONPATH": str(root), **probe},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "[True, True]\n"), done.stderr

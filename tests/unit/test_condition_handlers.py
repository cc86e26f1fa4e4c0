"""A signal's handler runs in a thread that waits, and wants the same lock or condition: with
gilscope's Conditions and, as the oracle, threading's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMON = """
import os, signal, sys, threading, time
kit, what, lock = sys.argv[1:]
if kit == "native":
    from gilscope import Condition
elif kit == "locks":
    from gilscope.locks import Condition
else:
    from threading import Condition
locks = {"own": lambda: None, "foreign": threading.RLock, "simple": threading.Lock}
condition = Condition(locks[lock]())
main, begun, told = threading.get_native_id(), threading.Event(), []

def sleeps():
    seen = 0
    while seen < 5:
        time.sleep(0.002)
        with open(f"/proc/self/task/{main}/stat") as stat:
            seen = seen + 1 if stat.read().rpartition(")")[2].split()[0] == "S" else 0

"""
NESTED = """
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

# The thread was notified and waits for the lock; its handler waits for one that was notified too.
OTHERS = """
def wait():
    with condition:
        condition.wait()

def handler(number, frame):
    begun.set()
    second.join(30)
    told.append(not second.is_alive())

def other():
    second.start()
    while len(condition._waiters) < 2:
        time.sleep(0.002)
    with condition:
        condition.notify_all()
        sleeps()
        os.kill(os.getpid(), signal.SIGUSR1)
        begun.wait()

second = threading.Thread(target=wait, daemon=True)
signal.signal(signal.SIGUSR1, handler)
with condition:
    threading.Thread(target=other, daemon=True).start()
    told.append(condition.wait(60))
print(told)
os._exit(0)
"""


@pytest.mark.parametrize("lock", ["own", "foreign"])
@pytest.mark.parametrize("what", ["acquire", "take", "wait"])
@pytest.mark.parametrize("kit", ["native", "locks", "python"])
def test_a_handler_inside_a_wait_wants_the_same(kit: str, what: str, lock: str, root: Path) -> None:
    check(NESTED, kit, what, lock, root)


@pytest.mark.parametrize("kit", ["native", "locks", "python"])
def test_a_handler_waits_for_who_was_notified_too(kit: str, root: Path) -> None:
    check(OTHERS, kit, "join", "simple", root)


def check(program: str, kit: str, what: str, lock: str, root: Path) -> None:
    probe = {"LD_PRELOAD": str(root / "gilscope" / "_probe.so")} if kit == "locks" else {}
    done = subprocess.run(
        [sys.executable, "-c", COMMON + program, kit, what, lock],
        env={**os.environ, "PYTHONPATH": str(root), **probe},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "[True, True]\n"), done.stderr

"""A lock that its owner takes again and again is had by those who wait for it, too: gilscope's
Condition and the reentrant lock under it, Python Plus's threading.Condition, the locks on atomic.

Nobody is made to yield the GIL here, so the waiter can only run where the owner has to wait for the
lock. Counted are turns: the sections of the owner. tests/unit/test_condition_turns.py has the
native lock in every order, `make bench-starvation` what comes of it in time.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from support import interpreters

PROGRAM = """
import os, signal, sys, threading, time

kit, case = sys.argv[1:]
if kit == "native Condition":
    from gilscope import Condition as make
elif kit == "native RLock":
    from gilscope._sync import RLock as make
elif kit == "threading.Condition":
    from threading import Condition as make
else:
    from gilscope import locks
    make = getattr(locks, kit.split()[1])

lock = make()
had = []

def asleep(native_id):
    "Waits until it sleeps: this thread sleeps too, so it does not wait for the GIL."
    seen = 0
    while seen < 5:
        time.sleep(0.002)
        with open(f"/proc/self/task/{native_id}/stat") as stat:
            seen = seen + 1 if stat.read().rpartition(")")[2].split()[0] == "S" else 0

def begin(function, **names):
    thread = threading.Thread(target=function, **names)
    thread.start()
    asleep(thread.native_id)
    return thread

def compute():
    end = time.monotonic() + 0.001
    while time.monotonic() < end:
        pass

def sections(enough):
    "Takes the lock, which it has, again and again. How often until enough() is true."
    for number in range(1, 100):
        lock.release()
        if enough():
            return number
        lock.acquire()
        compute()
    os.write(2, b"the others have no turn\\n")
    os._exit(1)

def is_kept():
    "Just released, and yet it can be had by another alone."
    if kit.endswith("Semaphore"):
        return not lock._value
    return (lock if hasattr(lock, "locked") else lock._lock).locked()

def take():
    with lock:
        had.append(threading.current_thread().name)

def wait():
    with lock:
        had.append(lock.wait(60))

def waiters_in_their_order():
    names = ["one", "two", "three"]
    threads = [begin(take, name=name) for name in names]
    sys.setswitchinterval(1000)
    assert 2 <= sections(lambda: had) <= 4
    with lock:
        pass
    for thread in threads:
        thread.join()
    assert had == names, had

def after_a_notification():
    lock.release()
    thread = begin(wait)
    lock.acquire()
    lock.notify()
    sys.setswitchinterval(1000)
    assert sections(lambda: had) <= 4
    thread.join()
    assert had == [True]

def a_fork():
    thread = begin(take)
    sys.setswitchinterval(1000)
    sections(is_kept)
    pid = os.fork()
    if not pid:
        code = 1
        try:
            for how in (False,), (True, 60):
                assert lock.acquire(*how)
                lock.release()
            other = threading.Thread(target=take)
            with lock:
                other.start()
            other.join(60)
            code = int(len(had) != 1)
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    with lock:
        thread.join(0)
    thread.join()
    assert len(had) == 1

class AtTheEnd:
    "Python flushes it when no other thread can run any more. Who writes lets the GIL go."
    closed = told = False
    def flush(self):
        if sys.is_finalizing() and not self.told:
            self.told = True
            kept = is_kept()
            with lock:
                os.write(1, b"ends\\n" if kept and not had else b"another had it\\n")

def the_end_of_python():
    begin(take, daemon=True)
    sys.setswitchinterval(1000)
    sys.stdout = AtTheEnd()
    sections(is_kept)

def an_interrupt():
    lock.release()
    main = threading.get_native_id()
    holds = threading.Event()

    def hold():
        lock.acquire()
        holds.set()
        asleep(main)
        sys.setswitchinterval(1000)
        sections(is_kept)
        os.kill(os.getpid(), signal.SIGINT)
        with lock:
            had.append("after it")

    thread = threading.Thread(target=hold)
    thread.start()
    holds.wait()
    try:
        with lock:
            while True:
                time.sleep(0.001)
    except KeyboardInterrupt:
        had.append("interrupted")
    thread.join()
    assert sorted(had) == ["after it", "interrupted"]

lock.acquire()
globals()[case]()
if case != "the_end_of_python":
    print("ends")
"""

KITS = ("native Condition", "native RLock", "atomic Lock", "atomic RLock", "atomic Semaphore")
CASES = ("waiters_in_their_order", "a_fork", "the_end_of_python", "an_interrupt")
PYTHONS = [name for name in interpreters.names() if name in ("3.10", "3.11", "3.13")]


def run(python: str, kit: str, case: str, root: Path) -> None:
    watched = {"LD_PRELOAD": str(root / "gilscope/_probe.so")} if kit.startswith("atomic") else {}
    done = subprocess.run(
        [interpreters.path(python), "-Wignore", "-c", PROGRAM, kit, case],
        env={**os.environ, "PYTHONPATH": str(root), **watched},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "ends\n", "")


@pytest.mark.parametrize("kit", KITS)
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("case", CASES)
def test_who_waits_has_a_turn(case: str, python: str, kit: str, root: Path) -> None:
    run(python, kit, case, root)


@pytest.mark.parametrize("python", PYTHONS)
def test_after_a_notification_too(python: str, root: Path) -> None:
    """Of the native one: it waits in the lock's queue at once."""
    run(python, "native Condition", "after_a_notification", root)


@pytest.mark.parametrize("case", [*CASES, "after_a_notification"])
def test_in_python_plus(case: str, root: Path) -> None:
    run(interpreters.PLUS, "threading.Condition", case, root)

"""CPython's own tests of locks, on gilscope's classes, in every version that gilscope runs on."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from support import interpreters

# Where an interpreter's own tests are not installed (Debian's) nothing can be run.
PYTHONS = [name for name in interpreters.names() if name not in ("3.9", interpreters.DEBIAN)]

NATIVE = """
import sys, threading, unittest
from test import lock_tests
import gilscope
from gilscope._sync import RLock

class NativeCondition(lock_tests.ConditionTests):
    condtype = staticmethod(gilscope.Condition)

class NativeRLock(lock_tests.RLockTests):
    locktype = staticmethod(RLock)

# What threading builds on its Condition.
threading.Condition = gilscope.Condition

class EventOnNative(lock_tests.EventTests):
    eventtype = staticmethod(threading.Event)

class SemaphoreOnNative(lock_tests.SemaphoreTests):
    semtype = staticmethod(threading.Semaphore)

class BoundedSemaphoreOnNative(lock_tests.BoundedSemaphoreTests):
    semtype = staticmethod(threading.BoundedSemaphore)

class BarrierOnNative(lock_tests.BarrierTests):
    barriertype = staticmethod(threading.Barrier)

unittest.main()
"""


@pytest.mark.parametrize("python", PYTHONS)
def test_native(python: str, root: Path) -> None:
    done = subprocess.run(
        [interpreters.path(python), "-c", NATIVE],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "skipped" not in done.stderr
    ran = re.search(r"Ran (\d+) tests", done.stderr)
    assert ran is not None
    assert int(ran[1]) >= 60


ON_ATOMIC = """
import unittest
from test import lock_tests
from gilscope import locks

class LockOnAtomic(lock_tests.LockTests):
    locktype = staticmethod(locks.Lock)

class RLockOnAtomic(lock_tests.RLockTests):
    locktype = staticmethod(locks.RLock)

class ConditionOnAtomic(lock_tests.ConditionTests):
    condtype = staticmethod(locks.Condition)

class EventOnAtomic(lock_tests.EventTests):
    eventtype = staticmethod(locks.Event)

class SemaphoreOnAtomic(lock_tests.SemaphoreTests):
    semtype = staticmethod(locks.Semaphore)

class BoundedSemaphoreOnAtomic(lock_tests.BoundedSemaphoreTests):
    semtype = staticmethod(locks.BoundedSemaphore)

class BarrierOnAtomic(lock_tests.BarrierTests):
    barriertype = staticmethod(locks.Barrier)

unittest.main()
"""

# threading's locks replaced before anything has one, then the tests of what is built on them.
REPLACED = """
import sys, threading, unittest
from gilscope import locks
for name in locks.__all__:
    setattr(threading, name, getattr(locks, name))
unittest.main(module=None, argv=["replaced", *sys.argv[1:]])
"""


def in_atomic_process(python: str, root: Path, *command: str) -> str:
    """What unittest said, of a program in which the GIL is watched."""
    done = subprocess.run(
        [interpreters.path(python), *command],
        env={
            **os.environ,
            "PYTHONPATH": str(root),
            "LD_PRELOAD": str(root / "gilscope" / "_probe.so"),
        },
        capture_output=True,
        text=True,
        timeout=290,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.parametrize("python", PYTHONS)
def test_on_atomic(python: str, root: Path) -> None:
    told = in_atomic_process(python, root, "-c", ON_ATOMIC)
    assert "skipped" not in told
    ran = re.search(r"Ran (\d+) tests", told)
    assert ran is not None
    assert int(ran[1]) >= 75


def cases_of_thread_pools(python: str) -> list[str]:
    """Names for unittest; none where the interpreter came without these tests."""
    library = interpreters.path(python).parent.parent / "lib"
    if [*library.glob("python3.*/test/test_concurrent_futures.py")]:  # up to 3.11
        parts = ["ThreadPoolExecutorTest", "ThreadPoolWaitTests", "ThreadPoolAsCompletedTest"]
    elif [*library.glob("python3.*/test/test_concurrent_futures/__init__.py")]:
        parts = ["test_thread_pool", "test_future", "test_wait"]
    else:
        parts = []
    return [f"test.test_concurrent_futures.{part}" for part in parts]


REPLACED_CASES = [(python, cases) for python in PYTHONS if (cases := cases_of_thread_pools(python))]


def test_thread_pools_are_among_what_is_replaced() -> None:
    assert ("plus", cases_of_thread_pools("plus")) in REPLACED_CASES


@pytest.mark.parametrize(("python", "cases"), REPLACED_CASES, ids=str)
def test_with_threadings_locks_replaced(python: str, cases: list[str], root: Path) -> None:
    """Of threading and queue: tests/cpython/test_locks.py."""
    told = in_atomic_process(python, root, "-c", REPLACED, *cases)
    ran = re.search(r"Ran (\d+) tests", told)
    assert ran is not None
    assert int(ran[1]) >= 25


# Each step waits until the one before can be seen.
STEPS = """
import os, signal, sys, threading, time
from gilscope import locks

def until(true):
    while not true():
        time.sleep(0.001)

condition = locks.Condition()
waits, in_line = condition._waiters, condition._lock._waiting.sleepers
"""
GIVES_UP = f"""{STEPS}
def wait(name, timeout):
    with condition:
        told[name] = condition.wait(timeout)

seconds = 0.05
while True:  # until the one has not given up before this thread has the lock
    told = {{}}
    calls = ("one", seconds), ("other", None)
    threads = [threading.Thread(target=wait, args=call) for call in calls]
    for number, thread in enumerate(threads, 1):
        thread.start()
        until(lambda: len(waits) == number or told)
    condition.acquire()
    if len(waits) == 2:
        break
    condition.notify_all()
    condition.release()
    for thread in threads:
        thread.join()
    seconds *= 2
until(lambda: in_line)  # the one gave up and wants the lock back
condition.notify()
condition.release()
for thread in threads:
    thread.join()
print(sorted(told.items()), file=sys.stderr)
"""
INTERRUPTED = f"""{STEPS}
handled = False

def interrupt(number, frame):
    global handled
    handled = True
    raise KeyboardInterrupt

def hold():
    with condition:
        condition.notify()
        until(lambda: in_line)
        os.kill(os.getpid(), signal.SIGINT)
        until(lambda: handled)

signal.signal(signal.SIGINT, interrupt)
thread = threading.Thread(target=hold)
try:
    with condition:
        thread.start()
        condition.wait()
except KeyboardInterrupt:
    print("interrupted", condition._lock.locked(), file=sys.stderr)
thread.join()
"""


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(
    ("program", "told"),
    [
        pytest.param(GIVES_UP, "[('one', False), ('other', True)]", id="given up"),
        pytest.param(INTERRUPTED, "interrupted False", id="interrupted"),
    ],
)
def test_a_condition_while_its_lock_is_wanted_back(
    python: str, program: str, told: str, root: Path
) -> None:
    """Who gave up is notified no more; an exception comes when the lock is there."""
    assert in_atomic_process(python, root, "-c", program) == f"{told}\n"


LIKE_THREADINGS = """
import copy, gc, math, pickle, sys, threading, time, weakref
from gilscope import atomic, locks, set_atomic
from gilscope.errors import GilscopeError

def error(call, *args, **names):
    try:
        return call(*args, **names)
    except Exception as raised:
        return type(raised)

for module in (threading, locks):
    for kind in ("Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore", "Event"):
        made = getattr(module, kind)()
        for copied in (pickle.dumps, copy.deepcopy):
            assert error(copied, made) is TypeError, (module, kind)
    assert error(copy.deepcopy, module.Barrier(2)) is TypeError
    for kind in ("Lock", "RLock"):
        assert error(getattr(module, kind)().acquire, timeout=math.nan) is ValueError
    empty = module.Semaphore(0)
    assert [empty.acquire(blocking) for blocking in (False, 0, None, "")] == [False] * 4
    assert error(module.Condition().wait_for, lambda: False, 0) is RuntimeError

    class Swallows:
        def acquire(self, *args): return True
        def release(self): pass
        def locked(self): return True
        def __enter__(self): return "entered"
        def __exit__(self, *error): return True
    with module.Condition(Swallows()) as entered:
        assert entered == "entered"
        raise ValueError

    condition, ready = module.Condition(), []
    def produce():
        with condition:
            ready.append(1)
    thread = threading.Thread(target=produce)
    with condition:
        thread.start()
        while not condition.wait_for(lambda: ready, 0):  # lets the lock go each time
            pass
    thread.join()

    barrier, told = module.Barrier(2), []
    def pass_by():
        try:
            barrier.wait()
        except threading.BrokenBarrierError:
            told.append("broken")
        else:
            told.append("passed")
    threads = [threading.Thread(target=pass_by) for _ in range(1)]
    threads[0].start()
    barrier.wait()
    barrier.reset()  # the other may not have left yet
    threads[0].join()
    assert told == ["passed"], (module, told)

gc.disable()
for kind in (locks.Lock, locks.RLock, locks.Semaphore):
    made = kind()
    gone = weakref.ref(made)
    del made
    assert gone() is None, kind

def generator():
    yield
async def coroutine():
    pass
async def both():
    yield
for wrong in (generator, coroutine, both, 3, None):
    assert error(atomic, wrong) is TypeError, wrong

def steps():
    with atomic:
        yield
left_open = steps()
next(left_open)
told = []
def go_on():
    told.append(error(lambda: list(left_open)))
thread = threading.Thread(target=go_on)
thread.start()
thread.join()
assert issubclass(told[0], (GilscopeError, RuntimeError)), told
assert set_atomic(0) == 1
set_atomic(65535)
try:
    with atomic:
        raise SystemExit("deeper than the deepest")
except (GilscopeError, RuntimeError) as raised:
    assert "65535 deep" in str(raised)
set_atomic(0)
print("alike", file=sys.stderr)
"""


@pytest.mark.parametrize("python", PYTHONS)
def test_locks_and_sections_where_theirs_do_not_look(python: str, root: Path) -> None:
    assert in_atomic_process(python, root, "-c", LIKE_THREADINGS).endswith("alike\n")

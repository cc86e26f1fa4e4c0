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

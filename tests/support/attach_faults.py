"""What may happen while gilscope attaches: somebody is killed, two come at once, signals, forks.

Each kind of fault is a function that makes it happen once, at a random moment, and fails where
anybody was harmed. Attachers are forks of this process, so that a moment is one of the attacher's
own and not of its start. tests/soak/attach_faults.py does it by the hundred.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from support.attached import SERVER, Target, is_recorded, running, wait_until

from gilscope.attach.record import Wish, attach
from gilscope.errors import NotAttachable
from gilscope.recorder.options import Options

ATTACH_S = 0.15  # for so long an attacher comes in, records and goes, about
RECORD_S = 0.05
LONG_S = 20.0  # no attacher takes so long
FINE, REFUSED, BROKEN = 0, 4, 70

# A thread that computes and never lets the GIL go by itself, with a timer's signal in between.
STORM = """
import select, signal, sys
came = 0
def count(number, frame):
    global came
    came += 1
for number in (signal.SIGALRM, signal.SIGUSR1): signal.signal(number, count)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
print("ready", flush=True)
x = 1.5
while not select.select([sys.stdin], [], [], 0)[0]:
    for i in range(300000): x = x * 1.0000001 + 0.25 if x < 1e9 else 1.5
signal.setitimer(signal.ITIMER_REAL, 0)
print("fine" if came else "no signal came", flush=True)
"""

# Forks one after another from two threads; each child uses the GIL with a thread of its own.
FORKS = """
import os, sys, threading, time, warnings
warnings.simplefilter("ignore")
over, wrong = threading.Event(), []
def forks():
    while not over.is_set():
        child = os.fork()
        if child == 0:
            one = threading.Thread(target=time.sleep, args=(0.0005,)); one.start(); one.join()
            os._exit(7)
        end = time.monotonic() + 30
        while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
            if time.monotonic() > end:
                os.kill(child, 9); ended = os.waitpid(child, 0); break
            time.sleep(0.0005)
        if os.WIFSIGNALED(ended[1]) or os.WEXITSTATUS(ended[1]) != 7: wrong.append(ended[1])
threads = [threading.Thread(target=forks) for _ in range(2)]
for thread in threads: thread.start()
print("ready", flush=True)
sys.stdin.read()
over.set()
for thread in threads: thread.join()
print(wrong or "fine", flush=True)
"""


class Attacher:
    """`gilscope attach`, in a fork of this process."""

    def __init__(self, pid: int, record_s: float = RECORD_S) -> None:
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            code = BROKEN
            try:
                options = Options(duration=record_s)
                wish = Wish(pid, options, trace=Path("none.pftrace"), tell=lambda _: None)
                attach(wish).session.discard()
                code = FINE
            except NotAttachable:
                code = REFUSED
            finally:
                os._exit(code)

    def wait(self) -> int:
        """Its exit code; -9 where it was killed."""
        end = time.monotonic() + LONG_S
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > end:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                raise AssertionError(f"an attacher still runs after {LONG_S:.0f} s")
            time.sleep(0.002)

    def kill(self) -> None:
        """At once."""
        os.kill(self.pid, signal.SIGKILL)


def _some_time(chance: random.Random, most_s: float = ATTACH_S) -> None:
    time.sleep(chance.random() * most_s)


def _goes_in_and_out(target: Target) -> None:
    code = Attacher(target.pid, 0.01).wait()
    assert code == FINE, f"the next attacher: exit code {code}"
    assert not is_recorded(target.pid), "the rings are mapped still"


def the_attacher_is_killed(target: Target, chance: random.Random) -> None:
    """The next one cleans up, and comes in and goes."""
    attacher = Attacher(target.pid)
    _some_time(chance)
    attacher.kill()
    attacher.wait()
    _goes_in_and_out(target)


def the_program_is_killed(target: Target, chance: random.Random) -> None:
    """The attacher ends, whatever it was about."""
    attacher = Attacher(target.pid)
    _some_time(chance)
    target.process.kill()
    target.process.wait()
    code = attacher.wait()
    assert code in (FINE, REFUSED), f"exit code {code}"


def two_come_at_once(target: Target, chance: random.Random) -> None:
    """One of them records, the other is told so or comes when it has gone."""
    first = Attacher(target.pid)
    _some_time(chance, 0.02)
    second = Attacher(target.pid)
    codes = sorted((first.wait(), second.wait()))
    assert codes in ([FINE, FINE], [FINE, REFUSED]), f"exit codes {codes}"
    assert not is_recorded(target.pid)


def signals_storm(target: Target, chance: random.Random) -> None:
    """From a timer and from another process, all the time."""
    storm = os.fork()
    if storm == 0:
        while True:
            os.kill(target.pid, signal.SIGUSR1)
            time.sleep(0.0003)
    try:
        _some_time(chance, 0.01)
        _goes_in_and_out(target)
    finally:
        os.kill(storm, signal.SIGKILL)
        os.waitpid(storm, 0)


def forks_at_each_step(target: Target, chance: random.Random) -> None:
    """No child hangs, none ends in another way."""
    _some_time(chance, 0.01)
    _goes_in_and_out(target)


class Fault(NamedTuple):
    """A kind of fault."""

    happen: Callable[[Target, random.Random], None]
    program: str
    again: bool  # the program outlives it

    @property
    def name(self) -> str:
        """In words."""
        return self.happen.__name__.replace("_", " ")


FAULTS = (
    Fault(the_attacher_is_killed, SERVER, True),
    Fault(the_program_is_killed, SERVER, False),
    Fault(two_come_at_once, SERVER, True),
    Fault(signals_storm, STORM, True),
    Fault(forks_at_each_step, FORKS, True),
)


@contextlib.contextmanager
def rings_in(folder: Path) -> Iterator[None]:
    """All recordings keep their rings there; what killed ones leave is removed in the end."""
    before = os.environ.get("GILSCOPE_DIR")
    os.environ["GILSCOPE_DIR"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["GILSCOPE_DIR"]
        else:
            os.environ["GILSCOPE_DIR"] = before
        for left in folder.glob("gilscope-*"):
            shutil.rmtree(left, ignore_errors=True)


def rounds(fault: Fault, python: Path, times: int, seed: int) -> Iterator[str | None]:
    """Of each time what went wrong; None: nothing. The last one also speaks for the program."""
    done = 0
    while done < times:
        with running(python, fault.program) as target:
            before = target.footprint()[1:]
            while done < times:
                wrong = _once(fault, target, random.Random(seed + done))
                done += 1
                alive = target.process.poll() is None
                if fault.again and (done == times or wrong or not alive):
                    wrong = wrong or _last_words(target, before)
                yield wrong
                if wrong or not fault.again:
                    break


def _once(fault: Fault, target: Target, chance: random.Random) -> str | None:
    try:
        fault.happen(target, chance)
    except AssertionError as error:
        return str(error) or "failed"
    return None


def _last_words(target: Target, before: tuple[int, bytes]) -> str | None:
    """What the program has to say against it, or /proc."""
    if target.process.poll() is not None:
        return f"the program ended: {target.process.returncode}"
    try:  # what it has open for a moment is no fault
        wait_until(lambda: target.footprint()[1:] == before)
    except AssertionError:
        return "descriptors or environment are not as before"
    code, out = target.end()
    return None if code == 0 and out.startswith("fine") else f"exit code {code}: {out.strip()}"

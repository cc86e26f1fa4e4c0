"""Programs that are looked at from outside. Each says in one line of JSON when it is ready."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gilscope.live.memory import Memory
from gilscope.live.runtime import Runtime
from gilscope.live.threads import Look, look

# What each thread is: it sleeps, waits for a lock, computes. Tells what is true of all of them.
THREADS = """
import json, os, sys, threading, time

lock = threading.Lock()
lock.acquire()


class Deep:
    def wait(self, depth):
        if depth:
            return self.wait(depth - 1)
        with lock:  # waits here
            pass


def compute():
    while True:
        sum(range(100))


def sleeps():
    time.sleep(600)


threads = [
    threading.Thread(target=compute, name="spin-1"),
    threading.Thread(target=compute, name="spin-2"),
    threading.Thread(target=Deep().wait, args=(5,), name="wäits 名 \\U0001f40d"),
    threading.Thread(target=sleeps, name="before"),
]
for thread in threads:
    thread.daemon = True
    thread.start()
threads[3].name = "renamed"
stacks = sys._current_frames()


def frames_of(thread):
    frame, found = sys._current_frames()[thread.ident], []
    while frame:
        name = getattr(frame.f_code, "co_qualname", frame.f_code.co_name)
        found.append([frame.f_code.co_filename, frame.f_lineno, name])
        frame = frame.f_back
    return found


while len(frames_of(threads[2])) < 9 or len(frames_of(threads[3])) < 4:
    time.sleep(0.01)
time.sleep(0.05)
print(json.dumps({
    "pid": os.getpid(),
    "threads": {t.native_id: [t.ident, t.name] for t in threading.enumerate()},
    "frames": {t.native_id: frames_of(t) for t in threads[2:]},
    "main": threading.main_thread().native_id,
}), flush=True)
time.sleep(600)
"""


@contextmanager
def running(
    python: Path, program: str, *arguments: str, before: tuple[str, ...] = ()
) -> Iterator[tuple[subprocess.Popen[str], Any]]:
    """The process, and what it said when it was ready. It is killed at the end."""
    process = subprocess.Popen(
        [*before, str(python), "-c", program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # with what it starts it is killed as a group
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            assert process.stderr is not None
            raise AssertionError(process.stderr.read())
        yield process, json.loads(line)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def until(pid: int, reached: Callable[[Look], bool], patience_s: float = 60.0) -> Look:
    """The first look at the process of which this is true."""
    end = time.monotonic() + patience_s
    with Memory(pid) as memory:
        runtime = Runtime.open(memory)
        while True:
            seen = look(runtime)
            if reached(seen):
                return seen
            assert time.monotonic() < end, f"never seen: {seen}"
            time.sleep(0.01)

"""Releases of the GIL that a waiter had asked for and that were voluntary all the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support import interpreters
from support.recorded import record

from gilscope.perfetto.reader import open_trace
from gilscope.trace.schema import EventKind

ROUNDS = 10
LESSONS = 64

# Each thread computes in C until the spinner has asked, and then lets the GIL go without a look at
# the request: `waits` for a lock, which its helper can only give back meanwhile; `reads`, from a
# pipe; `ends` because it ends. (What a thread has in a threading.local goes with its state.) The
# first two take the time behind what they computed: the next release is the one. Before, all are
# done while nobody asks: in some builds it can only be learned who does.
PROGRAM = f"""
import functools, json, operator, os, sys, threading, time
over, gate, lock = threading.Event(), threading.Lock(), threading.Lock()
readable, writable = os.pipe()
mine, stamps = threading.local(), {{}}
gate.acquire()
def spin():
    while not over.is_set():
        sum(range(1000))
def in_a_row(*steps):
    return list(map(operator.call, steps))
def wait(compute):
    lock.acquire()
    helper = threading.Thread(target=let_go, name="helper")
    helper.start()
    stamp = in_a_row(compute, gate.release, time.monotonic_ns, lock.acquire)[2]
    lock.release()
    helper.join()
    return stamp
def let_go():
    gate.acquire()
    lock.release()
def read(compute):
    os.write(writable, b"x")
    return in_a_row(compute, time.monotonic_ns, functools.partial(os.read, readable, 1))[1]
def end(compute):
    mine.last = [[] for _ in range(500_000)] if compute is not int else None
def again(name, step, rounds, compute):
    stamps[name] = [step(compute) for _ in range(rounds)]
def run(prefix, rounds, compute):
    threads = [
        threading.Thread(target=again, name=prefix + name, args=(prefix + name, *rest))
        for name, *rest in [
            ("waits", wait, rounds, compute),
            *[("ends", end, 1, compute)] * rounds,
            ("reads", read, rounds, compute),
        ]
    ]
    for thread in threads:
        thread.start()
        thread.join()
run("first ", {LESSONS}, int)
spinner = threading.Thread(target=spin, name="spinner")
spinner.start()
run("", {ROUNDS}, functools.partial(sum, range(2_000_000)))
over.set()
spinner.join()
json.dump(stamps, sys.stdout)
"""
TOLD = [
    (name, feed)
    for name in interpreters.names()
    if interpreters.version(name) >= (3, 13)  # before, an end is not told apart: docs/analysis.md
    for feed in (("built-in", "interposed") if name == interpreters.PLUS else ("interposed",))
]


@pytest.mark.parametrize(("name", "feed"), TOLD)
def test_a_thread_that_blocks_or_ends_lets_go_by_itself(
    tmp_path: Path, name: str, feed: str
) -> None:
    variables = {"GILSCOPE_FEED": feed}
    done = record(tmp_path, interpreters.path(name), "-c", PROGRAM, variables=variables)
    assert done.code == 0, done.err
    events = np.concatenate([batch.copy() for batch in open_trace(done.path).batches()])
    lets_go = events[np.isin(events["kind"], (EventKind.GIL_RELEASE, EventKind.GIL_YIELD))]
    stamps = json.loads(done.out)
    for of in ("waits", "reads"):
        its = lets_go[lets_go["thread"] == done.thread(of).id]
        next_one = np.searchsorted(its["time_ns"], stamps[of])
        assert its["kind"][next_one].tolist() == [EventKind.GIL_RELEASE] * ROUNDS, of
    ended = [thread.id for thread in done.metadata.threads if thread.name == "ends"]
    last = [lets_go[lets_go["thread"] == thread]["kind"][-1] for thread in ended]
    assert last == [EventKind.GIL_RELEASE] * ROUNDS

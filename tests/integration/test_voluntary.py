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

# Each thread computes in C until the spinner has asked, and then lets the GIL go without a look at
# the request: `blocks` to wait for a lock, which its helper can only give back while `blocks` waits;
# `ends` because it ends. (What a thread has in a threading.local goes with its state.) `blocks`
# takes the time behind what it computed: the next release is the one.
PROGRAM = f"""
import functools, json, operator, sys, threading, time
over, gate, lock = threading.Event(), threading.Lock(), threading.Lock()
compute = functools.partial(sum, range(2_000_000))
mine, stamps = threading.local(), []
def spin():
    while not over.is_set():
        sum(range(1000))
def blocks():
    gate.acquire()
    for _ in range({ROUNDS}):
        lock.acquire()
        helper = threading.Thread(target=let_go, name="helper")
        helper.start()
        steps = (compute, gate.release, time.monotonic_ns, lock.acquire)
        stamps.append(list(map(operator.call, steps))[2])
        lock.release()
        helper.join()
def let_go():
    gate.acquire()
    lock.release()
def ends():
    mine.last = [[] for _ in range(500_000)]
spinner = threading.Thread(target=spin, name="spinner")
spinner.start()
threads = [threading.Thread(target=blocks, name="blocks")]
threads += [threading.Thread(target=ends, name="ends") for _ in range({ROUNDS})]
for thread in threads:
    thread.start()
    thread.join()
over.set()
spinner.join()
json.dump(stamps, sys.stdout)
"""
# Elsewhere they are not told apart (docs/analysis.md).
TOLD = [
    (name, feed)
    for name in interpreters.names()
    if name != interpreters.DEBIAN and interpreters.version(name) == (3, 13)
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
    blocked = lets_go[lets_go["thread"] == done.thread("blocks").id]
    next_one = np.searchsorted(blocked["time_ns"], json.loads(done.out))
    assert blocked["kind"][next_one].tolist() == [EventKind.GIL_RELEASE] * ROUNDS
    ended = [thread.id for thread in done.metadata.threads if thread.name == "ends"]
    last = [lets_go[lets_go["thread"] == thread]["kind"][-1] for thread in ended]
    assert last == [EventKind.GIL_RELEASE] * ROUNDS

"""Releases of the GIL that a waiter had asked for and that were voluntary all the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support import interpreters
from support.recorded import record

from gilscope.perfetto.reader import open_trace
from gilscope.trace.schema import EventKind

ROUNDS = 10

# Each thread computes in C until the spinner has asked, and then lets the GIL go without a look at
# the request: `blocks` to wait for a lock, `ends-*` because they end. (What a thread has in a
# threading.local goes with its state.)
PROGRAM = f"""
import functools, operator, threading
over, lock, mine = threading.Event(), threading.Lock(), threading.local()
compute = functools.partial(sum, range(2_000_000))
def spin():
    while not over.is_set():
        sum(range(1000))
def blocks():
    for _ in range({ROUNDS}):
        lock.acquire()
        helper = threading.Thread(target=let_go, name="helper")
        helper.start()
        list(map(operator.call, (compute, lock.acquire)))
        lock.release()
        helper.join()
def let_go():
    compute()
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
    blocked = done.trace.thread_stats[done.thread("blocks").id]
    assert blocked["releases"] >= ROUNDS
    assert blocked["yields"] < ROUNDS / 2
    events = np.concatenate([batch.copy() for batch in open_trace(done.path).batches()])
    ended = [thread.id for thread in done.metadata.threads if thread.name == "ends"]
    lets_go = np.isin(events["kind"], (EventKind.GIL_RELEASE, EventKind.GIL_YIELD))
    last = [events[lets_go & (events["thread"] == thread)]["kind"][-1] for thread in ended]
    assert last == [EventKind.GIL_RELEASE] * ROUNDS

"""Waits for locks against stamps of the program's own: `make test-locks`, a line an interpreter.

Threads contend for some locks; each stamps what it waited and who had released the lock before, at
which of two lines. Printed are, of the waits of a millisecond and more, how many the trace has, how
far its length (with the wait for the GIL that follows) is from the stamps, and how often the waker
and both lines are right. Exit code 1 where one of the bounds of issue and documents is missed.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from support import interpreters
from support.recorded import record

from gilscope.analysis.sites import sites_of
from gilscope.trace.model import Trace
from gilscope.trace.story import NOBODY

PROGRAM = """
import json, random, sys, threading, time

N, TURNS = 6, int(sys.argv[1])
locks = [threading.Lock() for _ in range(2)]
released = [None] * len(locks)
stamps = []

def first(lock, mine):
    begin = time.monotonic_ns()
    lock.acquire()  # line first
    return begin, time.monotonic_ns(), mine

def second(lock, mine):
    begin = time.monotonic_ns()
    lock.acquire()  # line second
    return begin, time.monotonic_ns(), mine

def one(lock):
    lock.release()  # line one

def other(lock):
    lock.release()  # line other

def work(number):
    dice = random.Random(number)
    mine = f"worker-{number}"
    for _ in range(TURNS):
        which = dice.randrange(len(locks))
        take, give = dice.choice((first, second)), dice.choice((one, other))
        begin, end, who = take(locks[which], mine)
        stamps.append((who, begin, end, take.__name__, released[which]))
        time.sleep(dice.uniform(0.0005, 0.003))
        released[which] = mine, give.__name__
        give(locks[which])
        time.sleep(dice.uniform(0, 0.002))

threads = [threading.Thread(target=work, args=(n,), name=f"worker-{n}") for n in range(N)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps(stamps))
"""
LONG_NS = 1_000_000
NEAR_NS = 200_000  # of the stamps


class Compared(NamedTuple):
    """Of one recording. Shares from 0 to 1; `off_ns` has a row a wait."""

    waits: int
    found: float
    waker: float
    waiter_line: float
    waker_line: float
    off_ns: Any


def compared(folder: Path, name: str, turns: int) -> Compared:
    """Record the program on this interpreter and hold its stamps against the trace."""
    program = folder / "program.py"
    program.write_text(PROGRAM)
    recording = record(folder, interpreters.path(name), program, str(turns))
    if recording.code:
        raise SystemExit(recording.err)
    return compare(recording.trace, json.loads(recording.out))


def compare(trace: Trace, stamps: list[Any]) -> Compared:
    """`stamps`: who, begin, end, the function that waited, (who, function) that had released."""
    sites = sites_of(trace)
    ids = {thread.name: thread.id for thread in trace.metadata.threads}
    rows = [row for row in stamps if row[2] - row[1] >= LONG_NS]
    right = {"found": 0, "waker": 0, "waiter_line": 0, "waker_line": 0}
    off_ns = []
    for who, begin, end, function, released in rows:
        mine = np.flatnonzero(
            (trace.sync_waits["thread"] == ids[who])
            & (trace.sync_waits["start_ns"] >= begin)
            & (trace.sync_waits["end_ns"] <= end)
        )
        if not len(mine):
            # The stamps have the waits for the GIL, too: of those it may consist alone.
            waited = _waited_for_gil(trace, ids[who], begin, end)
            right = {key: value + (waited >= 0.9 * (end - begin)) for key, value in right.items()}
            continue
        right["found"] += 1
        last = trace.sync_waits[mine[-1]]
        locked = int((trace.sync_waits["end_ns"] - trace.sync_waits["start_ns"])[mine].sum())
        off_ns.append(end - begin - locked - _waited_for_gil(trace, ids[who], begin, end))
        right["waker"] += released is not None and last["waker"] == ids[released[0]]
        if locked < LONG_NS:  # too short for a stack
            right["waiter_line"] += 1
            right["waker_line"] += 1
            continue
        right["waiter_line"] += _function(sites, sites.of_sync_wait, int(mine[-1])) == function
        notify = int(last["notify"])
        ended = None if notify == NOBODY else _function(sites, sites.of_notify, notify)
        right["waker_line"] += released is not None and ended == released[1]
    return Compared(
        len(rows), **{key: n / max(len(rows), 1) for key, n in right.items()}, off_ns=off_ns
    )


def _waited_for_gil(trace: Trace, thread: int, begin: int, end: int) -> int:
    waits = trace.waits[trace.waits["thread"] == thread]
    inside = (waits["end_ns"] > begin) & (waits["start_ns"] < end)
    parts = np.minimum(waits["end_ns"], end) - np.maximum(waits["start_ns"], begin)
    return int(parts[inside].sum())


def _function(sites: Any, numbers: Any, index: int) -> str | None:
    site = None if numbers is None else sites.table[int(numbers[index])]
    return None if site is None else site.place.function


def main() -> int:
    """Compare on every interpreter that is here."""
    missed = 0
    for name in interpreters.names():
        with tempfile.TemporaryDirectory() as folder:
            found = compared(Path(folder), name, 150)
        near = np.mean(np.abs(found.off_ns) <= NEAR_NS)
        shares = (found.found, found.waker, found.waiter_line, found.waker_line)
        print(
            f"{name}: {found.waits} waits; there {found.found:.2%}, waker {found.waker:.2%},"
            f" line of the waiter {found.waiter_line:.2%}, of the waker {found.waker_line:.2%};"
            f" off by p50 {np.percentile(found.off_ns, 50) / 1e3:.0f} us,"
            f" p99 {np.percentile(found.off_ns, 99) / 1e3:.0f} us, {near:.2%} within 200 us"
        )
        missed += min(shares) < 0.99
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())

"""Waits for locks on every interpreter, against the program's own stamps and counted semaphores."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stock_locks.compare import compared
from support import interpreters
from support.programs import compiled
from support.recorded import Recording, record

from gilscope.analysis.summary import summarise
from gilscope.trace.model import Trace
from gilscope.trace.schema import SYNC_KIND_MASK, SyncKind

MS = 1_000_000

# Each kind of wait is made by a thread of its own and is ended by the main thread, once it is seen
# to wait. `stamps` has the begin and the end of each, as the program knows them.
PROGRAM = """
import concurrent.futures, json, logging, queue, sys, threading, time

stamps = {}

def frame_of(thread):
    return sys._current_frames().get(thread.ident)

def stamped(kind, call):
    begin = time.monotonic_ns()
    call()
    stamps[kind] = begin, time.monotonic_ns()

lock, rlock, semaphore = threading.Lock(), threading.RLock(), threading.Semaphore(0)
slots = threading.Semaphore(1)
condition, event, barrier = threading.Condition(), threading.Event(), threading.Barrier(2)
full, empty = queue.Queue(1), queue.Queue()
full.put(0)
future = concurrent.futures.Future()
handler = logging.StreamHandler()
sleeper = threading.Thread(target=event.wait, args=(60,))

def take_lock():
    lock.acquire()  # line lock
    lock.release()

def take_rlock():
    with rlock:  # line rlock
        pass

def take_semaphore():
    semaphore.acquire()  # line semaphore

def take_slot():
    with slots:  # line slot
        pass

def wait_condition():
    with condition:
        condition.wait()  # line condition

def wait_event():
    event.wait()  # line event

def wait_barrier():
    barrier.wait()  # line barrier

def put_queue():
    full.put(1)  # line put

def get_queue():
    empty.get()  # line get

def take_future():
    future.result()  # line future

def take_handler():
    handler.acquire()  # line handler
    handler.release()

def end_condition():
    with condition:
        condition.notify()

ENDS = {
    take_lock: (lock.acquire, lock.release),
    take_rlock: (rlock.acquire, rlock.release),
    take_semaphore: (None, semaphore.release),
    take_slot: (slots.__enter__, lambda: slots.__exit__(None, None, None)),
    wait_condition: (None, end_condition),
    wait_event: (None, event.set),
    wait_barrier: (None, barrier.wait),
    put_queue: (None, full.get),
    get_queue: (None, lambda: empty.put(1)),
    take_future: (None, lambda: future.set_result(1)),
    take_handler: (handler.acquire, handler.release),
}
for wait, (before, end) in ENDS.items():
    if before:
        before()
    waiter = threading.Thread(target=stamped, args=(wait.__name__, wait), name=wait.__name__)
    waiter.start()
    while True:  # until it is inside of its wait
        frame = frame_of(waiter)
        names = []
        while frame:
            names.append(frame.f_code.co_name)
            frame = frame.f_back
        if wait.__name__ in names:
            break
        time.sleep(0.001)
    time.sleep(0.02)
    end()  # line end
    waiter.join()
print(json.dumps(stamps))
"""
LIBRARIES = {
    "take_lock": None,
    "take_rlock": None,
    "take_semaphore": "threading.Semaphore.acquire",  # nobody has it: it counts what is done
    "take_slot": "threading.Semaphore.acquire",
    "wait_condition": "threading.Condition.wait",
    "wait_event": "threading.Event.wait",
    "wait_barrier": "threading.Barrier.wait",
    "put_queue": "queue.Queue.put",
    "get_queue": "queue.Queue.get",
    "take_future": "concurrent.futures.Future.result",
    "take_handler": "logging.Handler.acquire",
}
FOR_LOCKS = {"take_lock", "take_rlock", "take_slot", "put_queue", "take_handler"}


def run(folder: Path, name: str, source: str, **variables: str) -> Recording:
    program = folder / "program.py"
    program.write_text(source)
    recording = record(folder, interpreters.path(name), program, variables=variables)
    assert recording.code == 0, recording.err
    return recording


def rows_of(summary: dict[str, Any]) -> list[dict[str, Any]]:
    (process,) = summary["processes"]
    return [*(process["locks"] or ()), *(process["conditions"] or ())]


@pytest.mark.parametrize("name", interpreters.names())
def test_each_wait_is_told_by_its_name_with_both_lines(tmp_path: Path, name: str) -> None:
    recording = run(tmp_path, name, PROGRAM)
    trace = recording.trace
    summary = summarise(trace)
    stamps = json.loads(recording.out)
    lines = dict(zip(LIBRARIES, lines_marked(PROGRAM), strict=True))
    (end_line,) = (n for n, text in numbered(PROGRAM) if text.endswith("# line end"))
    ids = {thread.name: thread.id for thread in trace.metadata.threads}
    for kind, library in LIBRARIES.items():
        if name == "plus" and kind == "wait_condition":
            library = None  # noqa: PLW2901 - its Condition is C code, which has no frame
        mine = trace.sync_waits[trace.sync_waits["thread"] == ids[kind]]
        longest = mine[np.argmax(mine["end_ns"] - mine["start_ns"])]
        begin, end = stamps[kind]
        assert begin <= longest["start_ns"] <= longest["end_ns"] <= end, kind
        # What of the program's own time is none of its waits, for the lock and for the GIL.
        assert longest["end_ns"] - longest["start_ns"] >= 20 * MS, kind
        assert longest["waker"] == ids["MainThread"], kind
        (part, row) = next(
            (part, row)
            for row in rows_of(summary)
            for part in row["blame"]
            if part["waiter"] == ids[kind] and part["waiter_site"]
        )
        assert (row["library"], row["waits_for"] == "lock") == (library, kind in FOR_LOCKS)
        assert (part["waiter_site"]["line"], part["waiter_site"]["function"]) == (lines[kind], kind)
        assert part["holder"] == ids["MainThread"]
        site = part["holder_site"]
        if site["function"] == "<module>":  # else in a function of the program's that ends it
            assert site["line"] == end_line, kind
        else:
            assert site["function"] in {"end_condition", "<lambda>"}, kind


def numbered(source: str) -> list[tuple[int, str]]:
    return list(enumerate(source.splitlines(), 1))


def lines_marked(source: str) -> list[int]:
    return [n for n, text in numbered(source) if "# line " in text and "# line end" not in text]


COUNTER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static unsigned long calls, waits;

#define COUNTED(name, parameters, arguments)                                                       \
    int name parameters {                                                                          \
        static int (*next) parameters;                                                             \
        if (!next)                                                                                 \
            *(void **)&next = dlsym(RTLD_NEXT, #name);                                             \
        __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED);                                           \
        if (sem_trywait(s) == 0) /* CPython's own short locks are taken so, too, and are free */   \
            return 0;                                                                              \
        __atomic_add_fetch(&waits, 1, __ATOMIC_RELAXED);                                           \
        return next arguments;                                                                     \
    }
COUNTED(sem_wait, (sem_t * s), (s))
COUNTED(sem_timedwait, (sem_t * s, const struct timespec *t), (s, t))
COUNTED(sem_clockwait, (sem_t * s, clockid_t c, const struct timespec *t), (s, c, t))

__attribute__((destructor)) static void tell(void) {
    char path[4096];
    snprintf(path, sizeof path, "%s/counted.%d", getenv("COUNTED_WAITS"), getpid());
    FILE *out = fopen(path, "w");
    fprintf(out, "%lu %lu\n", waits, calls);
    fclose(out);
}
"""
CONTENDED = """
import threading, time
lock, n = threading.Lock(), 0
def work():
    global n
    for _ in range(200):
        with lock:
            n += 1
            time.sleep(0.0001)
        time.sleep(0.0001)  # who is woken has it next
threads = [threading.Thread(target=work) for _ in range(4)]
for t in threads: t.start()
for t in threads: t.join()
"""


@pytest.mark.parametrize("name", [n for n in interpreters.names() if n != "plus"])
def test_no_wait_for_a_semaphore_is_missed(tmp_path: Path, name: str) -> None:
    source = tmp_path / "counter.c"
    source.write_text(COUNTER)
    library = compiled(source, tmp_path / "counter.so", "gcc", "-shared", "-fPIC")
    recording = run(tmp_path, name, CONTENDED, LD_PRELOAD=str(library), COUNTED_WAITS=str(tmp_path))
    trace = recording.trace
    (process,) = trace.metadata.processes
    counted = tmp_path / f"counted.{process.pid}"  # gilscope has its own
    waits, calls = map(int, counted.read_text().split())
    # The probe comes first: between it and the counter, a lock may be given back. So what it saw
    # as a wait came here as a call, and what was a wait here is one of its own.
    assert waits <= len(trace.sync_waits) <= calls
    assert waits > 100
    known = trace.sync_waits["waker"] != 0xFFFFFFFF
    assert known.mean() >= 0.99
    assert exchanges(trace) >= 0.99


def exchanges(trace: Trace) -> float:
    """The share of waits that were ended by the thread that had waited, or come by, before."""
    kinds = trace.sync_waits["object"] & np.uint64(SYNC_KIND_MASK)
    assert set(kinds.tolist()) <= {SyncKind.SEM_LOCK, SyncKind.PARKED}
    woken = trace.sync_waits[trace.sync_waits["waker"] != 0xFFFFFFFF]
    return float((woken["waker"] != woken["thread"]).mean())


@pytest.mark.parametrize("name", interpreters.names())
def test_waits_are_as_the_program_stamps_them(tmp_path: Path, name: str) -> None:
    """What `make test-locks` does at length."""
    found = compared(tmp_path, name, 40)
    assert found.waits > 50
    assert min(found.found, found.waker, found.waiter_line, found.waker_line) >= 0.98


FREE = """
import sys, threading
lock = threading.Lock()
def use(n, acquire, release):
    for _ in range(n):
        acquire()
        release()
use(int(sys.argv[1]), lock.acquire, lock.release)
"""
FEW, MANY = 2_000, 302_000
MOST = 12  # instructions that a free lock may cost more, taken and given back


@pytest.mark.parametrize("name", ["3.9", "3.13"])
def test_a_free_lock_costs_a_dozen_instructions(tmp_path: Path, name: str) -> None:
    program = tmp_path / "free.py"
    program.write_text(FREE)
    alone, recorded = (
        instructions(tmp_path, name, program, recorded=recorded) for recorded in (False, True)
    )
    print(f"{recorded - alone:g} instructions more a lock")
    assert 0 < recorded - alone <= MOST


def instructions(folder: Path, name: str, program: Path, *, recorded: bool) -> float:
    """Of one turn of the loop, counted by callgrind."""
    counts = []
    same_hashes = {**os.environ, "PYTHONHASHSEED": "0"}  # starts differ by less
    for turns in (FEW, MANY):
        command = [
            *("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"),
            *(str(interpreters.path(name)), "-S", str(program), str(turns)),
        ]
        if recorded:
            said = record(folder, *command, variables=same_hashes).err
        else:
            done = subprocess.run(
                command, capture_output=True, text=True, check=True, timeout=300, env=same_hashes
            )
            said = done.stderr
        (found,) = re.findall(r"Collected : (\d+)", said)
        counts.append(int(found))
    return (counts[1] - counts[0]) / (MANY - FEW)

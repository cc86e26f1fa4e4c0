"""`gilscope attach --sched`: what the kernel tells of threads that ran already, against their own
count of processor time.
"""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import interpreters
from support.attached import DEADLINE_S, SERVER, attach_command, attaching, running
from support.recorded import GILSCOPE

import gilscope
from gilscope.trace.story import PROCESSOR_STATES

# Threads that note the time and what they had of a processor by then, in a process and in its
# child, both there before; `later` begins at a line of input. Ends with its input.
PROGRAM = """
import json, os, sys, threading, time
over, told = threading.Event(), {}
readable, writable = os.pipe()
def noting(work):
    mine = told.setdefault(threading.current_thread().name, [])
    while not over.is_set():
        before, cpu = time.monotonic_ns(), time.thread_time_ns()
        mine.append((before, cpu, time.monotonic_ns()))
        work()
def start(name, work):
    thread = threading.Thread(target=noting, args=(work,), name=name)
    thread.start()
    return thread
def computes(): sum(range(20_000))
def sleeps(): time.sleep(0.003)
child = os.fork() == 0
threads = [start("computes", computes), start("sleeps", sleeps)]
if child:
    os.close(writable)
    os.read(readable, 1)
else:
    print("ready", flush=True)
    sys.stdin.readline()
    threads.append(start("later", sleeps))
    while len(told.get("later", ())) < 150:
        time.sleep(0.01)
    print("enough", flush=True)
    sys.stdin.readline()
over.set()
for thread in threads: thread.join()
print(json.dumps([os.getpid(), told]), flush=True)
if not child:
    os.close(writable)
    os.wait()
"""
QUICK_NS = 100_000  # nothing came between the looks at two clocks


@pytest.mark.parametrize("name", interpreters.names())
def test_running_is_what_the_threads_count_themselves(tmp_path: Path, name: str) -> None:
    trace = tmp_path / "t.pftrace"
    with running(interpreters.path(name), PROGRAM) as target:
        with attaching(target, trace, "--sched") as recorder:
            target.say("later")
            assert target.line() == "enough"
        assert recorder.returncode == 0
        target.say("end")
        told = dict(map(json.loads, (target.line(), target.line())))
        assert target.end() == (0, "")
    read = gilscope.read(trace)
    assert read.metadata.switches
    assert read.metadata.lost_switches == 0
    pids = {process.id: process.pid for process in read.metadata.processes}
    seen = []
    for thread in read.metadata.threads:
        if thread.name not in told[pids[thread.process]]:
            continue
        rows = read.processors[read.processors["thread"] == thread.id]
        stamps = np.array(told[pids[thread.process]][thread.name], np.int64)
        quick = stamps[stamps[:, 2] - stamps[:, 0] < QUICK_NS]
        inside = (quick[:, 0] >= rows["time_ns"][0]) & (quick[:, 2] <= rows["time_ns"][-1])
        (first, had, _), (last, has, _) = quick[inside][[0, -1]].tolist()
        edges = np.clip(rows["time_ns"], first, last)
        on = rows["state"][:-1] == PROCESSOR_STATES.index("running")
        ran = int(np.diff(edges)[on].sum())
        assert ran >= (has - had) * 0.98 - 0.01 * (last - first), thread.name
        assert ran <= (has - had) + 0.1 * (last - first), thread.name
        seen.append(thread.name)
    assert sorted(seen) == sorted(["computes", "sleeps", "computes", "sleeps", "later"])


# The kernel's answers to each thread that it is asked about, one after the other.
ANSWERS = """
import sys
from gilscope.recorder import switches
engine, answers = switches._engine(), iter({answers})
class Answers:
    def __getattr__(self, name): return getattr(engine, name)
    def gs_switches_add(self, *args): return next(answers, 0) or engine.gs_switches_add(*args)
switches._engine = Answers
from gilscope.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("answers", "told", "said"),
    [
        ([errno.EPERM] * 1000, False, "no context switches: perf_event_open is forbidden here"),
        (
            [errno.ESRCH, *[errno.EPERM] * 1000],
            False,
            "no context switches: perf_event_open is forbidden here",
        ),
        ([errno.EMFILE], True, "no context switches of 1 thread: perf_event_open: Too many open"),
        ([errno.ESRCH], True, ""),
    ],
)
def test_what_the_kernel_refuses_is_said_in_one_line(
    tmp_path: Path, answers: list[int], told: bool, said: str
) -> None:
    script, trace = tmp_path / "script.py", tmp_path / "t.pftrace"
    script.write_text(ANSWERS.format(answers=answers))
    with running(interpreters.path("3.11"), SERVER) as target:
        options = attach_command(target.pid, trace, "--sched", "-d", "0.5")[len(GILSCOPE) :]
        done = subprocess.run(
            [sys.executable, script, *options],
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        code, line = target.end()
        assert (code, line[:4]) == (0, "fine"), line
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if "--sched" in line]
    assert [said in line and line.endswith("the rest is recorded") for line in lines] == (
        [True] if said else []
    )
    assert gilscope.read(trace).metadata.switches is told

"""Under io-priority programs end, fork, embed and are interrupted as they do without gilscope.

In each of them threads compute beside those that come and go, so that the waiters are in
gilscope's own queue (where nothing computes, they wait as CPython has them wait)."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from support import interpreters
from support.ends import ENDS, HEAD
from support.faults import (
    GILSCOPE,
    WORK,
    Recording,
    await_line,
    recording,
    run,
    same,
    script,
    thread_names,
)
from support.programs import embedded, slices

from gilscope.trace.story import NEVER

PYTHON = interpreters.path("3.13")
POLICY = ("--policy", "io-priority")

# Until three times a thread that computes was made to yield. (A release that nobody was there in
# time to use takes no turn from anybody.)
MEET = """
import posix, time

def meet():
    waits = 0
    while waits < 3:
        begin = time.perf_counter()
        posix.stat("/")
        waits += time.perf_counter() - begin > 0.002
    for _ in range(20):
        posix.stat("/")
"""

# Two threads that compute for as long as the program runs.
BESIDE = f"""
import threading
{MEET}

def spin():
    while True:
        sum(range(1000))

for i in range(2):
    threading.Thread(target=spin, name=f"spinner-{{i}}", daemon=True).start()
meet()
"""


def scheduled(tmp_path: Path, python: Path, source: str) -> Recording:
    """A program beside threads that compute, which is the same with the policy as without."""
    recorded = same(tmp_path, [python, script(tmp_path, BESIDE + source)], options=POLICY)
    assert_scheduled(recorded)
    return recorded


def assert_scheduled(recorded: Recording) -> None:
    """Who released the GIL woke waiters in gilscope's own queue."""
    trace = recorded.trace()
    assert trace.metadata.policy.name == "io-priority"
    assert (trace.waits["woken_ns"] != NEVER).any()


@pytest.mark.parametrize("end", ENDS)
def test_a_program_ends_as_it_would_alone(tmp_path: Path, end: str) -> None:
    recorded = scheduled(tmp_path, PYTHON, HEAD + ENDS[end])
    assert {"spinner-1", "crew-2"} <= set(thread_names(recorded.trace()))


@pytest.mark.parametrize(
    "end", ["sys.exit", "os._exit while threads run", "daemon threads that compute at shutdown"]
)
def test_on_every_interpreter(tmp_path: Path, interpreter: Path, end: str) -> None:
    scheduled(tmp_path, interpreter, HEAD + ENDS[end])


def test_forks_of_threads(tmp_path: Path, interpreter: Path) -> None:
    """A child has one thread and a GIL with nobody in its queue, and computes and waits anew."""
    source = f"""
import os, warnings
warnings.simplefilter("ignore")  # of forks beside threads
{WORK}
codes = {{}}
def parent(number):
    for child in range(5):
        pid = os.fork()
        if pid == 0:
            threading.Thread(target=spin, daemon=True).start()
            crew(2, 5)
            os._exit(number + child)
        codes[number, child] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
parents = [threading.Thread(target=parent, args=(10 * i,)) for i in range(3)]
for thread in parents:
    thread.start()
for thread in parents:
    thread.join()
print(sorted(codes.items()))
"""
    trace = scheduled(tmp_path, interpreter, source).trace()
    assert len(trace.metadata.processes) == 16
    assert thread_names(trace).count("crew-1") == 15


@pytest.mark.parametrize("python", interpreters.OWN_GIL)
def test_interpreters_with_a_gil_each(tmp_path: Path, python: str) -> None:
    inside = f"""
import threading
{MEET}
over = False
def compute():
    while not over:
        sum(range(1000))
threads = [threading.Thread(target=compute) for _ in range(2)]
for thread in threads:
    thread.start()
meet()
over = True
for thread in threads:
    thread.join()
"""
    source = f"""
{interpreters.OWN_GIL[python]}
def drive():
    mine = new()
    make.run_string(mine, {inside!r})
    make.destroy(mine)
drivers = [threading.Thread(target=drive) for _ in range(2)]
for driver in drivers:
    driver.start()
for driver in drivers:
    driver.join()
print("three")
"""
    trace = scheduled(tmp_path, interpreters.path(python), source).trace()
    woken = trace.waits[trace.waits["woken_ns"] != NEVER]
    assert set(woken["gil"].tolist()) == {0, 1, 2}


@pytest.mark.parametrize("python", ["3.9", "3.11", "3.13"])
def test_started_and_ended_twice(tmp_path: Path, python: str) -> None:
    """By a C program; the second GIL finds nothing of the first's."""
    code = f"""
import _thread
{MEET}
over = []
def compute():
    while not over:
        sum(range(1000))
for _ in range(2):
    _thread.start_new_thread(compute, ())
meet()
over.append(1)
while len(posix.listdir("/proc/self/task")) > 1:
    posix.stat("/")
"""
    command, _ = embedded(tmp_path, interpreters.path(python), 2, code)
    recorded = same(tmp_path, command, options=POLICY)
    assert recorded.outcome.stdout == "embedded\n"
    assert_scheduled(recorded)


@pytest.mark.parametrize("state", ["while True: sum(range(1000))", "while True: os.stat('/')"])
def test_ctrl_c(tmp_path: Path, interpreter: Path, state: str) -> None:
    """The main thread gets it although others compute, and may go on."""
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    source = f"""
import os
try:
    with open({str(ready)!r}, "w") as fifo:
        fifo.write(str(os.getpid()))
    {state}
except KeyboardInterrupt:
    print("interrupted")
{WORK}
crew()
"""
    recorded = same(
        tmp_path,
        [interpreter, script(tmp_path, BESIDE + source)],
        options=POLICY,
        during=lambda _: os.kill(int(await_line(ready)), signal.SIGINT),
    )
    assert (recorded.outcome.code, recorded.outcome.stdout) == (0, "interrupted\n")
    assert_scheduled(recorded)


CANCEL = f"""
import ctypes, os
{WORK}
cancel = ctypes.PyDLL(None).pthread_cancel  # with the GIL held
cancel.argtypes = [ctypes.c_ulong]
ends = os.pipe()
began, past = [], []
def waiter(turns):
    began.append(1)
    work(turns)
    os.read(ends[0], 1)
    past.append(1)
def cancelled(turns):
    threads = [threading.Thread(target=waiter, args=(turns,), daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    while len(began) < 3:
        time.sleep(0)
    for thread in threads:
        cancel(thread.ident)
    while len(os.listdir("/proc/self/task")) > 3:  # main and the spinners
        time.sleep(0)
    crew()
    print(past, flush=True)
    os._exit(5)
"""


def test_threads_cancelled_in_a_blocking_call(tmp_path: Path, interpreter: Path) -> None:
    recorded = scheduled(tmp_path, interpreter, f"{CANCEL}\ntime.sleep(0.01)\ncancelled(0)")
    assert (recorded.outcome.code, recorded.outcome.stdout) == (5, "[]\n")


def test_threads_cancelled_while_they_wait_for_the_gil(tmp_path: Path, interpreter: Path) -> None:
    """They go at their next blocking call. (CPython's own wait dies with its mutex locked, and the
    program stands still: so there is nothing to compare with.)
    """
    trace = tmp_path / "trace.pftrace"
    program = script(tmp_path, f"{BESIDE}{CANCEL}\ncancelled(100)")
    outcome = run(
        recording(trace, [interpreter, program], ("--no-summary", *POLICY)), tmp_path / "run"
    )
    assert (outcome.code, outcome.stdout) == (5, "[]\n")
    assert_scheduled(Recording(outcome, trace))


# By sched_getattr (315 on x86-64). Linux has had slices since 6.12; before, a thread's is always 0.
ASK = """
import ctypes, struct

def asked():
    attributes = ctypes.create_string_buffer(48)
    assert ctypes.PyDLL(None).syscall(315, 0, attributes, 48, 0) == 0  # keeps the GIL
    return struct.unpack("<IIQiIQQQ", attributes)[5]
"""
SLICES = f"""
import os, sys
{ASK}
ordinary = asked()

def compute():
    while ordinary and asked() == ordinary:
        sum(range(1000))

def tell(who):
    print(who, asked() == ordinary)

compute()
os.waitpid(os.posix_spawn(sys.executable, [sys.executable, *sys.argv[1:], str(ordinary)],
                          os.environ), 0)
compute()
beside = threading.Thread(target=tell, args=("thread",))
beside.start()
beside.join()
compute()
time.sleep(0)
tell("itself")
"""
# Slices are for the ordinary scheduling; the tests may run in another.
ORDINARY = "import os; os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))\n"
CHILD = f"import sys\n{ASK}\nprint('program', asked() == int(sys.argv[1]))"


def test_what_a_thread_with_a_short_slice_starts_has_the_ordinary_one(tmp_path: Path) -> None:
    """And it has it back itself when it does IO."""
    program = script(tmp_path, ORDINARY + BESIDE + SLICES)
    command = ["gilscope", "run", *POLICY, "--", PYTHON, program, "-c", CHILD]
    outcome = run([sys.executable, "-m", *command], tmp_path / "run")
    assert (outcome.code, outcome.stderr) == (0, "")
    assert outcome.stdout.split() == ["program", "True", "thread", "True", "itself", "True"]


def test_the_timer_slack_is_the_programs_own(tmp_path: Path, interpreter: Path) -> None:
    """A thread that waited for the GIL, and what it starts, has the slack that it chose."""
    source = """
import ctypes, os, subprocess, sys, warnings
warnings.simplefilter("ignore")  # of forks beside threads
prctl = ctypes.CDLL(None).prctl
slack = lambda: prctl(30, 0, 0, 0, 0)
print(slack(), prctl(29, 77_777, 0, 0, 0))
meet()
print(slack())
thread = threading.Thread(target=lambda: print(slack()))
thread.start()
thread.join()
code = "import ctypes; print(ctypes.CDLL(None).prctl(30, 0, 0, 0, 0))"
print(subprocess.run([sys.executable, "-c", code], capture_output=True).stdout, flush=True)
if os.fork() == 0:
    print(slack(), flush=True)
    os._exit(0)
os.wait()
"""
    recorded = scheduled(tmp_path, interpreter, source)
    assert recorded.outcome.stdout.count("77777") == 4


def test_threads_of_c_have_an_ordinary_slice_of_the_processor(tmp_path: Path) -> None:
    """A thread that computes has a short one, and threads that never have a GIL inherit it."""
    source = f"""
import ctypes
library = ctypes.PyDLL({str(slices(tmp_path))!r})
own, another = library.own_slice, library.slice_of_another
own.restype = another.restype = ctypes.c_uint64

def compute():
    ordinary = own()
    while ordinary and own() == ordinary:
        sum(range(1000))
    print(another() == ordinary, flush=True)

meet()
thread = threading.Thread(target=compute)
thread.start()
thread.join()
"""
    program = [PYTHON, script(tmp_path, ORDINARY + BESIDE + source)]
    command = [*GILSCOPE, "run", *POLICY, "--", *program]
    assert run(command, tmp_path / "run").stdout == "True\n"

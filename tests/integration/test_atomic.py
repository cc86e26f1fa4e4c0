"""Atomic sections and the locks on top of them, in every version that gilscope runs on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import interpreters, section_soak
from support.faults import GILSCOPE, SECCOMP
from support.programs import compiled

PYTHONS = [name for name in interpreters.names() if name not in ("3.9", interpreters.DEBIAN)]
SECTIONS = int(os.environ.get("GILSCOPE_TEST_SECTIONS", "1000"))

# Four threads that compute, and sections of five switch intervals beside them: on a busy machine
# a waiter that asks for the GIL gets a processor late.
DISTURBED = """
import sys, threading, time
from gilscope import atomic, set_atomic

sys.setswitchinterval(0.0002)
turns = [0]
over = False

def compete():
    while not over:
        turns[0] += 1

def section():
    before = turns[0]
    end = time.perf_counter() + 0.001
    while time.perf_counter() < end:
        pass
    return turns[0] != before

def in_with():
    with atomic:
        return section()

def nested():
    with atomic:
        try:
            with atomic:
                raise KeyError
        except KeyError:
            pass
        return section()

def by_set():
    before = set_atomic(1)
    try:
        return section()
    finally:
        assert set_atomic(before) == 1

decorated = atomic(section)
assert decorated.__name__ == "section"

threads = [threading.Thread(target=compete) for _ in range(4)]
for thread in threads:
    thread.start()
number = int(sys.argv[1])
without = sum(section() for _ in range(number // 4))
kinds = (in_with, nested, by_set, decorated)
within = sum(kinds[i % 4]() for i in range(number))
assert set_atomic(0) == 0

with atomic:  # what blocks lets others run
    before = turns[0]
    time.sleep(0.05)
    blocked = turns[0] - before
    assert not section()
over = True
for thread in threads:
    thread.join()
print(number // 4, without, number, within, blocked)
"""


def run(
    root: Path, *command: Path | str, folder: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """A command that finds this gilscope."""
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(root), **variables},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def record(python: str, root: Path, trace: Path, *command: str) -> subprocess.CompletedProcess[str]:
    options = ("-o", str(trace), "--no-summary", "--")
    return run(root, *GILSCOPE, "record", *options, interpreters.path(python), *command)


@pytest.mark.parametrize("python", PYTHONS)
def test_no_section_is_disturbed(python: str, root: Path, tmp_path: Path) -> None:
    trace = tmp_path / "atomic.pftrace"
    done = record(python, root, trace, "-c", DISTURBED, str(SECTIONS))
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    alone, without, number, within, blocked = map(int, done.stdout.split())
    assert number == SECTIONS
    assert without >= alone * 0.05
    assert within == 0
    assert blocked > 0
    dump = subprocess.run(
        [sys.executable, "-m", "gilscope", "dump", trace],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    counts = {
        name: len(re.findall(rf"\b{re.escape(name)}\b", dump))
        for name in ("atomic.enter", "atomic.exit", "atomic.deferred")
    }
    # One section each, and one more inside every nested; the last is the one that blocks.
    assert counts["atomic.enter"] == counts["atomic.exit"] == SECTIONS + SECTIONS // 4 + 1
    assert counts["atomic.deferred"] > 0


MEMBARRIER = 324  # the system call, on x86-64
ENTERED = "from gilscope import atomic\nwith atomic: pass\n"


@pytest.mark.parametrize("before", ["", ENTERED], ids=["from the start", "later"])
def test_where_the_kernel_executes_no_fences(before: str, root: Path, tmp_path: Path) -> None:
    program = f"{SECCOMP}\n{before}forbid({MEMBARRIER})\n{DISTURBED}"
    done = record("3.13", root, tmp_path / "atomic.pftrace", "-c", program, "400")
    assert done.returncode == 0, done.stderr
    _, without, _, within, _ = map(int, done.stdout.split())
    assert without > 0
    assert within == 0


HUNGRY = """
import sys, threading, time
from gilscope import atomic
sys.setswitchinterval(0.0005)
turns, sections, over = 0, 0, False
def other():
    global turns
    while not over:
        turns += 1
        time.sleep(0.0001)
thread = threading.Thread(target=other)
thread.start()
for sections in range(60):
    with atomic:
        end = time.perf_counter() + 0.005
        while time.perf_counter() < end:
            pass
over = True
thread.join()
print(turns)
"""
CHILD = "import subprocess, sys; subprocess.run([sys.executable, *sys.argv[1:]], check=True)"
WATCHED = {
    "run": ("run", "--policy", "classic", "--"),
    "run-io-priority": ("run", "--policy", "io-priority", "--"),
    "record": ("record", "--no-summary", "--"),
    "not-followed": ("record", "--no-summary", "--no-follow", "--"),
}


@pytest.mark.parametrize("python", ["3.11", "3.13", interpreters.PLUS])
@pytest.mark.parametrize("way", WATCHED)
def test_the_end_of_a_section_lets_others_run(
    way: str, python: str, root: Path, tmp_path: Path
) -> None:
    command: list[Path | str] = [interpreters.path(python)]
    if way == "not-followed":
        command += ["-c", CHILD]
    turns = 0
    for _ in range(3):  # on a busy machine the other thread is not always there in time
        done = run(root, *GILSCOPE, *WATCHED[way], *command, "-c", HUNGRY, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        turns = max(turns, int(done.stdout))
        if turns >= 40:  # of 60 sections; at most 20 where their ends give no turn
            break
    assert turns >= 40


@pytest.mark.parametrize("policy", section_soak.POLICIES)
@pytest.mark.parametrize("kind", section_soak.KINDS)
def test_no_waiter_is_forgotten_beside_sections(kind: str, policy: str) -> None:
    """With delays in every window; `make soak-sections` has more of them."""
    longest_ms, waits = section_soak.run("3.13", kind, policy, seconds=0.6)
    assert waits > 20
    assert longest_ms < section_soak.BOUND_MS


# As a signal's handler would, after each of the calls in turn that C code answers.
INTERRUPTED = """
import sys
from gilscope import locks, set_atomic

def interrupted_at(number):
    calls = 0
    def raises(frame, event, function):
        nonlocal calls
        calls += event == "c_return"
        if calls == number:
            raise KeyboardInterrupt
    condition = locks.Condition()
    condition.acquire()
    try:
        sys.setprofile(raises)
        condition.wait(0)
        return False
    except KeyboardInterrupt:
        return True
    finally:
        sys.setprofile(None)
        assert set_atomic(0) == 0

number = 1
while interrupted_at(number):
    number += 1
print(number)
"""


@pytest.mark.parametrize("python", ["3.11", "3.13", interpreters.PLUS])
def test_an_exception_ends_a_poll_and_its_section(python: str, root: Path) -> None:
    command = (interpreters.path(python), "-c", INTERRUPTED)
    done = run(root, *GILSCOPE, *WATCHED["run"], *command)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 5


ENDLESS = """
import os, signal, threading, time
from gilscope import atomic

def compete():
    while True:
        pass

threading.Thread(target=compete, daemon=True).start()
with atomic:
    end = time.perf_counter() + 0.1
    while time.perf_counter() < end:
        pass
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_an_endless_section_is_in_the_trace(root: Path, tmp_path: Path) -> None:
    trace = tmp_path / "endless.pftrace"
    done = record("3.13", root, trace, "-c", ENDLESS)
    assert done.returncode == 128 + signal.SIGKILL
    dump = subprocess.run(
        [sys.executable, "-m", "gilscope", "dump", trace],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    assert dump.count("atomic.enter") == 1
    after = dump[dump.index("atomic.enter") :]
    # Who asked before the section began is let through first, and gives the GIL back by a yield.
    assert not re.search("MainThread +gil.yield", after)
    assert "atomic.exit" not in after.split("process.end")[0]


@pytest.mark.parametrize("python", [name for name in PYTHONS if name != interpreters.PLUS])
def test_without_a_probe_it_raises(python: str, root: Path) -> None:
    program = """
import gilscope
from gilscope.errors import GilscopeError
def enter():
    with gilscope.atomic:
        print("inside")
for promise in (enter, gilscope.atomic(print), lambda: gilscope.set_atomic(1),
                gilscope.locks.Lock, gilscope.locks.RLock, gilscope.locks.Condition,
                gilscope.locks.Semaphore, gilscope.locks.BoundedSemaphore,
                gilscope.locks.Event, lambda: gilscope.locks.Barrier(2)):
    try:
        promise()
    except GilscopeError as error:
        assert "gilscope run" in str(error), error
    else:
        raise AssertionError(promise)
print("refused")
"""
    done = run(root, interpreters.path(python), "-c", program)
    assert (done.stdout, done.stderr) == ("refused\n", "")


def test_a_free_threaded_python_is_refused(root: Path) -> None:
    """By what it says of itself: one with a GIL would survive if it were not."""
    program = """
import ctypes
version = ctypes.pythonapi.Py_GetVersion
version.restype = ctypes.c_void_p
text = b"3.13.0 experimental free-threading build (main) [GCC]"
ctypes.memmove(version(), text, len(text) + 1)
import gilscope
from gilscope.errors import InstallationError
for name in ("Condition", "atomic", "locks"):
    try:
        getattr(gilscope, name)
    except InstallationError as error:
        assert "free-threaded" in str(error), error
        print(name)
"""
    done = run(root, interpreters.path("3.13"), "-c", program)
    assert (done.stdout, done.stderr) == ("Condition\natomic\nlocks\n", "")


@pytest.mark.parametrize(
    "options", [("run", "--policy", "io-priority"), ("record", "--no-summary", "--no-follow")]
)
def test_in_the_last_of_many_forks(tmp_path: Path, options: tuple[str, ...]) -> None:
    """Children that are not recorded use up nobody's numbers of GILs."""
    source = """
import os, threading
from gilscope import atomic

def child():
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
    with atomic:
        pass

good = 0
for _ in range(1400):
    pid = os.fork()
    if pid == 0:
        try:
            child()
            os._exit(7)
        finally:
            os._exit(1)
    good += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
print(good)
"""
    words = ["-m", "gilscope", *options, "--", interpreters.path("3.13"), "-c", source]
    done = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}, check=True,
    )  # fmt: skip
    assert done.stdout == "1400\n"
    assert "left out" not in done.stderr


# What an interpreter has of the probe that was built before a section's end handed the GIL over.
OLDER = """
int gilscope_atomic_enter(void) { return 0; }
int gilscope_atomic_exit(void) { return 1; }
unsigned gilscope_atomic_depth(void) { return 0; }
"""


def test_an_interpreter_that_lacks_a_part_has_no_sections(root: Path, tmp_path: Path) -> None:
    source = tmp_path / "older.c"
    source.write_text(OLDER)
    library = compiled(source, tmp_path / "older.so", "gcc", "-shared", "-fPIC")
    program = "from gilscope import atomic\nwith atomic: pass"
    done = run(root, sys.executable, "-c", program, LD_PRELOAD=str(library))
    assert done.returncode == 1
    assert "atomic sections need a GIL that gilscope watches" in done.stderr

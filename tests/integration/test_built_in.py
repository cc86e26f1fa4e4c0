"""Python Plus's own feed: found by itself, mixed with stock children, and true where two feeds tell
the same program."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from pathlib import Path

import numpy as np
import pytest
from support import interpreters
from support.plus_sources import plus_sources
from support.programs import compiled
from support.recorded import Recording, record

from gilscope.benchmarks import probe
from gilscope.trace.schema import SYNC_KIND_MASK, SyncKind
from gilscope.trace.story import NOBODY, OF_CONDITION

ROOT = Path(__file__).parents[2]
PLUS = interpreters.path(interpreters.PLUS)
STOCK = interpreters.path("3.13")


def feeds(done: Recording) -> list[str | None]:
    """Of the trace's processes, in the order in which they began."""
    assert done.code == 0, done.err
    return [process.feed for process in done.metadata.processes]


def names(done: Recording, process: int) -> list[str]:
    return [t.name for t in done.metadata.threads if t.process == process]


FAMILY = """
import os, subprocess, sys, threading
def crew(name):
    thread = threading.Thread(target=os.getpid, name=name)
    thread.start()
    thread.join()
crew("parent")
kid = "import threading as t; k = t.Thread(target=id, args=(1,), name='kid'); k.start(); k.join()"
for python in sys.argv[1:]:
    subprocess.run([python, "-c", kid], check=True)
if os.fork() == 0:
    crew("forked")
    os._exit(0)
os.wait()
"""


@pytest.mark.parametrize("parent", [PLUS, STOCK], ids=["plus", "stock"])
def test_each_process_has_its_feed(tmp_path: Path, parent: Path) -> None:
    done = record(tmp_path, parent, "-c", FAMILY, PLUS, STOCK)
    own = "built-in" if parent == PLUS else "interposed"
    assert feeds(done) == [own, "built-in", "interposed", own]
    assert [names(done, process)[1:] for process in range(4)] == [
        ["parent"],
        ["kid"],
        ["kid"],
        ["forked"],
    ]
    assert int(done.trace.process_stats["unclean"].sum()) == 0


def test_a_new_name_is_known_at_once(tmp_path: Path) -> None:
    """No thread starts after the renames, and the renamed ones still run when the program is gone
    by os._exit: nobody looks for names any more.
    """
    program = """
import os, threading
go = threading.Event()
old = threading.Thread(target=go.wait, name="old", daemon=True)
old.start()
old.name = "new"
odd = threading.Thread(target=go.wait, daemon=True)
odd.start()
odd.name = "lone \\udc80 surrogate"
threading.current_thread().name = "the boss"
assert (old.name, odd.name) == ("new", "lone \\udc80 surrogate")
os._exit(0)
"""
    done = record(tmp_path, PLUS, "-c", program)
    assert feeds(done) == ["built-in"]
    assert names(done, 0)[:2] == ["the boss", "new"]
    assert int(done.trace.process_stats["unclean"].sum()) == 0


def test_options_and_what_the_interpreter_says_of_itself(tmp_path: Path) -> None:
    program = """
import json, sys, threading
lock = threading.Lock()
lock.acquire()
waiter = threading.Thread(target=lock.acquire)
waiter.start()
while not lock.locked(): pass
import time; time.sleep(0.05)
lock.release()
waiter.join()
has = vars(sys._gilscope)
print(json.dumps({key: value for key, value in has.items() if not callable(value)}))
"""
    told = {}
    for option in ("gilscope.locks=1", "gilscope.locks=0"):
        done = record(tmp_path, PLUS, "-X", option, "-c", program)
        assert feeds(done) == ["built-in"]
        said = json.loads(done.out)
        assert said["recording"] is said["probe"] is said["locks"] is True
        assert said["performance_testing"] == 0
        kinds = {int(each) & SYNC_KIND_MASK for each in done.trace.sync_waits["object"]}
        told[option] = len(kinds - {SyncKind.NATIVE, SyncKind.ATOMIC})  # those tell their own
    assert told["gilscope.locks=1"] >= 1
    assert told["gilscope.locks=0"] == 0


@pytest.mark.parametrize(
    ("setting", "what"),
    [
        ("polcy=io-priority", "-X gilscope.NAME: a name is policy, "),
        ("policy=fast", "gilscope.policy (or GILSCOPE_POLICY) is classic or io-priority"),
        ("policy=io-priority\u0131", "gilscope.policy (or"),
        ("policy=" + 300 * "x", "gilscope.policy (or"),
        ("grace_us=-1", "gilscope.grace_us (or GILSCOPE_GRACE_US) is a number"),
        ("condvar", "gilscope.condvar (or GILSCOPE_CONDVAR) is futex, "),
        ("stacks_us=1ms", "gilscope.stacks_us (or GILSCOPE_STACKS_US) is a number"),
    ],
)
def test_options_that_say_nothing(tmp_path: Path, setting: str, what: str) -> None:
    """The interpreter does not start, as with a wrong PYTHONHASHSEED."""
    done = record(tmp_path, PLUS, "-X", f"gilscope.{setting}", "-c", "print('ran')")
    assert done.code == 1
    assert done.out == ""
    assert f"Fatal Python error: {what}" in done.err


def test_an_environment_that_says_nothing() -> None:
    done = subprocess.run(
        [PLUS, "-c", "print('ran')"],
        env={**os.environ, "GILSCOPE_POLICY": "fast"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "Fatal Python error: gilscope.policy (or GILSCOPE_POLICY) is classic" in done.stderr


def test_the_threshold_of_stacks_is_an_option(tmp_path: Path) -> None:
    program = "import time\nfor _ in range(20): time.sleep(0)"
    stacks = {}
    for setting in ("off", "0"):
        done = record(tmp_path, PLUS, "-X", f"gilscope.stacks_us={setting}", "-c", program)
        stacks[setting] = len(done.trace.stacks)
    assert stacks["off"] == 0
    assert stacks["0"] >= 20


WAITS = """
import queue, threading, time
def woken(wait, wake, name, times=1):
    thread = threading.Thread(target=lambda: [wait() for _ in range(times)], name=name)
    thread.start()
    for _ in range(times):
        time.sleep(0.02)  # all but a few of many times it waits by then
        wake()
    thread.join()
mutex, again, items = threading.Lock(), threading.RLock(), queue.SimpleQueue()
for lock, name in ((mutex, "lock"), (again, "rlock")):
    lock.acquire()
    woken(lock.acquire, lock.release, name)
woken(items.get, lambda: items.put(1), "queue", 20)
late = threading.Thread(target=lambda: mutex.acquire(timeout=0.01), name="late")
late.start()
late.join()
"""


def test_what_a_thread_blocks_on(tmp_path: Path) -> None:
    """Waits lie outside the GIL, as the story checks, and name who ended them."""
    done = record(tmp_path, PLUS, "-c", WAITS)
    assert feeds(done) == ["built-in"]
    waits = done.trace.sync_waits
    main = done.thread("MainThread").id
    for name, kind, condition in (
        ("lock", SyncKind.PYMUTEX, False),
        ("rlock", SyncKind.SEM_LOCK, False),
        ("queue", SyncKind.INTERPRETER, True),
    ):
        of_kind = (waits["object"] & np.uint64(SYNC_KIND_MASK)) == kind
        first = waits[(waits["thread"] == done.thread(name).id) & of_kind][0]
        assert bool(int(first["object"]) & OF_CONDITION) == condition
        assert int(first["waker"]) == main
        assert first["start_ns"] < first["woken_ns"] <= first["end_ns"]
    late = waits[waits["thread"] == done.thread("late").id]
    assert int(late["waker"][0]) == NOBODY
    assert int(late["end_ns"][0] - late["start_ns"][0]) >= 9_000_000


# ---- both feeds of the same interpreter ---------------------------------------------------------

# Three threads, one after the other. threading's start would share a lock with the thread, which
# waits for it if the machine stops the starter at the wrong place. Each is gone before the next,
# and before the interpreter ends: one that is asked to yield then never has the GIL again.
STEADY = """
import _thread, os, time
def work():
    for _ in range(2000):
        os.stat("/")
    done.release()
done = _thread.allocate_lock()
done.acquire()
for i in range(3):
    _thread.start_new_thread(work, ())
    done.acquire()
    while _thread._count():
        time.sleep(0.001)
"""

BUSY = """
import os, threading
def spin():
    for _ in range(60):
        sum(range(100000))
def call():
    for _ in range(3000):
        os.stat("/")
threads = [threading.Thread(target=f, name=f.__name__ + str(i))
           for f in (spin, call) for i in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def both(tmp_path: Path, program: str) -> dict[str, Recording]:
    told = {}
    for feed in ("built-in", "interposed"):
        folder = tmp_path / feed
        folder.mkdir()
        told[feed] = record(folder, PLUS, "-c", program, variables={"GILSCOPE_FEED": feed})
        assert feeds(told[feed]) == [feed]
    return told


def test_both_feeds_tell_the_same_acquires(tmp_path: Path) -> None:
    counts = {}
    for feed, done in both(tmp_path, STEADY).items():
        stats = done.trace.thread_stats
        workers = [stats[thread.id] for thread in done.metadata.threads[1:]]
        # On a machine that stood still for a while somebody may have asked for the GIL.
        counts[feed] = [int(worker["acquires"] - worker["yields"]) for worker in workers]
    assert counts["built-in"] == counts["interposed"] == [2001] * 3


def test_both_feeds_tell_the_same_distributions(tmp_path: Path) -> None:
    """Of calls without the GIL and of stretches with it; how many yields were forced."""
    medians, voluntary, told_by = {}, {}, {}
    for feed, done in both(tmp_path, BUSY).items():
        trace = done.trace
        callers = [done.thread(f"call{i}").id for i in range(2)]
        spinners = [done.thread(f"spin{i}").id for i in range(2)]
        holds = trace.holds
        own = holds[[int(thread) in spinners for thread in holds["thread"]]]
        medians[feed] = statistics.median((own["end_ns"] - own["start_ns"]).tolist())
        stats = trace.thread_stats
        voluntary[feed] = [int(stats["releases"][i]) for i in callers]
        forced = sum(int(stats["yields"][i]) for i in spinners)
        told_by[feed] = forced / sum(int(stats["acquires"][i]) for i in spinners)
    for feed, share in told_by.items():
        hold_ms, calls = medians[feed] / 1e6, voluntary[feed]
        print(f"{feed}: {share:.3f} of holds that compute end forced, median {hold_ms:.2f} ms")
        print(f"  voluntary releases of the threads that call: {calls}")
    for calls in voluntary.values():
        assert all(3001 <= count < 3001 + 150 for count in calls)  # a lock's waits come on top
    low, high = sorted(medians.values())
    assert high < 4 * low  # a median of milliseconds, on a machine that does other things too
    assert min(told_by.values()) > 0.5  # a thread that only computes is made to yield
    assert abs(told_by["built-in"] - told_by["interposed"]) < 0.35


def test_both_feeds_are_measured_in_one_run() -> None:
    figures = list(probe.write_loop(str(PLUS), 32, event_ns=20))
    targets = [12, 2, 12, 2]  # slower; what it adds, of its two events: by each feed
    targets += [None, 15, None, 15, 0]  # an event, over its floor: by each feed; their difference
    assert [figure.target for figure in figures] == [None, *targets]
    for feed in ("built-in", "interposed"):
        assert [f"{feed} feed: " in figure.name for figure in figures].count(True) == 2
    assert figures[0].median > 0


# ---- an interpreter that comes late -------------------------------------------------------------


@pytest.mark.parametrize("when", ["linked", "late"])
def test_the_preloaded_probe_gives_way(tmp_path: Path, when: str) -> None:
    """To a library with a probe inside, there from the start or opened, with local symbols, by a
    process whose recording has begun: one process either way, by the other feed.
    """
    parts = [ROOT / source for source in plus_sources(ROOT)]
    library = tmp_path / "libfake.so"
    source = ROOT / "tests" / "c" / "fake_plus.c"
    flags = ["-std=c11", "-O1", "-fPIC", "-shared", "-pthread", "-fvisibility=hidden"]
    model = ["-ftls-model=initial-exec", f"-I{ROOT / 'gilscope'}"]
    subprocess.run(
        ["gcc", *flags, *model, source, *parts, "-o", library, "-ldl"], check=True, timeout=120
    )
    host = tmp_path / "host.c"
    if when == "linked":
        host.write_text("void fake_use(int); int main(void) { fake_use(1000); return 0; }")
        program = compiled(
            host,
            tmp_path / "host",
            "gcc",
            "-Wl,--no-as-needed",
            str(library),
            f"-Wl,-rpath,{tmp_path}",
            "-Wl,--allow-shlib-undefined",
        )
    else:
        host.write_text(
            "#include <dlfcn.h>\nint main(int n, char **argv) { (void)n;\n"
            "void *its = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL); if (!its) return 2;\n"
            'void (*use)(int) = (void (*)(int))dlsym(its, "fake_use"); use(1000); return 0; }'
        )
        program = compiled(host, tmp_path / "host")
    done = record(tmp_path, program, library)
    assert feeds(done) == ["built-in"]
    assert done.trace.gil_stats["acquires"].tolist() == [1000]
    assert len(done.metadata.threads) == 1
    process = done.metadata.processes[0]
    assert process.python == "3.13.fake"
    assert done.metadata.policy.switch_interval_ns == 700_000
    assert os.path.basename(process.command[0]) == "host"
    assert int(done.trace.process_stats["unclean"].sum()) == 0

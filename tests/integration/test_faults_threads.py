"""Programs that strain threads, processes and their ends behave as if nobody watched."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from support import interpreters
from support.ends import ENDS, HEAD
from support.faults import WORK, Recording, same, script, thread_names
from support.programs import loader

PYTHON = interpreters.path("3.13")


@pytest.mark.parametrize("end", ENDS)
def test_a_program_ends_as_it_would_alone(tmp_path: Path, end: str) -> None:
    recording = same(tmp_path, [PYTHON, script(tmp_path, HEAD + ENDS[end])])
    assert {"MainThread", "crew-0", "crew-2"} <= set(thread_names(recording.trace()))


@pytest.mark.parametrize("end", ["os._exit while threads run", "daemon threads at shutdown"])
def test_shutdown_on_every_interpreter(tmp_path: Path, interpreter: Path, end: str) -> None:
    recording = same(tmp_path, [interpreter, script(tmp_path, HEAD + ENDS[end])])
    assert {"MainThread", "crew-0"} <= set(thread_names(recording.trace()))


def started(recording: Recording, prefix: str) -> int:
    return sum(name.startswith(prefix) for name in thread_names(recording.trace()))


def test_five_thousand_threads_started_and_ended(tmp_path: Path) -> None:
    source = """
import threading
done = []
for i in range(5000):
    thread = threading.Thread(target=done.append, args=(i,), name=f"brief-{i}")
    thread.start()
    thread.join()
print(len(done))
"""
    recording = same(tmp_path, [PYTHON, script(tmp_path, source)])
    assert recording.outcome.stdout == "5000\n"
    assert started(recording, "brief-") == 5000


def test_five_hundred_threads_alive_at_once(tmp_path: Path) -> None:
    source = """
import threading, time
everybody = threading.Barrier(501)
def meet():
    everybody.wait()
    for _ in range(20):
        time.sleep(0)
    everybody.wait()
threads = [threading.Thread(target=meet, name=f"guest-{i}") for i in range(500)]
for thread in threads:
    thread.start()
everybody.wait()
everybody.wait()
for thread in threads:
    thread.join()
print("all met")
"""
    recording = same(tmp_path, [PYTHON, script(tmp_path, source)])
    assert started(recording, "guest-") == 500


def test_two_hundred_forked_children(tmp_path: Path) -> None:
    """All alive at once: each begins when the last has been forked."""
    source = f"""
import os
{WORK}
go, start = os.pipe()
children = []
for i in range(200):
    pid = os.fork()
    if pid == 0:
        os.close(start)
        os.read(go, 1)
        crew(1, 5)
        os._exit(i % 7)
    children.append(pid)
os.close(start)
print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children])
"""
    recording = same(tmp_path, [PYTHON, script(tmp_path, source)])
    trace = recording.trace()
    assert len(trace.metadata.processes) == 201
    assert {p.parent for p in trace.metadata.processes[1:]} == {0}
    assert thread_names(trace).count("crew-0") == 200
    assert int((trace.process_stats["unclean"]).sum()) == 0


def test_threads_of_a_c_library(tmp_path: Path) -> None:
    """They attach when they first ask for the GIL and carry the name that the kernel knows."""
    source = """
import ctypes, threading
CALLBACK = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
libc = ctypes.CDLL(None)
seen = []
def in_c(argument):
    libc.prctl(15, b"from-c", 0, 0, 0)  # PR_SET_NAME
    seen.append(threading.current_thread().name.startswith("Dummy"))
    return 0
callback = CALLBACK(in_c)
thread = ctypes.c_void_p()
for _ in range(3):
    libc.pthread_create(ctypes.byref(thread), None, callback, None)
    libc.pthread_join(thread, None)
print(seen)
"""
    recording = same(tmp_path, [PYTHON, script(tmp_path, source)])
    assert recording.outcome.stdout == "[True, True, True]\n"
    assert len(recording.trace().metadata.threads) == 4


@pytest.mark.parametrize("condvar", ["", "pthread"])
def test_threads_start_and_wait_while_a_library_is_loaded(
    tmp_path: Path, interpreter: Path, condvar: str
) -> None:
    """Its constructor has the loader's lock, and may wait for the GIL that they have."""
    opener, opened = loader(tmp_path)
    source = f"""
import ctypes, threading, time
# To look up a name takes the loader's lock, too.
library = ctypes.CDLL({str(opener)!r}, mode=ctypes.RTLD_GLOBAL)
open_library, is_inside, go_on = library.open_library, library.is_inside, library.go_on
others = ctypes.PyDLL(None)
give_way = getattr(others, "gilscope_yield", int)
rename = others.pthread_setname_np
rename.argtypes = ctypes.c_ulong, ctypes.c_char_p

def load():
    assert open_library({str(opened).encode()!r})

def spin():
    end = time.perf_counter() + 0.1
    while time.perf_counter() < end:
        sum(range(1000))

opening = threading.Thread(target=load)
opening.start()
while not is_inside():
    time.sleep(0.001)
rename(threading.get_ident(), b"early")
threads = [threading.Thread(target=spin, name=f"spin-{{i}}") for i in range(3)]
for thread in threads:
    thread.start()
for _ in range(20):
    time.sleep(0.001)
    give_way()
for thread in threads:
    thread.join()
go_on()
opening.join()
print("loaded")
"""
    environment = {"GILSCOPE_CONDVAR": condvar} if condvar else None
    options = ("--policy", "io-priority") if condvar else ()
    program = [interpreter, script(tmp_path, source)]
    recorded = same(tmp_path, program, options=options, environment=environment)
    assert recorded.outcome.stdout == "loaded\n"
    assert started(recorded, "spin-") == 3


@pytest.mark.parametrize("name", ["libasan.so", "libubsan.so", "liblsan.so"])
def test_beside_a_sanitizer(tmp_path: Path, name: str) -> None:
    """One that is preloaded wants to be the first, and so it is."""
    asked = subprocess.run(
        ["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True, timeout=60
    )
    library = asked.stdout.strip()
    assert Path(library).is_absolute()
    # The interpreter leaves memory behind at its end.
    environment = {"LD_PRELOAD": library, "ASAN_OPTIONS": "detect_leaks=0"}
    environment["LSAN_OPTIONS"] = environment["ASAN_OPTIONS"]
    program = [PYTHON, script(tmp_path, f"{WORK}\ncrew()\nprint('clean')\n")]
    recorded = same(tmp_path, program, environment=environment)
    assert recorded.outcome.stdout == "clean\n"
    assert len(recorded.trace().metadata.threads) == 4

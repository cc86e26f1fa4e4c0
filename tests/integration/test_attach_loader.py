"""Nothing comes into a process while a thread of it is in the loader: that one may need the GIL."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import interpreters
from support.attached import DEADLINE_S, Target, attach, attach_command, is_recorded, running

import gilscope
from gilscope.attach.loader import loader_locks
from gilscope.live.memory import Memory
from gilscope.live.modules import modules

# GATE: a FIFO; NEEDS_GIL: how often its constructor takes the GIL before it looks there.
LIBRARY = r"""
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
int PyGILState_Ensure(void);
void PyGILState_Release(int);
int PyRun_SimpleString(const char *);
__attribute__((constructor)) static void begin(void) {
    int turns = atoi(getenv("NEEDS_GIL"));
    char byte;
    int gate = open(getenv("GATE"), O_RDONLY);
    for (int i = 0; i < turns; i++) {
        int state = PyGILState_Ensure();
        PyRun_SimpleString("sum(range(1000))");
        PyGILState_Release(state);
        usleep(1000);
    }
    if (!turns && read(gate, &byte, 1) != 1)
        abort();
}
"""

PROGRAM = """
import ctypes, os, sys, threading, time
over, naps = threading.Event(), [0, 0]
def nap(i):
    while not over.is_set():
        time.sleep(0.001)
        naps[i] += 1
threads = [threading.Thread(target=nap, args=(i,)) for i in range(2)]
for thread in threads: thread.start()
C = ctypes.CDLL(None)  # lets the GIL go while it calls
def load():
    C.dlopen(sys.argv[1].encode(), 2)
    print("loaded", flush=True)
print("ready", flush=True)
for line in sys.stdin:
    if line == "load\\n": threading.Thread(target=load).start()
    if line == "naps\\n": print(min(naps), flush=True)
over.set()
for thread in threads: thread.join()
print("fine", flush=True)
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loader")
    (folder / "slow.c").write_text(LIBRARY)
    built = folder / "slow.so"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-o", built, folder / "slow.c"], check=True, timeout=60
    )
    return built


@pytest.fixture(params=["3.11", interpreters.DEBIAN])
def python(request: pytest.FixtureRequest) -> Path:
    return interpreters.path(request.param)


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    os.mkfifo(tmp_path / "gate")
    monkeypatch.setenv("GATE", str(tmp_path / "gate"))
    monkeypatch.setenv("NEEDS_GIL", "0")
    return tmp_path / "gate"


def naps(program: Target) -> int:
    program.say("naps")
    return int(program.line())


def is_in_loader(program: Target) -> bool:
    with Memory(program.pid) as memory:
        return loader_locks(memory, list(modules(memory))).owner(memory) is not None


def in_constructor(program: Target, gate: Path) -> Iterator[int]:
    """The gate, open for writing: the constructor waits behind it."""
    assert not is_in_loader(program)
    program.say("load")
    descriptor = os.open(gate, os.O_WRONLY)  # until it is opened for reading
    assert is_in_loader(program)
    yield descriptor
    os.close(descriptor)


def test_it_waits_until_the_library_is_loaded(
    python: Path, library: Path, gate: Path, tmp_path: Path
) -> None:
    trace = tmp_path / "out.pftrace"
    with running(python, PROGRAM, str(library)) as program:
        for descriptor in in_constructor(program, gate):
            process = subprocess.Popen(attach_command(program.pid, trace, "-d", "0.3"))
            before = naps(program)
            end = time.monotonic() + DEADLINE_S
            while naps(program) < before + 1000:  # the others go on meanwhile
                assert time.monotonic() < end
                assert not is_recorded(program.pid)
                time.sleep(0.01)
            os.write(descriptor, b"x")
        assert program.line() == "loaded"
        assert process.wait(DEADLINE_S) == 0
        assert len(gilscope.read(trace).holds) > 10
        assert program.end() == (0, "fine\n")


def test_it_refuses_when_that_does_not_end(
    python: Path, library: Path, gate: Path, tmp_path: Path
) -> None:
    with running(python, PROGRAM, str(library)) as program:
        for descriptor in in_constructor(program, gate):
            before = program.footprint()
            done = attach(program, tmp_path / "out.pftrace")
            assert done.returncode == 4
            assert "is loading a library" in done.stderr
            assert len(done.stderr.splitlines()) == 1
            assert program.footprint() == before
            os.write(descriptor, b"x")
        assert program.line() == "loaded"
        assert program.end() == (0, "fine\n")


def test_a_constructor_that_needs_the_gil(
    python: Path, library: Path, gate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEEDS_GIL", "500")
    trace = tmp_path / "out.pftrace"
    with running(python, PROGRAM, str(library)) as program:
        process = subprocess.Popen(attach_command(program.pid, trace, "-d", "0.3"))
        program.say("load")
        os.close(os.open(gate, os.O_WRONLY))
        assert program.line() == "loaded"
        assert process.wait(DEADLINE_S) == 0
        assert program.end() == (0, "fine\n")

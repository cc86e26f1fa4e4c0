"""A process looked at from outside, against what it says of itself."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import interpreters
from support.live_programs import THREADS, running, until
from support.programs import compiled

from gilscope.errors import NotAttachable
from gilscope.live.memory import Memory
from gilscope.live.runtime import Runtime
from gilscope.live.threads import Look, Thread, look


def _by_tid(seen: Look) -> dict[int, Thread]:
    return {thread.tid: thread for thread in seen.threads if thread.tid is not None}


def _at_the_gil(thread: Thread) -> bool:
    return bool(thread.holds_gil or thread.waits_for_gil)


def _others(seen: Look) -> list[Thread]:
    return [one for one in seen.threads if not (one.name or "").startswith("spin")]


def test_threads_frames_names_and_the_gil(interpreter: Path) -> None:
    with running(interpreter, THREADS) as (process, truth):
        expected = {int(tid): tuple(said) for tid, said in truth["threads"].items()}
        # Of two that compute one has the GIL, the other waits for it (or has just been woken); the
        # rest sleeps, when main has told the truth.
        seen = until(
            process.pid,
            lambda seen: (
                any(one.holds_gil for one in seen.threads)
                and any(one.waits_for_gil for one in seen.threads)
                and not any(map(_at_the_gil, _others(seen)))
            ),
        )
        threads = _by_tid(seen)
        assert {tid: (one.state.ident, one.name) for tid, one in threads.items()} == expected
        for tid, frames in truth["frames"].items():
            thread = threads[int(tid)]
            told = [[frame.file, frame.line, frame.function] for frame in thread.stack.frames]
            assert told == frames
            assert thread.stack.certain
            assert thread.stack.whole
            assert thread.steady
            assert thread.waits_for_gil is False
        spinning = [one for one in threads.values() if (one.name or "").startswith("spin")]
        assert len(spinning) == 2
        assert all(one.stack.frames[0].function == "compute" for one in spinning)
        with Memory(process.pid) as memory:
            runtime = Runtime.open(memory)
            for _ in range(50):  # nor does any of the rest come to the GIL again
                assert not any(map(_at_the_gil, _others(look(runtime))))
        (gil,) = seen.gils.values()
        assert gil.interval_us == 5000
        main = threads[truth["main"]]
        assert main.stack.frames[0].function == "<module>"


def test_the_gil_is_told_as_it_is_taken(interpreter: Path) -> None:
    """Held all the time by one of two; the count of switches grows; somebody waits."""
    with running(interpreter, THREADS) as (process, _), Memory(process.pid) as memory:
        gil = Runtime.open(memory).gil
        before = gil.read()
        assert before is not None
        seen = []
        end = time.monotonic() + 60
        while not seen or seen[-1].switches < before.switches + 20:
            assert time.monotonic() < end
            said = gil.read()
            assert said is not None
            seen.append(said)
            time.sleep(0.001)
        assert sum(one.locked for one in seen) > len(seen) / 2
        most = max(one.waiters for one in seen if one.waiters is not None)
        assert 1 <= most <= 3  # the other one; now and then one that has just been woken


def test_whoever_sleeps_for_the_policys_queue_waits_for_the_gil(interpreter: Path) -> None:
    gilscope = (sys.executable, "-m", "gilscope", "run", "--policy", "io-priority", "--")
    with running(interpreter, THREADS, before=gilscope) as (_, truth):
        seen = until(
            truth["pid"],
            lambda seen: any(one.waits_for_gil and one.inferred for one in seen.threads),
        )
        waiting = [one for one in seen.threads if one.waits_for_gil]
        assert all((one.name or "").startswith("spin") for one in waiting)
        assert all(gil.waiters is None for gil in seen.gils.values())  # its own does not count


OWN_GIL = """
import json, threading, time
{make}
id = new()
program = "import sys, time; sys.setswitchinterval(0.2); end = time.monotonic() + 600\\n"
program += "while time.monotonic() < end: pass"
{run}
threading.Thread(target=compute, daemon=True, name="outer").start()
time.sleep(0.3)
print(json.dumps(1), flush=True)
time.sleep(600)
"""
_RUN = {
    "3.12": "compute = lambda: make.run_string(id, program)",
    "3.13": "compute = lambda: make.exec(id, program)",
}
_RUN[interpreters.PLUS] = _RUN["3.13"]


@pytest.mark.parametrize(
    "name", [name for name in interpreters.names() if name in interpreters.OWN_GIL]
)
def test_an_interpreter_with_a_gil_of_its_own(name: str) -> None:
    program = OWN_GIL.format(make=interpreters.OWN_GIL[name], run=_RUN[name])
    with running(interpreters.path(name), program) as (process, _):
        seen = until(
            process.pid,
            lambda seen: any(
                one.holds_gil and one.state.interpreter.id != 0 for one in seen.threads
            ),
        )
        assert len(seen.gils) == 2
        (inner,) = (one for one in seen.threads if one.state.interpreter.id != 0)
        assert inner.state.interpreter.gil is not None
        assert seen.gils[inner.state.interpreter.gil.address].interval_us == 200_000
        main = [one for one in seen.threads if one.state.interpreter.id == 0]
        assert not any(one.holds_gil for one in main)


def test_a_program_that_makes_threads_without_end(interpreter: Path) -> None:
    """Lists that change under the reader: it ends, and what it tells is possible."""
    program = """
import json, threading, time
print(json.dumps(1), flush=True)
end = time.monotonic() + 600
while time.monotonic() < end:
    threads = [threading.Thread(target=lambda: sum(range(50)), name="short") for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
"""
    with running(interpreter, program) as (process, _), Memory(process.pid) as memory:
        runtime = Runtime.open(memory)
        for _ in range(100):
            seen = look(runtime)
            assert len(seen.gils) == 1
            for one in seen.threads:
                assert one.name in ("short", "MainThread", None)
                for frame in one.stack.frames:
                    assert frame.file == "<string>" or frame.file.endswith(".py")
                    assert frame.line is None or 0 < frame.line < 10_000


PRETENDS = r"""
#include <stdio.h>
#include <string.h>
#include <unistd.h>

RUNTIME
unsigned long Py_Version = VERSION;
int Py_GetVersion(void) { return 0; }

int main(void) {
    puts("1");
    fflush(stdout);
    return sleep(600);
}
"""


@pytest.mark.parametrize(
    ("version", "runtime", "line"),
    [
        ("0x03080500", "char _PyRuntime[4096];", "3.8 or older"),
        ("0x03100000", "char _PyRuntime[4096];", "3.16; gilscope knows 3.9 to 3.15"),
        (
            "0x030d0000",
            'char _PyRuntime[4096] = "xdebugpy\\0\\0\\x0d\\x03\\0\\0\\0\\0\\1";',
            "free-threaded",
        ),
        ("0x030d0000", "char _PyRuntime[4096];", "laid out in a way"),
        ("0x030c0000", "char _PyRuntime[4096];", "no GIL is to be seen"),
        ("0x030c0000", "", "older than 3.7"),
    ],
)
def test_pythons_that_cannot_be_read(version: str, runtime: str, line: str, tmp_path: Path) -> None:
    source = PRETENDS.replace("VERSION", version).replace("RUNTIME", runtime)
    (tmp_path / "pretends.c").write_text(source)
    program = compiled(tmp_path / "pretends.c", tmp_path / "pretends", "gcc", "-rdynamic")
    with (
        running(program, "") as (process, _),
        Memory(process.pid) as memory,
        pytest.raises(NotAttachable, match=re.escape(line)) as told,
    ):
        Runtime.open(memory)
    assert told.value.exit_code == 4
    assert str(process.pid) in str(told.value)


def test_a_python_that_has_not_begun(interpreter: Path) -> None:
    """Looked at again and again from its first moment on: an error that says so, or all of it."""
    process = subprocess.Popen([str(interpreter), "-c", "import time; time.sleep(600)"])
    try:
        end = time.monotonic() + 60
        while True:
            assert time.monotonic() < end
            try:
                with Memory(process.pid) as memory:
                    seen = look(Runtime.open(memory))
            except NotAttachable:
                continue
            if [one.name for one in seen.threads] == [None] or seen.threads[0].call is not None:
                break
    finally:
        process.kill()
        process.wait()

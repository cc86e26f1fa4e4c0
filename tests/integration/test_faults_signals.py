"""Signals to the program and to gilscope, in every state that they can meet."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from support import interpreters
from support.faults import (
    DEADLINE_S,
    WORK,
    await_line,
    await_state,
    end_session,
    memory_folder,
    recording,
    run,
    same,
    script,
    state_of,
    thread_names,
)

import gilscope

PYTHON = interpreters.path("3.13")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)

# Where the program's main thread is when the signal comes.
STATES = {
    "computing": "while True: sum(range(1000))",
    "blocked in a read": "sys.stdin.buffer.raw.read(1) or signal.pause()",
    "sleeping": "time.sleep(1000)",
    "waiting for a lock": "lock = threading.Lock(); lock.acquire(); lock.acquire()",
    "waiting for the GIL": """
def spin():
    while True:
        sum(range(1000))
for _ in range(3):
    threading.Thread(target=spin, daemon=True).start()
while True:
    os.stat("/")
""",
    "joining a thread": """
thread = threading.Thread(target=time.sleep, args=(1000,), daemon=True)
thread.start()
thread.join()
""",
}


def program(tmp_path: Path, state: str, handler: str = "") -> Path:
    """Tells its pid on the FIFO that it is given and goes into that state."""
    return script(
        tmp_path,
        f"""
import os, signal, sys, time
{WORK}
crew()
{handler}
with open(sys.argv[1], "w") as fifo:
    fifo.write(str(os.getpid()))
{STATES[state]}
""",
    )


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("state", STATES)
def test_the_program_dies_of_it_as_alone(tmp_path: Path, state: str, number: int) -> None:
    """Without a traceback: the line that SIGINT meets is a matter of luck."""
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    command = [PYTHON, program(tmp_path, state, "sys.excepthook = lambda *_: None"), ready]
    recorded = same(
        tmp_path, command, during=lambda process: os.kill(int(await_line(ready)), number)
    )
    assert recorded.outcome.code == 128 + number
    assert "crew-2" in thread_names(recorded.trace())


HANDLER = """
def caught(number, frame):
    print("caught", signal.Signals(number).name, flush=True)
    os._exit(40 + number)
for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGQUIT"):
    signal.signal(getattr(signal, name), caught)
"""


@pytest.mark.parametrize("number", [*SIGNALS, signal.SIGUSR2, signal.SIGQUIT])
def test_a_signal_to_gilscope_goes_to_the_program(tmp_path: Path, number: int) -> None:
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    command = [PYTHON, program(tmp_path, "sleeping", HANDLER), ready]

    def send(process: subprocess.Popen[str]) -> None:
        await_line(ready)
        process.send_signal(number)

    recorded = same(tmp_path, command, during=send)
    name = signal.Signals(number).name
    assert (recorded.outcome.code, recorded.outcome.stdout) == (40 + number, f"caught {name}\n")
    assert "crew-2" in thread_names(recorded.trace())


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_to_the_whole_group(tmp_path: Path, number: int) -> None:
    """As a supervisor ends a service: both get it, and the program may hear of it twice."""
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    command = [PYTHON, program(tmp_path, "sleeping", HANDLER), ready]

    def send(process: subprocess.Popen[str]) -> None:
        await_line(ready)
        os.killpg(process.pid, number)

    recorded = same(tmp_path, command, during=send)
    assert recorded.outcome.code == 40 + number
    assert "crew-2" in thread_names(recorded.trace())


def test_ignored_signals_stay_ignored(tmp_path: Path) -> None:
    """As nohup and shells set them up; and what Python ignores for itself is not passed on."""
    names = ("SIGINT", "SIGHUP", "SIGTERM", "SIGPIPE", "SIGXFSZ", "SIGUSR1")
    source = f"import signal\nprint([signal.getsignal(getattr(signal, n)) for n in {names}])\n"
    ignoring = ("sh", "-c", "trap '' INT HUP TERM; exec \"$@\"", "sh")
    recorded = same(tmp_path, [PYTHON, script(tmp_path, source)], within=ignoring)
    assert recorded.outcome.code == 0


def test_the_mask_is_the_programs_own(tmp_path: Path) -> None:
    same(tmp_path, ["grep", "-E", "Sig(Blk|Ign|Cgt)", "/proc/self/status"])


@pytest.mark.parametrize("number", SIGNALS)
def test_while_the_trace_is_written(tmp_path: Path, number: int) -> None:
    """The program is over: its exit code stands, and nothing that was recorded is gone."""
    pipe = tmp_path / "trace.pftrace"  # whose reader makes the writer wait
    os.mkfifo(pipe)
    busy = script(tmp_path, f"{WORK}\ncrew()\nwork(60_000)\nraise SystemExit(3)\n")
    with (
        memory_folder() as rings,
        subprocess.Popen(
            recording(pipe, [PYTHON, busy]),
            env={**os.environ, "GILSCOPE_DIR": str(rings)},
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as recorder,
    ):
        try:
            reader = os.open(pipe, os.O_RDONLY)
            begin = os.read(reader, 1)  # so it is being written, and much is still to come
            # A signal between Python's last look for one and the write would end neither.
            assert await_state(lambda: state_of(recorder.pid) == "S", recorder)
            recorder.send_signal(number)
            if number == signal.SIGUSR1:
                with os.fdopen(reader, "rb") as file:
                    whole = tmp_path / "whole.pftrace"
                    whole.write_bytes(begin + file.read())
            else:
                _, errors = recorder.communicate(timeout=DEADLINE_S)
                os.close(reader)
                assert errors.startswith("gilscope: interrupted; the recording is kept")
                (folder,) = rings.iterdir()
                whole = tmp_path / "whole.pftrace"
                again = [*recording(whole, [])[:3], "recover", folder, "-o", whole]
                assert run(again, tmp_path / "again").code == 0
            recorder.wait(DEADLINE_S)
        except BaseException:
            end_session(recorder.pid)
            raise
    assert recorder.returncode == 3
    assert gilscope.read(whole).totals.events > 120_000

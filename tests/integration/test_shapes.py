"""Interpreters of every shape: started, embedded, isolated and wrapped in every way."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from support import interpreters
from support.faults import WORK, same, script, thread_names
from support.programs import compiled, embedded, make_believe

PYTHON = interpreters.path("3.13")
CREW = {"MainThread", "crew-0", "crew-1", "crew-2"}
CODE = f"{WORK}\ncrew()\nprint('ran')\n"


def test_a_script_on_standard_input(tmp_path: Path, interpreter: Path) -> None:
    recorded = same(tmp_path, [interpreter], stdin=CODE)
    assert recorded.outcome.stdout == "ran\n"
    assert set(thread_names(recorded.trace())) == CREW


def test_a_dash_for_standard_input(tmp_path: Path) -> None:
    recorded = same(tmp_path, [PYTHON, "-", "argument"], stdin=CODE)
    assert set(thread_names(recorded.trace())) == CREW


@pytest.mark.parametrize("options", ["-I", "-S", "-E", "-ISE", "-B -O -u", "-X dev", "-W error"])
def test_options_of_the_interpreter(tmp_path: Path, options: str) -> None:
    recorded = same(tmp_path, [PYTHON, *options.split(), script(tmp_path, CODE)])
    assert set(thread_names(recorded.trace())) == CREW


def test_a_virtual_environment(tmp_path: Path, interpreter: Path) -> None:
    """Nothing is installed in it, and its interpreter is a link."""
    place = tmp_path / "venv"
    subprocess.run([interpreter, "-m", "venv", "--without-pip", place], check=True, timeout=120)
    source = f"import sys\n{CODE}\nprint(sys.prefix)\n"
    recorded = same(tmp_path, [place / "bin" / "python", script(tmp_path, source)])
    assert recorded.outcome.stdout == f"ran\n{place}\n"
    assert set(thread_names(recorded.trace())) == CREW


WRAPPERS = {
    "exec": '#!/bin/sh\nexec {python} {program} "$@"\n',
    "a child": "#!/bin/bash\n{python} {program}\necho the shell saw $?\n",
    "in the background": "#!/bin/sh\n{python} {program} &\nwait $!\n",
    "a pipe": "#!/bin/sh\n{python} {program} | cat\n",
    "env": "#!/usr/bin/env -S sh -e\nenv X=1 {python} {program}\n",
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrappers_in_shell(tmp_path: Path, wrapper: str) -> None:
    program = script(tmp_path, CODE)
    shell = script(tmp_path, WRAPPERS[wrapper].format(python=PYTHON, program=program), "run.sh")
    shell.chmod(0o755)
    trace = same(tmp_path, [shell]).trace()
    python = [p.id for p in trace.metadata.processes if p.interpreter == "gil"]
    assert len(python) == 1
    assert set(thread_names(trace, python[0])) >= CREW


@pytest.mark.parametrize("named", ["by its path", "on PATH"])
def test_a_script_that_names_no_interpreter(tmp_path: Path, named: str) -> None:
    """It is the shell's, as `env` and all shells have it."""
    shell = script(tmp_path, f"{PYTHON} {script(tmp_path, CODE)} && echo $1\n", "run")
    shell.chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = [shell if named == "by its path" else "run", "an argument"]
    recorded = same(tmp_path, command, environment=path, within=("env",))
    assert recorded.outcome.stdout == "ran\nan argument\n"
    assert "crew-2" in thread_names(recorded.trace())


@pytest.mark.parametrize("python", interpreters.OWN_GIL)
def test_interpreters_with_a_gil_each(tmp_path: Path, python: str) -> None:
    """Three at a time, driven by a thread each, twice: seven GILs in all, each with its tracks."""
    source = f"""
import threading
{interpreters.OWN_GIL[python]}
def drive(number):
    mine = new()
    make.run_string(mine, "import os\\nfor _ in range(200): os.stat('/')")
    make.destroy(mine)
for _ in range(2):
    drivers = [
        threading.Thread(target=drive, args=(i,), name=f"driver-{{i}}") for i in range(3)
    ]
    for driver in drivers:
        driver.start()
    for driver in drivers:
        driver.join()
print("seven")
"""
    trace = same(tmp_path, [interpreters.path(python), script(tmp_path, source)]).trace()
    assert [gil.process for gil in trace.metadata.gils] == [0] * 7
    assert (trace.gil_stats["acquires"][1:] > 200).all()
    # Each thread held two: the main interpreter's and its own.
    drivers = {t.id for t in trace.metadata.threads if t.name.startswith("driver-")}
    held = {(int(h["thread"]), int(h["gil"])) for h in trace.holds if int(h["thread"]) in drivers}
    assert len(drivers) == 6
    assert {gil for _, gil in held} == set(range(7))
    assert len(held) >= 12


def test_more_gils_than_can_be_watched(tmp_path: Path) -> None:
    """The others are counted and said, and what is recorded is right."""
    program = compiled(make_believe(tmp_path), tmp_path / "make", "gcc", "-rdynamic", "-pthread")
    recorded = same(tmp_path, [program, str(256 + 77), "kept"])
    assert recorded.trace().gil_stats["acquires"].tolist() == [1] * 256
    assert recorded.said("77 GILs were left out")


def test_more_gils_than_can_be_named(tmp_path: Path) -> None:
    """Late ones go on under the name of one that ended: nothing is left out."""
    program = compiled(make_believe(tmp_path), tmp_path / "make", "gcc", "-rdynamic", "-pthread")
    recorded = same(tmp_path, [program, "1500", "ended"])
    acquires = recorded.trace().gil_stats["acquires"].tolist()
    assert acquires == [1] * 767 + [1500 - 767]
    assert not recorded.said("left out")


@pytest.mark.parametrize("python", ["3.9", "3.11", "3.12", "3.13"])
@pytest.mark.parametrize("times", [1, 2])
def test_embedded_with_local_symbols(tmp_path: Path, python: str, times: int) -> None:
    """A C program that opens libpython late, RTLD_LOCAL, and may start and end it twice."""
    # Extension modules need the symbols that a local libpython hides: only what is built in works.
    code = (
        "import _thread, posix\n"
        "done = _thread.allocate_lock(); done.acquire()\n"
        "def work():\n"
        "    for _ in range(50): posix.stat('/')\n"
        "    done.release()\n"
        "_thread.start_new_thread(work, ()); done.acquire()\n"
    )
    command, version = embedded(tmp_path, interpreters.path(python), times, code)
    recorded = same(tmp_path, command)
    assert recorded.outcome.stdout == "embedded\n"
    trace = recorded.trace()
    assert trace.metadata.processes[0].python == version
    assert len(trace.metadata.gils) == times
    assert len(trace.metadata.threads) == 1 + times
    assert (trace.gil_stats["acquires"] > 50).all()

"""Programs that change who they are or what they may do."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

import pytest
from support import interpreters
from support.faults import (
    DEADLINE_S,
    SECCOMP,
    WORK,
    require_root,
    same,
    script,
    thread_names,
)
from support.programs import compiled, hello

from gilscope import _native
from gilscope.recorder.session import UNIT, Session

PYTHON = interpreters.path("3.13")
OPENS = "2, 85, 257, 437"  # open, creat, openat, openat2 of x86-64


def test_a_changed_user(tmp_path: Path) -> None:
    """What is mapped stays mapped: threads and forks of the new user are recorded."""
    require_root()
    source = f"""
import os
{WORK}
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
crew()
if os.fork() == 0:
    crew()
    os._exit(3)
print(os.wait()[1] >> 8, os.getuid())
"""
    trace = same(tmp_path, [PYTHON, script(tmp_path, source)]).trace()
    assert [thread_names(trace, process).count("crew-2") for process in (0, 1)] == [1, 1]


def test_a_child_of_another_user(tmp_path: Path) -> None:
    """It may not read the rings, which are the user's own; it is counted and said."""
    require_root()
    source = f"""
import subprocess, sys
{WORK}
crew()
print(subprocess.run([sys.executable, "-I", "-c", "print('a child')"], user=65534, cwd="/"))
"""
    python = interpreters.path(interpreters.DEBIAN)  # in a place that everybody may read
    recorded = same(tmp_path, [python, script(tmp_path, source)])
    assert len(recorded.trace().metadata.processes) == 1
    assert recorded.said("1 program was started")


def left_behind(tmp_path: Path, damage: dict[int, int] | None = None) -> Path:
    """Rings as they may lie where a daemon's environment says, once its recording is over."""
    session = Session(1 << 20)
    rings = bytearray(session.path.read_bytes())
    session.discard()
    for at, value in (damage or {}).items():
        struct.pack_into("<Q", rings, at, value)
    path = tmp_path / "rings"
    path.write_bytes(rings)
    return path


def programs_into(rings: Path) -> None:
    """Run two programs with the probe, which are told to write there."""
    variables = {"LD_PRELOAD": str(_native.probe_path()), "GILSCOPE_RINGS": str(rings)}
    for command in (["/bin/echo"], [PYTHON, "-c", "import threading as t; t.Thread().start()"]):
        subprocess.run(
            command, env=variables, check=True, stdout=subprocess.DEVNULL, timeout=DEADLINE_S
        )


def test_rings_of_another_user_are_not_written_to(tmp_path: Path) -> None:
    """Anybody may make a file of the name that a daemon keeps in its environment."""
    require_root()
    rings = left_behind(tmp_path)
    before = rings.read_bytes()
    os.chown(rings, 65534, 65534)
    rings.chmod(0o666)
    programs_into(rings)
    assert rings.read_bytes() == before
    os.chown(rings, 0, 0)
    programs_into(rings)
    assert rings.read_bytes() != before


READY, NEXT, SLOT = UNIT, UNIT + 64, UNIT + 128  # of the offers of pages


@pytest.mark.parametrize(
    "damage",
    [
        {READY: (1 << 64) - 1},
        {NEXT: (1 << 64) - 1},
        {READY: 1 << 52, NEXT: 1 << 51},
        {SLOT: 1},
        {SLOT: 255},
        {SLOT: 256},
        {SLOT: (1 << 32) - 1},
        {SLOT: 1 << 63, SLOT + 8: 0, SLOT + 16: 1 << 31},
    ],
)
def test_rings_whose_offers_are_damaged_harm_no_program(
    tmp_path: Path, damage: dict[int, int]
) -> None:
    programs_into(left_behind(tmp_path, damage))


def test_a_child_in_a_chroot(tmp_path: Path) -> None:
    """Where the probe does not exist its loader must not complain."""
    require_root()
    jail = tmp_path / "jail"
    (jail / "lib64").mkdir(parents=True)
    (jail / "lib").mkdir()
    program = compiled(hello(tmp_path), jail / "hello")
    source = f"""
import os, shutil, subprocess
{WORK}
shutil.copy("/lib64/ld-linux-x86-64.so.2", {str(jail / "lib64")!r})
shutil.copy("/lib/x86_64-linux-gnu/libc.so.6", {str(jail / "lib")!r})
crew()
jailed = lambda: os.chroot({str(jail)!r})
print(subprocess.run(["/{program.name}"], preexec_fn=jailed, cwd="/", capture_output=True))
pid = os.fork()
if pid == 0:
    os.chroot({str(jail)!r})
    os.chdir("/")
    crew()
    os._exit(4)
print(os.waitpid(pid, 0)[1] >> 8)
"""
    recorded = same(tmp_path, [PYTHON, script(tmp_path, source)])
    assert "stderr=b''" in recorded.outcome.stdout
    trace = recorded.trace()
    fork = len(trace.metadata.processes) - 1
    assert "crew-2" in thread_names(trace, fork)
    assert recorded.said("1 program was started")


def test_seccomp_forbids_to_open_files(tmp_path: Path) -> None:
    """Threads, chunks and forks need no file."""
    source = f"""
import os
{WORK}{SECCOMP}
forbid({OPENS})
try:
    open("/dev/null")
except PermissionError as error:
    print(error)
crew(3, 6000)
pid = os.fork()
if pid == 0:
    crew()
    os._exit(5)
print(os.waitpid(pid, 0)[1] >> 8)
"""
    recorded = same(tmp_path, [PYTHON, script(tmp_path, source)])
    trace = recorded.trace()
    assert [thread_names(trace, process).count("crew-2") for process in (0, 1)] == [1, 1]
    assert trace.totals.events > 30_000


def test_seccomp_forbids_more(tmp_path: Path) -> None:
    """Nor does the probe depend on madvise, prctl or fallocate."""
    source = f"""
{WORK}{SECCOMP}
forbid(28, 157, 285)
crew(3, 6000)
print("went on")
"""
    recorded = same(tmp_path, [PYTHON, script(tmp_path, source)])
    assert recorded.trace().totals.events > 30_000


def test_a_cleared_environment(tmp_path: Path) -> None:
    """Its programs run as if nothing were recorded, because nothing of them is."""
    source = f"""
import os, subprocess, sys
{WORK}
crew()
print(subprocess.run(["env"], env={{"A": "1"}}, capture_output=True).stdout)
print(subprocess.run([sys.executable, "-c", "print('cleared')"], env={{}}).returncode)
os.environ.clear()
print(os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", "print('cleared too')"]))
"""
    recorded = same(tmp_path, [PYTHON, "-u", script(tmp_path, source)])
    # os.spawnv forks: its child is recorded up to the exec.
    assert len(recorded.trace().metadata.processes) == 2
    assert recorded.said("3 programs were started")
    assert recorded.said("(env was the first)")


@pytest.mark.parametrize("change", ["del os.environ[name]", "os.environ[name] = 'libdl.so.2'"])
def test_the_probe_alone_taken_from_the_environment(tmp_path: Path, change: str) -> None:
    source = f"""
import os, subprocess, sys
name = "LD_PRELOAD"
{change}
print(subprocess.run([sys.executable, "-c", "print('no preload')"]).returncode)
"""
    recorded = same(
        tmp_path,
        [PYTHON, "-u", script(tmp_path, source)],
        environment={"LD_PRELOAD": "libm.so.6"},  # so that there is one to delete without us too
    )
    assert recorded.said("1 program was started")


def test_seccomp_that_kills(tmp_path: Path) -> None:
    """Without stacks there is no call of the probe's that a program does not make itself."""
    source = f"""
{SECCOMP.replace("0x00050000 | errno.EPERM", "0x80000000")}
{WORK}
forbid(310)  # process_vm_readv of x86-64
crew()
print("alive")
"""
    program = [PYTHON, script(tmp_path, source)]
    recorded = same(tmp_path, program, options=("--no-stacks",))
    assert recorded.outcome.stdout == "alive\n"

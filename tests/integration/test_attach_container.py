"""`gilscope attach` to a process that cannot open gilscope's files: in a container, or another
user's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import interpreters
from support.attached import SERVER, Target, attach, attach_command, attaching
from support.recorded import GILSCOPE

import gilscope
from gilscope.perfetto.reader import open_trace

HERE = Path(gilscope.__file__).parent
NO_EXEC = "mount -t tmpfs -o noexec,size=64m none /dev/shm"  # as Docker has it
VERSIONS = ("3.9", "3.13", "debian", "plus")


@contextmanager
def contained(python: Path, setup: str) -> Iterator[Target]:
    """The server in namespaces of its own, in which gilscope is not installed."""
    rights = () if os.geteuid() == 0 else ("--map-root-user",)
    spaces = ("unshare", *rights, "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
    script = f'mount -t tmpfs none {HERE} && {setup} && exec "$@"'
    process = subprocess.Popen(
        [*spaces, "sh", "-c", script, "sh", python, "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        target = Target(process)
        assert target.line() == "ready"
        (pid,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        target.pid = int(pid)
        yield target
    finally:
        process.kill()
        process.communicate()


def left_in(target: Target) -> list[Path]:
    """What gilscope has there, in any folder that it may use."""
    root = Path(f"/proc/{target.pid}/root")
    folders = (root / name for name in ("dev/shm", "tmp", "var/tmp"))
    return [path for folder in folders for path in folder.glob("gilscope-*") if path.is_dir()]


@pytest.mark.parametrize("version", VERSIONS)
def test_it_is_recorded_and_nothing_stays(version: str, tmp_path: Path) -> None:
    own = "mount -t tmpfs none /tmp && mount -t tmpfs none /var/tmp"
    with contained(interpreters.path(version), f"{NO_EXEC} && {own}") as server:
        before = left_in(server)
        for number in range(2):
            trace = tmp_path / f"{number}.pftrace"
            done = attach(server, trace, "-d", "0.7")
            assert done.returncode == 0, done.stderr
            assert "is recorded; Ctrl-C" in done.stderr
            metadata = open_trace(trace).metadata
            assert [one.pid for one in metadata.processes if one.attached] == [1]
            assert {"echo", "spin"} <= {one.name for one in metadata.threads}
            assert any(one.parent is not None for one in metadata.processes)  # its forks
            assert before == left_in(server) == []
        server.say("spawn")
        assert server.line() == "b'42\\n'"
        code, said = server.end()
        assert (code, said[:4]) == (0, "fine"), said


def test_the_kernels_side_is_not_known_of_it(tmp_path: Path) -> None:
    trace = tmp_path / "t.pftrace"
    with contained(interpreters.path("3.11"), NO_EXEC) as server:
        done = attach(server, trace, "--sched", "-d", "0.5")
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stderr.splitlines() if "--sched" in line)
    assert "it numbers its threads itself" in line
    assert not open_trace(trace).metadata.switches


def test_what_is_kept_can_be_taken_meanwhile(tmp_path: Path) -> None:
    with contained(interpreters.path("3.11"), NO_EXEC) as server:
        with attaching(server, tmp_path / "end.pftrace", "--keep", "20s"):
            trace = tmp_path / "kept.pftrace"
            command = [*GILSCOPE, "snapshot", str(server.pid), "-o", str(trace)]
            subprocess.run(command, check=True, capture_output=True, timeout=60)
            assert {"echo", "spin"} <= {one.name for one in open_trace(trace).metadata.threads}
        assert server.end()[0] == 0


def test_no_name_in_it_leads_out(tmp_path: Path) -> None:
    """A link in the container is for gilscope, which is outside, a link into the machine's own."""
    outside = tmp_path / "outside"
    outside.mkdir()
    links = f"mount -t tmpfs none /mnt && ln -s {outside} /mnt/shm && mount --bind /mnt /dev"
    nowhere = "mount -t tmpfs -o ro none /tmp && mount -t tmpfs -o ro none /var/tmp"
    with contained(interpreters.path("3.11"), f"{nowhere} && {links}") as server:
        done = attach(server, tmp_path / "out.pftrace", "-d", "0.2")
        assert done.returncode == 4
        assert "cannot be put where it can" in done.stderr
        assert "run gilscope inside of it" in done.stderr
        assert list(outside.iterdir()) == []
        assert server.end()[0] == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone may look at another user's processes")
def test_another_users_process(tmp_path: Path) -> None:
    """Root's gilscope, in a folder where nobody else may look."""
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    shutil.copytree(HERE, private / "gilscope", ignore=shutil.ignore_patterns("__pycache__"))
    process = subprocess.Popen(
        [interpreters.path("debian"), "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        user=65534,
        group=65534,
        extra_groups=[],
        cwd="/",
    )
    try:
        server = Target(process)
        assert server.line() == "ready"
        for number in range(2):
            trace = tmp_path / f"{number}.pftrace"
            own = f"import sys; sys.path.insert(0, {str(private)!r})"
            command = [sys.executable, "-c", f"{own}; from gilscope.__main__ import main; main()"]
            command += attach_command(server.pid, trace, "-d", "0.5")[len(GILSCOPE) :]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0, done.stderr
            assert {"echo", "spin"} <= {one.name for one in open_trace(trace).metadata.threads}
            (copy,) = (path for path in server.libraries() if "/_probe.so" in path)
            assert "/gilscope-probe-" in copy
        assert server.end()[0] == 0
    finally:
        process.kill()
        process.communicate()

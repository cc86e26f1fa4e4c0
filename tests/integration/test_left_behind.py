"""Recordings whose recorder is gone: they are listed, and can be removed; living ones cannot."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import interpreters
from support.faults import (
    DEADLINE_S,
    GILSCOPE,
    WORK,
    await_line,
    end_session,
    memory_folder,
    recording,
    script,
)

from gilscope.cli import doctor, recover

PROGRAM = f"""
import os, signal, sys
{WORK}
crew()
with open(sys.argv[1], "w") as fifo:
    fifo.write(str(os.getpid()))
signal.pause()
"""


@contextmanager
def recorded(tmp_path: Path, rings: Path) -> Iterator[tuple[subprocess.Popen[bytes], int, Path]]:
    """The recorder of a program that waits, its pid, and the folder of its rings."""
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    command = [interpreters.path("3.13"), script(tmp_path, PROGRAM), ready]
    process = subprocess.Popen(
        recording(tmp_path / "t.pftrace", command),
        env={**os.environ, "GILSCOPE_DIR": str(rings)},
        start_new_session=True,
    )
    try:
        pid = int(await_line(ready))
        (folder,) = rings.iterdir()
        yield process, pid, folder
    finally:
        end_session(process.pid)


def gilscope(rings: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*GILSCOPE, *map(str, words)],
        env={**os.environ, "GILSCOPE_DIR": str(rings)},
        capture_output=True,
        text=True,
        check=False,
    )


def listed(rings: Path, folder: Path) -> str:
    """The line about that folder, or none."""
    done = gilscope(rings, "recover")
    assert done.returncode == 0
    return next((line for line in done.stdout.splitlines() if str(folder) in line), "")


def test_from_the_recorders_death_to_the_removal(tmp_path: Path) -> None:
    with memory_folder() as rings, recorded(tmp_path, rings) as (recorder, pid, folder):
        assert listed(rings, folder) == ""
        done = gilscope(rings, "recover", "--remove", folder)
        assert (done.returncode, "is under way" in done.stderr) == (2, True)

        recorder.kill()
        recorder.wait(DEADLINE_S)
        assert f"(still runs, pid {pid})" in listed(rings, folder)
        done = gilscope(rings, "recover", "--remove", folder)
        assert (done.returncode, f"(pid {pid}) still runs" in done.stderr) == (2, True)
        assert sorted(path.name for path in folder.iterdir()) == ["recording.json", "rings"]

        # Its parent is gone, so there is nobody to wait for it: until then it may be a zombie.
        descriptor = os.pidfd_open(pid)
        os.kill(pid, signal.SIGKILL)
        await_end(descriptor)
        line = listed(rings, folder)
        assert "MiB" in line
        assert "program.py" in line
        assert "(has ended)" in line
        trace = tmp_path / "again.pftrace"
        done = gilscope(rings, "recover", folder, "-o", trace)
        assert f"gilscope recover --remove {folder}" in done.stderr
        assert trace.exists()
        assert gilscope(rings, "recover", "--remove", folder).returncode == 0
        assert list(rings.iterdir()) == []
        assert listed(rings, folder) == ""


def await_end(descriptor: int) -> None:
    """Until the process of that descriptor has ended."""
    import select  # noqa: PLC0415

    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    assert poll.poll(DEADLINE_S * 1000)
    os.close(descriptor)


def test_what_is_no_recording_is_not_removed(tmp_path: Path) -> None:
    with memory_folder() as rings:
        mine = rings / "mine"
        mine.mkdir()
        (mine / "rings").write_bytes(b"x")
        named = rings / "gilscope-0123456789ab"
        named.mkdir()
        (named / "notes of mine").write_text("x")
        link = rings / "gilscope-ba9876543210"
        link.symlink_to(mine)
        for path in (mine, named, link, rings / "gilscope-000000000000", Path("/")):
            done = gilscope(rings, "recover", "--remove", path)
            assert (done.returncode, "no folder of a recording" in done.stderr) == (2, True)
        assert (mine / "rings").exists()
        assert (named / "notes of mine").exists()


def test_rings_without_notes_are_listed(tmp_path: Path) -> None:
    with memory_folder() as rings:
        folder = rings / "gilscope-0123456789ab"
        folder.mkdir()
        (folder / "rings").write_bytes(bytes(1 << 20))
        assert "1.0 MiB  " in listed(rings, folder)
        assert "(command not known)" in listed(rings, folder)


def test_doctor_tells_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with memory_folder() as rings:
        folder = rings / "gilscope-0123456789ab"
        folder.mkdir()
        (folder / "rings").write_bytes(b"x")
        monkeypatch.setenv("GILSCOPE_DIR", str(rings))
        (finding,) = [f for f in doctor.left_behind() if str(folder) in f.text]
        assert finding.verdict == doctor.NOTE
        assert f"gilscope recover --remove {folder}" in finding.remedy


def test_doctor_tells_of_many_in_a_few_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with memory_folder() as rings:
        for number in range(9):
            folder = rings / f"gilscope-0123456789a{number}"
            folder.mkdir()
            (folder / "rings").write_bytes(bytes(1 << 20))
        monkeypatch.setenv("GILSCOPE_DIR", str(rings))
        findings = list(doctor.left_behind())
        assert len(findings) == 4
        more = re.fullmatch(r"left behind: (\d+) more, older ones, [\d,]+ MiB", findings[-1].text)
        assert more is not None
        assert int(more[1]) >= 6


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["-o", "t.pftrace"], "recover what?"),
        (["DIR"], "name it with -o"),
        (["DIR", "--remove", "DIR"], "stands alone"),
    ],
)
def test_what_does_not_go_together(words: list[str], part: str, tmp_path: Path) -> None:
    done = gilscope(tmp_path, "recover", *words)
    assert (done.returncode, part in done.stderr) == (2, True)


def test_ages() -> None:
    ages = [recover.age(seconds) for seconds in (0.4, 119, 130, 7300, 200_000)]
    assert ages == ["0 s", "119 s", "2 min", "2 h", "2 days"]


def test_sigint_is_not_ignored_in_a_background_job(root: Path) -> None:
    """`make test &`: what the tests start can be interrupted."""
    code = "import signal, conftest; print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"
    done = subprocess.run(
        ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", sys.executable, "-c", code],
        cwd=root / "tests",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"

"""`gilscope doctor` tries things, and says what to do about what does not work."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.fake_cpython import PATCH, FakeCPython

from gilscope.cli import doctor
from gilscope.errors import InstallationError
from gilscope.interpreter import build
from gilscope.interpreter.progress import Lines
from gilscope.interpreter.release import RELEASES, VARIANTS


def test_it_records_an_interpreter(interpreter: Path, tmp_path: Path) -> None:
    (finding,) = doctor.recording(interpreter, tmp_path / "t.pftrace")
    assert finding.verdict == doctor.GOOD, finding
    assert str(interpreter) in finding.text
    assert ", 0 lost" in finding.text


def test_what_cannot_be_run_is_bad(tmp_path: Path) -> None:
    (finding,) = doctor.recording(tmp_path / "python3.99", tmp_path / "t.pftrace")
    assert finding.verdict == doctor.BAD
    assert "python3.99" in finding.text


def test_a_program_that_is_no_python_is_a_note(tmp_path: Path) -> None:
    program = tmp_path / "python3.99"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    (finding,) = doctor.recording(program, tmp_path / "t.pftrace")
    assert finding.verdict == doctor.NOTE
    assert "nothing recorded" in finding.text


@pytest.fixture
def sources(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: gilscope's sources as they come, where `pip install .` leaves a user."""
    folder = tmp_path / "sources"
    shutil.copytree(root / "gilscope", folder / "gilscope", ignore=shutil.ignore_patterns("*.so"))
    shutil.copy(root / "setup.py", folder)
    monkeypatch.chdir(folder)
    return folder


def test_the_current_folders_gilscope_is_not_the_one_it_tries(sources: Path) -> None:
    (finding,) = doctor.recording(Path(sys.executable), sources / "t.pftrace")
    assert finding.verdict == doctor.GOOD, finding


@pytest.mark.parametrize(
    "command", ["record true", "run --policy io-priority true", "doctor", "dump setup.py"]
)
def test_sources_that_are_not_built_say_so_and_leave_nothing(sources: Path, command: str) -> None:
    (rings := sources / "rings").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "gilscope", *command.split()],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "GILSCOPE_DIR": str(rings), "COLUMNS": "1000"},
    )
    assert done.returncode == 1
    told = f"{sources} holds gilscope's sources, which are not built: run gilscope in another "
    assert (done.stdout + done.stderr).count(told) == 1
    assert list(rings.iterdir()) == []


def test_without_the_libraries_it_stops_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise InstallationError("not built")

    monkeypatch.setattr(doctor._native, "probe", missing)
    assert list(doctor.findings()) == [doctor.Finding(doctor.BAD, "libraries", "not built")]


def test_rings_say_where_and_how_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GILSCOPE_DIR", str(tmp_path))
    (finding,) = doctor.rings()
    assert str(tmp_path) in finding.text
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("GILSCOPE_DIR", str(tmp_path / "missing"))
    (finding,) = doctor.rings()
    assert finding.verdict == doctor.BAD


def test_each_interpreter_is_tried_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("python3", "python3.11"):
        (tmp_path / name).symlink_to(sys.executable)
    (tmp_path / "python3.12").write_text("#!/bin/sh\necho shim >&2; exit 127\n")
    (tmp_path / "python3.12").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert list(doctor.interpreters()) == [Path(sys.executable)]


def test_python_plus_and_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for home in ("DATA", "CACHE"):
        monkeypatch.setenv(f"XDG_{home}_HOME", str(tmp_path / home))
    (finding,) = doctor.python_plus()
    assert (finding.verdict, finding.remedy) == (doctor.NOTE, "gilscope interpreter build")
    fake = FakeCPython(tmp_path / "fake")
    monkeypatch.setitem(RELEASES, "3.13", fake.release())
    fake.write_series(probe=PATCH)
    place = build.build(fake.release(), VARIANTS["stock"], fake.archive, Lines())
    build.build(fake.release(), VARIANTS[""], fake.archive, Lines())
    plus, stock = doctor.python_plus()
    assert (plus.verdict, stock.verdict) == (doctor.GOOD, doctor.GOOD)
    assert plus.text.startswith("3.13: 3.13.99, built in: locks (")
    fake.write_series()
    place.python.write_text("#!/bin/sh\nexit 1\n")
    plus, stock = doctor.python_plus()
    assert (plus.verdict, plus.remedy) == (doctor.NOTE, "gilscope interpreter build")
    assert stock.verdict == doctor.BAD
    assert stock.remedy == "gilscope interpreter build --variant stock"


def test_a_finding_is_wrapped_with_its_remedy_below(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    doctor.show(doctor.Finding(doctor.NOTE, "view", "there is no browser here " * 3, "copy it"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("note  view         there is")
    assert lines[-1] == "                -> copy it"
    assert max(map(len, lines)) < 60


def test_the_command_says_ok_here() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gilscope", "doctor"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stderr == ""
    assert "ok    libraries" in done.stdout
    assert (done.returncode == 1) == ("\nBAD " in done.stdout)

"""gilscope starts without what the environment and the folder say to the program's Python, and the
program gets all of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import interpreters

import gilscope

SHADOWED = ("numpy", "typing", "argparse", "json", "signal", "struct", "perfetto", "rich", "psutil")
PYTHON_VARIABLES = {
    "PYTHONINSPECT": "1",
    "PYTHONSTARTUP": "/nonexistent",
    "PYTHONSAFEPATH": "1",
    "PYTHONWARNINGS": "error",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONNOUSERSITE": "",
    "PYTHONOPTIMIZE": "2",
}
TELL = """
import json, os, sys
print(json.dumps([dict(os.environ), sys.argv, sys.flags.inspect]))
"""
WAYS = {
    "console script": [str(Path(sys.executable).with_name("gilscope"))],
    "module": [sys.executable, "-m", "gilscope"],
}


@pytest.fixture
def shadows(tmp_path: Path) -> Path:
    """A folder of modules that break whoever imports them."""
    folder = tmp_path / "shadows"
    folder.mkdir()
    for name in SHADOWED:
        (folder / f"{name}.py").write_text("raise RuntimeError('not for gilscope')\n")
    return folder


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", ["PYTHONPATH", "folder"])
def test_nothing_of_the_programs_reaches_gilscope(
    way: str, place: str, shadows: Path, tmp_path: Path
) -> None:
    trace = tmp_path / "t.pftrace"
    variables = {**os.environ, **PYTHON_VARIABLES}
    if place == "PYTHONPATH":
        variables["PYTHONPATH"] = str(shadows)
    for command in (
        [*WAYS[way], "record", "--quiet", "-o", trace, interpreters.path("3.13"), "-c", "pass"],
        [*WAYS[way], "summary", trace],
    ):
        done = subprocess.run(
            command,
            env=variables,
            cwd=shadows,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
    assert gilscope.read(trace).totals.events


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("locale", [{}, {"LC_CTYPE": "C"}, {"LC_ALL": "C.UTF-8"}])
def test_the_program_gets_all_of_it(way: str, locale: dict[str, str], tmp_path: Path) -> None:
    program = tmp_path / "tell.py"
    program.write_text(TELL)
    command = ["/usr/bin/python3", "-I", str(program), "", "ü"]
    variables = {
        "PATH": os.environ["PATH"],
        "odd-name%%": "() { x; }",
        **PYTHON_VARIABLES,
        **locale,
    }
    variables |= {"PYTHONHOME": sys.base_prefix, "PYTHONPATH": "/nonexistent"}

    def told(words: list[str]) -> list[object]:
        done = subprocess.run(words, env=variables, capture_output=True, check=True)
        answer: list[object] = json.loads(done.stdout)
        return answer

    alone = told(command)
    recorded = told([*WAYS[way], "record", "--quiet", "-o", str(tmp_path / "t"), *command])
    assert isinstance(recorded[0], dict)
    for name in ("LD_PRELOAD", "GILSCOPE_RINGS"):
        assert recorded[0].pop(name)
    assert recorded == alone


def test_it_is_one_process(tmp_path: Path) -> None:
    """A supervisor's signals reach it: the isolated interpreter takes the place of the first."""
    with subprocess.Popen(
        [*WAYS["console script"], "run", "--policy", "classic", "sh", "-c", "echo $PPID"],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        out, _ = process.communicate()
    assert int(out) == process.pid

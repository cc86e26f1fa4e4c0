"""The tutorial's commands, as it has them, and what it says of their outcome."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ (.*)$", TEXT, re.MULTILINE)
FILES = re.findall(r'^```python title="([^"]*)"\n(.*?)^```$', TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where `python` and `gilscope` are this environment's."""
    folder = tmp_path_factory.mktemp("tutorial")
    shutil.copy(ROOT / "examples" / "echo_server.py", folder)
    for name, text in FILES:
        (folder / name).write_text(text)
    (folder / "bin").mkdir()
    (folder / "bin" / "python").symlink_to(sys.executable)
    gilscope = folder / "bin" / "gilscope"
    gilscope.write_text(f'#!/bin/sh\nexec {sys.executable} -m gilscope "$@"\n')
    gilscope.chmod(0o755)
    return folder


def run(place: Path, command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", command],
        cwd=place,
        env={**os.environ, "PATH": f"{place / 'bin'}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )


def thread(place: Path, trace: str, name: str) -> dict[str, float]:
    told = json.loads(run(place, f"gilscope summary --json {trace}").stdout)
    (found,) = [
        thread
        for process in told["processes"]
        for thread in process["threads"]
        if thread["name"] == name
    ]
    return found  # type: ignore[no-any-return]


def test_the_commands_do_what_the_tutorial_says(place: Path) -> None:
    assert len(COMMANDS) == 7
    for command in COMMANDS:
        done = run(place, command)
        assert done.returncode == 0, f"{command}: {done.stderr}"
    slow, fixed = (thread(place, f"{name}.pftrace", "echo") for name in ("slow", "fixed"))
    assert slow["waiting_share"] > 0.5 > fixed["waiting_share"]
    broken = "gilscope check slow.pftrace --max waiting_share@echo=0.5"
    assert f"`{broken}` exits with 1" in TEXT
    done = run(place, broken)
    assert done.returncode == 1
    assert "echo" in done.stdout

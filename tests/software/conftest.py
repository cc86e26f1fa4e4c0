"""One environment for all the software, made once in build/; and the table of what was seen."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from software.harness import Software
from support import interpreters

HERE = Path(__file__).parent
VERSION = os.environ.get("GILSCOPE_SOFTWARE_PYTHON", "3.13")

# A shell starts what runs in the background with this ignored, and so would the servers be.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def environment() -> Path:
    """The folder of the programs' commands. pip fills it the first time."""
    wanted = (HERE / "requirements.txt").read_text()
    place = HERE.parent.parent / "build" / f"software-{VERSION}"
    place.parent.mkdir(exist_ok=True)
    with open(place.with_name(f"{place.name}.lock"), "w") as lock:  # one worker fills it
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = place / "installed"
        if not stamp.exists() or stamp.read_text() != wanted:
            python = interpreters.path(VERSION)
            subprocess.run([python, "-m", "venv", "--clear", place], check=True, timeout=120)
            pip = [place / "bin/python", "-m", "pip", "install", "-qq", "--no-compile", "-r"]
            subprocess.run([*pip, HERE / "requirements.txt"], check=True, timeout=300)
            stamp.write_text(wanted)
    return place / "bin"


@pytest.fixture
def software(environment: Path, tmp_path: Path, record_property: Any) -> Iterator[Software]:
    """Runs programs in a folder of their own; what it notes comes into the table."""
    return Software(environment, tmp_path, record_property)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What was seen, in the form of docs/software.md."""
    rows = []
    for report in terminalreporter.stats.get("passed", []):
        seen = dict(report.user_properties)
        if report.when == "call" and "program" in seen:
            rows.append([str(seen.get(key, "")) for key in COLUMNS])
    if rows:
        terminalreporter.write_sep("=", f"what was seen on Python {VERSION}")
        for row in [COLUMNS, ["---"] * len(COLUMNS), *sorted(rows)]:
            terminalreporter.write_line(f"| {' | '.join(row)} |")


COLUMNS = ["program", "command", "check", "processes", "threads", "classes", "events", "lost"]

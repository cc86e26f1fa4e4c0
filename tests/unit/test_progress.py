"""A bar for what takes long, on a terminal alone; what is interrupted leaves nothing half."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gilscope.benchmarks.synthetic import SyntheticSource
from gilscope.perfetto.writer import write_trace


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trace") / "t.pftrace"
    write_trace(SyntheticSource(2_000_000), path)
    return path


def command(*arguments: object) -> list[str]:
    """gilscope with a bar that comes at once."""
    program = (
        "import sys; from gilscope.cli import main, progress; progress.AFTER_S = 0; "
        "sys.exit(main(sys.argv[1:]))"
    )
    return [sys.executable, "-c", program, *map(str, arguments)]


def on_a_terminal(arguments: list[str]) -> tuple[subprocess.Popen[bytes], int]:
    """A process whose standard error is a terminal, and that terminal's other end."""
    leader, terminal = pty.openpty()
    process = subprocess.Popen(
        arguments,
        stderr=terminal,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
        start_new_session=True,
    )
    os.close(terminal)
    return process, leader


def said(leader: int) -> str:
    """All that the process writes to its terminal."""
    parts = []
    while True:
        try:
            part = os.read(leader, 1 << 16)
        except OSError:  # nobody has the other end any more
            break
        if not part:
            break
        parts.append(part)
    return b"".join(parts).decode()


def test_a_terminal_shows_rate_and_time_left(trace: Path, tmp_path: Path) -> None:
    process, leader = on_a_terminal(command("cut", trace, "-o", tmp_path / "part.pftrace"))
    text = said(leader)
    assert process.wait() == 0
    assert "cutting t.pftrace" in text
    assert "M events/s" in text
    assert "0:00:0" in text
    assert "%" in text


@pytest.mark.parametrize("name", ["summary", "dump"])
def test_a_pipe_shows_nothing(name: str, trace: Path) -> None:
    outcome = subprocess.run(command(name, trace), capture_output=True, check=True)
    assert outcome.stderr == b""
    assert b"\r" not in outcome.stdout


def test_what_is_interrupted_leaves_nothing_half(trace: Path, tmp_path: Path) -> None:
    output = tmp_path / "part.pftrace"
    process, leader = on_a_terminal(command("cut", trace, "-o", output))
    while not list(tmp_path.iterdir()):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said(leader)
    assert process.wait() == 130
    assert list(tmp_path.iterdir()) == []

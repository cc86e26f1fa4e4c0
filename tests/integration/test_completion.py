"""Completions as the three shells themselves give them."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from pathlib import Path

import pytest

from gilscope.cli.completion import SHELLS, script

CASES = {
    "rec": {"record", "recover"},
    "summary --js": {"--json"},
    "export --format spe": {"speedscope"},
    "bench star": {"starvation"},
    "summary a-tra": {"a-trace.pftrace"},
    "record a-pro": {"a-program"},
}
BASH = """
source "$1"
read -ra COMP_WORDS <<< "$2"
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_shtab_gilscope gilscope "${COMP_WORDS[COMP_CWORD]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""
PATIENCE_S = 60


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a trace, and a program on PATH."""
    (tmp_path / "a-trace.pftrace").touch()
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "a-program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_bash(place: Path) -> None:
    file = place / "script"
    file.write_text(script("bash"))
    for words, found in CASES.items():
        done = subprocess.run(
            ["bash", "--norc", "-c", BASH, "bash", file, f"gilscope {words}"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert (set(done.stdout.split()), done.stderr) == (found, ""), words


def test_fish(place: Path) -> None:
    file = place / "script"
    file.write_text(script("fish"))
    for words, found in CASES.items():
        done = subprocess.run(
            ["fish", "-N", "-c", f"source {file}; complete -C 'gilscope {words}'"],
            capture_output=True,
            text=True,
            check=True,
        )
        names = {line.partition("\t")[0] for line in done.stdout.splitlines()}
        assert (names, done.stderr) == (found, ""), words


def test_zsh(place: Path) -> None:
    """At a terminal, since zsh completes nowhere else: what Tab makes of a line that has one
    completion stands there when the line is printed back."""
    (place / "functions").mkdir()
    (place / "functions" / "_gilscope").write_text(script("zsh"))
    (place / ".zshrc").write_text(
        f"fpath=({place}/functions $fpath)\nautoload -U compinit; compinit -u -D\n"
        "gilscope() { print -r -- \"<$*>\" }\nPS1='ready '\n"
    )
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ |= {"ZDOTDIR": str(place), "TERM": "dumb", "LC_ALL": "C"}
        os.execvp("zsh", ["zsh", "-i"])
    try:
        until(terminal, b"ready ")
        for words, found in CASES.items():
            if len(found) == 1:
                os.write(terminal, f"gilscope {words}\t\n".encode())
                begin = words.rpartition(" ")[0]
                until(terminal, f"<{' '.join(filter(None, (begin, *found)))}>\r\n".encode())
    finally:
        os.write(terminal, b"\x03exit\n")
        os.close(terminal)
        os.waitpid(pid, 0)


def until(terminal: int, awaited: bytes) -> None:
    seen = b""
    while awaited not in seen:
        ready, _, _ = select.select([terminal], [], [], PATIENCE_S)
        assert ready, f"{awaited!r} did not come; {seen!r} did"
        seen += os.read(terminal, 4096)


def test_the_command_prints_it() -> None:
    for shell in SHELLS:
        done = subprocess.run(
            [sys.executable, "-m", "gilscope", "completion", shell],
            capture_output=True,
            text=True,
            check=True,
        )
        assert (done.stdout, done.stderr) == (script(shell), "")

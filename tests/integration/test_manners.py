"""Mistakes in use and interruptions: one line each, and nothing half left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.faults import DEADLINE_S, end_session, memory_folder, rings_folder

from gilscope.benchmarks.synthetic import SyntheticSource
from gilscope.perfetto.writer import write_trace

GILSCOPE = [sys.executable, "-m", "gilscope"]
PYTHON = sys.executable


def gilscope(*words: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*GILSCOPE, *map(str, words)], cwd=cwd, capture_output=True, text=True, check=False
    )


def refused(done: subprocess.CompletedProcess[str], part: str, code: int = 2) -> None:
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("gilscope: ")
    assert part in line


@pytest.mark.parametrize("way", [["record"], ["run", "--policy", "classic"]])
def test_a_command_that_is_none(way: list[str], tmp_path: Path) -> None:
    for words in ([""], ["--", ""], ["", "x"]):
        refused(gilscope(*way, *words, cwd=tmp_path), "name is empty")
    for option in ("-m", "-c", "-X"):
        told = f"did you mean `gilscope {way[0]} python {option} …`?"
        refused(gilscope(*way, option, "json.tool", cwd=tmp_path), told)
    assert list(tmp_path.iterdir()) == []


def test_a_trace_of_nothing_is_not_shown(tmp_path: Path) -> None:
    trace = tmp_path / "t.pftrace"
    done = gilscope("record", "-o", trace, "true")
    assert "nothing recorded: no Python interpreter ran in true" in done.stderr
    for options in ([], ["--offline"]):
        refused(gilscope("view", *options, "--no-browser", trace), "nothing was recorded", 1)


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trace") / "t.pftrace"
    write_trace(SyntheticSource(20_000), path)
    return path


@pytest.mark.parametrize("form", ["collapsed", "speedscope", "gecko"])
def test_an_export_overwrites_exports_alone(form: str, trace: Path, tmp_path: Path) -> None:
    before = trace.read_bytes()
    link = tmp_path / "link"
    link.symlink_to(trace)
    for path in (trace, link):
        refused(gilscope("export", trace, "--format", form, "-o", path), "is no such export")
    assert trace.read_bytes() == before
    other = tmp_path / "other"
    for content in (b"notes of mine\n", b'{"meta":{}}', b"\x7fELF"):
        other.write_bytes(content)
        refused(gilscope("export", trace, "--format", form, "-o", other), "is no such export")
        assert other.read_bytes() == content
    other.write_bytes(b"")
    for _ in range(2):
        done = gilscope("export", trace, "--format", form, "-o", other)
        assert done.returncode == 0, done.stderr
    assert len(other.read_bytes()) > 100


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    """Whether or not something was built before."""
    missing = tmp_path / "nonexistent"
    refused(gilscope("interpreter", "build", "--source", missing), str(missing))


# ---- Ctrl-C -------------------------------------------------------------------------------------


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def has_children(process: subprocess.Popen[str]) -> bool:
    return bool(children(process.pid))


def is_reading(process: subprocess.Popen[str]) -> bool:
    """Whether it has the trace mapped or open; seen often enough in a trace of this size."""
    folder = f"/proc/{process.pid}/fd"
    return any(os.readlink(f"{folder}/{name}").endswith(".pftrace") for name in os.listdir(folder))


State = Callable[["subprocess.Popen[str]"], bool]

AT_WORK: dict[str, tuple[list[str], State]] = {
    "bench probe": (["bench", "probe"], has_children),
    "bench echo": (["bench", "echo", "--interpreter", PYTHON], has_children),
    "bench giltest": (["bench", "giltest", "--interpreter", PYTHON], has_children),
    "bench condition": (["bench", "condition", "--interpreter", PYTHON], has_children),
    "bench export": (["bench", "export"], has_children),
    "doctor": (["doctor"], has_children),
    "summary": (["summary", "large.pftrace"], is_reading),
    "dump": (["dump", "large.pftrace"], is_reading),
    "export": (["export", "large.pftrace", "--format", "gecko", "-o", "out"], is_reading),
    "view": (["view", "--offline", "--no-browser", "large.pftrace"], is_reading),
}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "large.pftrace"
    write_trace(SyntheticSource(3_000_000), path)
    return path


@pytest.mark.parametrize("name", AT_WORK)
def test_ctrl_c_is_one_line(name: str, large: Path, tmp_path: Path) -> None:
    words, at_work = AT_WORK[name]
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / large.name).symlink_to(large)
    (tmp_path / "temporary").mkdir()
    with memory_folder() as rings:
        process = subprocess.Popen(
            [*GILSCOPE, *words],
            cwd=tmp_path / "work",
            env={**os.environ, "GILSCOPE_DIR": str(rings), "TMPDIR": str(tmp_path / "temporary")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            started = time.monotonic()
            while not _holds(at_work, process):
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < started + DEADLINE_S
            os.killpg(process.pid, signal.SIGINT)
            _, errors = process.communicate(timeout=DEADLINE_S)
        finally:
            end_session(process.pid)
        assert errors == "gilscope: interrupted\n"
        assert process.returncode == 130
        assert list(rings.iterdir()) == []
    assert list((tmp_path / "temporary").iterdir()) == []
    assert [path.name for path in (tmp_path / "work").iterdir()] == [large.name]


def _holds(
    condition: Callable[[subprocess.Popen[str]], bool], process: subprocess.Popen[str]
) -> bool:
    try:
        return condition(process)
    except OSError:
        return False


def test_ctrl_c_before_the_program_leaves_no_rings(tmp_path: Path) -> None:
    """While the recorder starts; what it had made is gone."""
    code = """
import sys
from gilscope import cli
from gilscope.recorder import record

def interrupted(*_: object) -> None:
    raise KeyboardInterrupt

record.preload = interrupted
sys.exit(cli.main(["record", "true"]))
"""
    with rings_folder() as rings:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "GILSCOPE_DIR": str(rings)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (130, "gilscope: interrupted\n")

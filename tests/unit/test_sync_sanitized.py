"""The extension module under the address and undefined-behaviour sanitizers: its own tests, in an
interpreter that has them."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

FLAGS = (
    *("-std=c11", "-O1", "-g", "-shared", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra"),
    *("-Werror", "-Wno-unused-parameter", "-DPy_LIMITED_API=0x030A0000"),
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
)


@pytest.fixture
def extension(root: Path, tmp_path: Path) -> Path:
    sources = [root / "gilscope/_sync.c", *sorted((root / "gilscope/sync").glob("*.c"))]
    sources.remove(root / "gilscope/sync/due.c")  # of Python Plus alone
    made = tmp_path / "_sync.so"
    includes = f"-I{sysconfig.get_paths()['include']}"
    subprocess.run(["gcc", *FLAGS, includes, *sources, "-o", made], check=True)
    return made


def under_sanitizers(
    root: Path, extension: Path, *command: str
) -> subprocess.CompletedProcess[str]:
    """A command whose interpreter allocates so that every block is watched."""
    library = subprocess.run(
        ["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    )
    return subprocess.run(
        [sys.executable, *command],
        cwd=root,
        env={
            **os.environ,
            "LD_PRELOAD": library.stdout.strip(),
            "ASAN_OPTIONS": "detect_leaks=0",  # an interpreter's own
            "PYTHONMALLOC": "malloc",
            "PYTHONPATH": f"{root}:{root / 'tests'}",
            "SANITIZED_SYNC": str(extension),
        },
        capture_output=True,
        text=True,
        check=False,
    )


def test_its_own_tests(root: Path, extension: Path) -> None:
    tests = "tests/unit/test_condition.py"
    done = under_sanitizers(
        root, extension, *("-m", "pytest", "-q", "-p", "support.sanitized_sync", tests)
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "Sanitizer" not in done.stderr
    assert "runtime error" not in done.stderr


def test_what_is_wrong_is_found(root: Path, extension: Path) -> None:
    """The sanitizers are there and watch the interpreter's memory."""
    wrong = "import ctypes; ctypes.memset(ctypes.create_string_buffer(8), 0, 4096)"
    assert b"__asan_report" in extension.read_bytes()
    done = under_sanitizers(root, extension, "-c", wrong)
    assert done.returncode != 0
    assert "AddressSanitizer: heap-buffer-overflow" in done.stderr

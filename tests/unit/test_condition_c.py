"""The condition's core, which needs no Python, under the thread and address sanitizers."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest


@pytest.mark.parametrize("sanitizers", ["thread", "address,undefined"])
def test_a_thousand_waiters(root: Path, tmp_path: Path, sanitizers: str) -> None:
    program = tmp_path / "condition"
    flags = ["-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread"]
    flags += [f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all"]
    sources = [root / "tests/c/condition.c", root / "gilscope/sync/forks.c"]
    subprocess.run(["gcc", *flags, *sources, "-o", program], check=True)
    done = subprocess.run(
        [program, "1000", "5", "1"], capture_output=True, text=True, timeout=240, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    notified, got, timed_out, without_lock = map(int, re.findall(r"\d+", done.stdout))
    assert notified == got
    assert got + timed_out + without_lock == 5000
    assert min(got, timed_out, without_lock) > 0

"""Each example runs on each interpreter, ends by itself, and prints the rate it is about."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

RATES = {
    "asyncio_to_thread.py": r"^(\d+) requests/s$",
    "echo_server.py": r"^(\d+) requests/s, p50 \d+\.\d\d ms, p99 \d+\.\d\d ms$",
    "hash_pool.py": r"^(\d+) MB/s with \d threads?$",
    "process_pool.py": r"^(\d+) results/s from \d workers$",
    "queue_pipeline.py": r"^(\d+) items/s$",
}


def test_every_example_is_listed(root: Path) -> None:
    assert sorted(path.name for path in (root / "examples").glob("*.py")) == sorted(RATES)


@pytest.mark.parametrize("example", RATES)
def test_example_runs(example: str, interpreter: Path, root: Path) -> None:
    done = subprocess.run(
        [interpreter, "-W", "error", root / "examples" / example, "--seconds", "0.1"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    for line in done.stdout.splitlines():
        rate = re.match(RATES[example], line)
        assert rate is not None, line
        assert int(rate[1]) > 0
    assert done.stdout

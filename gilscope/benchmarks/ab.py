"""Runs ApacheBench and reads what it prints."""

from __future__ import annotations

import csv
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from gilscope.child import output_of
from gilscope.errors import InstallationError, RecordingError

_PATIENCE_S = 60


@dataclass(frozen=True)
class Served:
    """What ab saw."""

    per_second: float
    complete: int
    failed: int
    percentiles_ms: dict[int, float]  # 0 … 100: so many per cent were served within


def needed() -> str:
    """The program. Raises InstallationError where there is none."""
    if (program := shutil.which("ab")) is None:
        raise InstallationError("this benchmark needs ab; on Debian: apt-get install apache2-utils")
    return program


def ab(port: int, parallel: int, seconds: int) -> Served:
    """Load the server on that port of this machine for whole seconds.

    Raises InstallationError where there is no ab, RecordingError when it fails.
    """
    program = needed()
    with tempfile.TemporaryDirectory(prefix="gilscope-bench-") as folder:
        percentiles = Path(folder, "percentiles.csv")
        # -t sets a -n of its own, so -n comes behind it: no run ends before its time.
        command = [program, "-q", "-t", str(seconds), "-n", "1000000", "-c", str(parallel)]
        command += ["-s", str(_PATIENCE_S), "-e", str(percentiles), f"http://127.0.0.1:{port}/"]
        done = output_of(command)
        if done.returncode:
            raise RecordingError(f"ab failed: {done.stderr.strip() or done.stdout.strip()}")
        return parse(done.stdout, percentiles.read_text(encoding="utf-8"))


def parse(printed: str, percentiles: str) -> Served:
    """From ab's standard output and its CSV of percentiles. Raises RecordingError."""

    def field(name: str) -> float:
        found = re.search(rf"^{name}:\s+([0-9.]+)", printed, re.MULTILINE)
        if found is None:
            raise RecordingError(f"ab printed no line that begins with {name}")
        return float(found[1])

    rows: dict[int, float] = {}
    longest = 0.0
    try:
        for percent, milliseconds in list(csv.reader(percentiles.splitlines()))[1:]:
            longest = max(longest, float(milliseconds))  # of few requests ab writes 0 for 99 %
            rows[int(percent)] = longest
    except ValueError as error:
        raise RecordingError(f"ab's percentiles cannot be read: {error}") from error
    if not {50, 99} <= rows.keys():
        raise RecordingError("ab wrote no percentiles")
    complete, failed = field("Complete requests"), field("Failed requests")
    return Served(field("Requests per second"), int(complete), int(failed), rows)

"""What reports and exports cost: `python -m support.measure_pages` in tests/ prints
docs/results/pages.md. Nothing else should run meanwhile.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from support.browser import chromium
from support.pages import ReportPage
from support.recorded import GILSCOPE

from gilscope.benchmarks.synthetic import SyntheticSource
from gilscope.perfetto.writer import write_trace

HEAD = """\
# Reports and exports

`make bench-pages`, on {cores} cores of {machine}, Python {python}. The traces are synthetic
(`gilscope.benchmarks.synthetic`: 8 threads on one GIL). Each command runs once, from file to file;
its memory is the peak of the whole process. A report is *open* when all of its charts are drawn,
counted by the browser from the start of the navigation.

| events | made | time | memory | size | open |
|---|---|---|---|---|---|"""
FORMS = ("collapsed", "speedscope", "gecko", "parquet")


def measured(*command: str | Path) -> tuple[float, int]:
    """Seconds, and peak bytes, of a command."""
    begin = time.monotonic()
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, command
    return time.monotonic() - begin, usage.ru_maxrss * 1024


def size_of(path: Path) -> int:
    """Bytes of a file, or of a folder's files."""
    return sum(p.stat().st_size for p in path.iterdir()) if path.is_dir() else path.stat().st_size


def main() -> None:
    """Print the page."""
    machine = next(
        (line.split(":")[1].strip() for line in open("/proc/cpuinfo") if "model name" in line),  # noqa: SIM115
        platform.machine(),
    )
    print(HEAD.format(cores=os.cpu_count(), machine=machine, python=platform.python_version()))
    with tempfile.TemporaryDirectory() as folder, chromium() as driver:
        for millions in (1, 10):
            trace = Path(folder, f"{millions}.pftrace")
            write_trace(SyntheticSource(millions * 1_000_000), trace)
            page = Path(folder, f"{millions}.html")
            cost = measured(*GILSCOPE, "report", trace, "-o", page)
            report = ReportPage(driver)
            report.open(page)
            opened = report.run("return performance.now()") / 1000
            _row(f"{millions} M", "report", cost, page, f"{opened:.2f} s")
            for form in FORMS:
                made = Path(folder, f"{millions}.{form}")
                cost = measured(*GILSCOPE, "export", trace, "--format", form, "-o", made)
                _row(f"{millions} M", form, cost, made)


def _row(events: str, what: str, cost: tuple[float, int], made: Path, opened: str = "") -> None:
    times = f"{cost[0]:.1f} s | {cost[1] / 1e6:.0f} MB"
    print(f"| {events} | {what} | {times} | {size_of(made) / 1e6:.3g} MB | {opened} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())

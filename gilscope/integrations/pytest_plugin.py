"""`pytest --gilscope`: the whole run under `gilscope record`, and which tests waited for whom.

pytest starts itself again under the recorder; the inner pytest (with xdist its workers, too) notes
when each test began and ended, and the outer one reads the trace, prints a table and fails the run
where a test broke a bound. Nothing of gilscope but this file is imported unless that is asked for.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

NOTES = "GILSCOPE_PYTEST"  # the folder for the notes of the inner pytest
DEFAULT_TRACES = "gilscope-traces"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the plugin."""
    group = parser.getgroup("gilscope", "waiting for the GIL")
    group.addoption(
        "--gilscope",
        action="store_true",
        help="record the run; show which tests waited for the GIL, and for whom",
    )
    group.addoption(
        "--gilscope-max",
        metavar="METRIC[@THREAD]=VALUE",
        action="append",
        default=[],
        help="the most that a thread may have in any test, as in waiting_share@worker-*=0.1",
    )
    group.addoption(
        "--gilscope-traces",
        metavar="DIR",
        default=DEFAULT_TRACES,
        help="where the trace of a failed run is kept (default %(default)s)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """The marker, and the notes of the inner run."""
    config.addinivalue_line(
        "markers",
        'gilscope(max={"METRIC[@THREAD]": value}): under --gilscope the test fails where one of its'
        " threads has more",
    )
    if folder := os.environ.get(NOTES):
        config.pluginmanager.register(_Notes(Path(folder)), "gilscope-notes")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """The outer run: everything happens in the inner one."""
    option = config.option
    if not option.gilscope or os.environ.get(NOTES) or option.collectonly or option.help:
        return None
    from gilscope.integrations.pytest_run import run  # noqa: PLC0415 - only when asked for

    return run(config)


class _Notes:
    """When each test of this process ran, how it ended and what bounds it has."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / f"{os.getpid()}.jsonl"
        self._failed = False

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, None, None]:
        """Around setup, call and teardown."""
        self._failed = False
        start_ns = time.monotonic_ns()
        yield
        bounds: dict[str, Any] = {}
        for mark in reversed([*item.iter_markers("gilscope")]):  # the closest one decides
            bounds |= mark.kwargs.get("max", {})
        note = {
            "test": item.nodeid,
            "pid": os.getpid(),
            "start_ns": start_ns,
            "end_ns": time.monotonic_ns(),
            "failed": self._failed,
            "max": bounds,
        }
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(note) + "\n")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A failure of any phase."""
        self._failed |= report.failed

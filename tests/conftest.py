"""Fixtures that several folders of tests share."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import interpreters
from support.every_trace import held_against_sql

ROOT = Path(__file__).parent.parent

# A shell starts a job in the background with SIGINT ignored, nohup one with SIGHUP ignored, and all
# that it starts inherits that: a program that a test interrupts would go on for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def root() -> Path:
    """The project's top folder."""
    return ROOT


@pytest.fixture(params=interpreters.names())
def interpreter(request: pytest.FixtureRequest) -> Path:
    """Runs the test once an interpreter; one of the declared minimum that is missing fails."""
    try:
        return interpreters.path(request.param)
    except LookupError as missing:
        pytest.fail(str(missing), pytrace=False)


@pytest.fixture(autouse=True)
def _blame_is_what_sql_says(request: pytest.FixtureRequest) -> Iterator[None]:
    """Of every trace that a test makes, reads, or leaves."""
    has_folder = "tmp_path" in request.fixturenames
    yield from held_against_sql(request.getfixturevalue("tmp_path") if has_folder else None)

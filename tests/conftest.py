"""Fixtures that several folders of tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import interpreters

ROOT = Path(__file__).parent.parent


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

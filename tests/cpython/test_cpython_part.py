"""The part of `make test-cpython` that fits every run of the tests: threads and forks."""

from __future__ import annotations

from pathlib import Path

import pytest
from cpython.compare import compare, expected, unexplained
from support import interpreters

PART = [
    ("3.13", "test_thread"),
    ("3.13", "test_threading"),
    ("3.13", "test_threading_local"),
    ("3.13", "test_queue"),
    ("3.13", "test_fork1"),
    ("3.11", "test_thread"),
    ("3.11", "test_threading_local"),
    ("3.11", "test_fork1"),
]


@pytest.mark.parametrize(("version", "module"), PART)
def test_recorded_tests_end_as_they_do_alone(version: str, module: str, tmp_path: Path) -> None:
    result = compare(interpreters.path(version), module, tmp_path)
    assert unexplained(version, result) == []
    assert result.cases > 0
    assert result.events > 0


@pytest.mark.parametrize("version", ["3.11", "3.13"])
def test_expected_differences_give_a_reason(version: str) -> None:
    assert all(len(reason) > 20 for reason in expected(version).values())

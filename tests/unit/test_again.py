"""Which failures are run again, and what becomes of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.again import MOST, TIMES, again


@pytest.fixture
def failed(tmp_path: Path) -> Path:
    return tmp_path / "lastfailed"


def test_what_passes_by_itself_is_told(failed: Path, capfd: pytest.CaptureFixture[str]) -> None:
    name = f"{__file__}::test_of_a_moment"
    failed.write_text(json.dumps({name: True}))
    assert again(1, failed) == 0
    out = capfd.readouterr().out
    assert out.count("1 passed") == TIMES
    assert out.rstrip().endswith(f"failed beside others:\n{name}")


def test_what_fails_again_is_a_failure(failed: Path, tmp_path: Path) -> None:
    for source, code in (("def test_it():\n    assert False\n", 1), ("", 4)):
        test = tmp_path / "test_it.py"
        test.write_text(source)
        failed.write_text(json.dumps({f"{test}::test_it": True}))
        assert again(1, failed) == code


@pytest.mark.parametrize(
    ("status", "names"), [(0, 0), (1, 0), (1, MOST + 1), (2, 1), (3, 1), (5, 1)]
)
def test_nothing_else_is_run_again(failed: Path, status: int, names: int) -> None:
    assert again(status, failed) == status
    failed.write_text(json.dumps({f"no.py::test_{n}": True for n in range(names)}))
    assert again(status, failed) == status


def test_of_a_moment() -> None:
    assert MOST < 10

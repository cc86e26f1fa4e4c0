"""The part of `python -m cpython.locks` that fits every run of the tests, and its guards."""

from __future__ import annotations

from pathlib import Path

import pytest
from cpython import locks, regrtest
from support import interpreters

PART = ("test_threading", "test_queue")
OWN = """
import threading, unittest

replaced = threading.Lock.__module__ == "gilscope.locks"

class Own(unittest.TestCase):
    def test_fails_replaced(self):
        self.assertFalse(replaced)
    def test_fails_alike(self):
        self.fail()
    def test_passes(self):
        pass
"""


@pytest.mark.parametrize("module", PART)
@pytest.mark.parametrize("version", locks.versions(locks.REPLACED))
def test_with_threadings_locks_replaced(version: str, module: str, tmp_path: Path) -> None:
    assert locks.differences(locks.REPLACED, version, module, tmp_path) == []


@pytest.mark.parametrize("module", PART)
def test_with_the_native_condition(module: str, tmp_path: Path) -> None:
    assert locks.differences(locks.NATIVE, interpreters.PLUS, module, tmp_path) == []


@pytest.mark.parametrize(
    ("known", "told"),
    [
        ([], ["test_fails_replaced fails"]),
        (["test_fails_replaced"], []),
        (["test_fails_replaced", "test_passes"], ["test_passes does not fail"]),
    ],
)
def test_what_is_known_is_known_exactly(
    known: list[str], told: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "test_glued_own.py").write_text(OWN)
    table = "".join(
        f"replaced 3.13 test_own test_glued_own.Own.{case} it has a reason\n" for case in known
    )
    (tmp_path / "known.txt").write_text(f"# comment\n{table}")
    monkeypatch.setattr(regrtest, "GLUE", tmp_path)
    monkeypatch.setattr(locks, "KNOWN", tmp_path / "known.txt")
    monkeypatch.setattr(locks, "ROUNDS", 2)
    lines = locks.differences(locks.REPLACED, "3.13", "test_own", tmp_path / "files")
    assert lines == [f"replaced 3.13 test_own: test_glued_own.Own.{line}" for line in told]


def test_what_is_known_names_modules_that_are_run_and_gives_a_reason() -> None:
    for row in locks.table():
        kind, version, module, case, reason = row
        assert kind in (locks.NATIVE, locks.REPLACED)
        assert version in (*locks.versions(kind), "*")
        assert module in locks.MODULES
        assert case.startswith("test.")
        assert len(reason) > 20

"""The part of `make test-cpython` that fits every run of the tests, and the comparison itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cpython import compare, regrtest, suite
from support import interpreters

import gilscope

PART = [
    ("3.13", "test_thread"),
    ("3.13", "test_threading"),
    ("3.13", "test_threading_local"),
    ("3.13", "test_queue"),
    ("3.13", "test_fork1"),
    ("3.13", "test_cmd_line"),
    ("3.11", "test_thread"),
    ("3.11", "test_threading_local"),
    ("3.11", "test_fork1"),
    ("plus", "test_thread"),
    ("plus", "test_threading"),
    ("plus", "test_fork1"),
    ("plus", "test_embed"),
    ("plus", "test__interpreters"),
]
PART_SCHEDULED = [
    ("3.13", "test_threading"),
    ("3.13", "test_queue"),
    ("3.13", "test_fork1"),
    ("3.11", "test_threading"),
    ("3.11", "test_threadsignals"),
    ("plus", "test_threading"),
    ("plus", "test_threadsignals"),
    ("plus", "test_queue"),
]
# Frames of every kind, frames that die or change under their thread, and threads that come and go.
PART_STACKS = ("test_generators", "test_coroutines", "test_sys_settrace", "test_thread")
WITH_TESTS = [name for name in interpreters.names() if name in ("3.9", "3.10", "3.11", "3.12")]
WITH_TESTS += ["3.13", interpreters.PLUS]

# Half of its cases end otherwise when recorded, each in a way of its own.
NOTICES = """
import os, unittest

RECORDED = "GILSCOPE_RINGS" in os.environ

class Notices(unittest.TestCase):
    def test_fails_alike(self):
        self.fail()
    def test_passes_alike(self):
        pass
    def test_skipped_alike(self):
        self.skipTest("always")
    def test_fails_recorded(self):
        self.assertFalse(RECORDED)
    def test_passes_recorded(self):
        self.assertTrue(RECORDED)
    def test_skipped_recorded(self):
        if RECORDED:
            self.skipTest("recorded")
    def test_subtest_recorded(self):
        with self.subTest():
            self.assertFalse(RECORDED)
"""
DIES = """
import os, unittest

class Dies(unittest.TestCase):
    def test(self):
        if "GILSCOPE_RINGS" in os.environ:
            os.kill(os.getpid(), 9)
"""
FLAKY = """
import os, pathlib, unittest

class Flaky(unittest.TestCase):
    def test_first_recorded_run(self):
        mark = pathlib.Path({mark!r})
        if "GILSCOPE_RINGS" in os.environ and not mark.exists():
            mark.touch()
            self.fail()
"""


def log_of(folder: Path) -> str:
    """What the last recorded run said."""
    log = max(folder.glob("recorded-*.log"), key=lambda path: path.stat().st_mtime)
    return log.read_text(errors="replace")[-4000:]


@pytest.mark.parametrize(("version", "module"), PART)
def test_recorded_tests_end_as_they_do_alone(version: str, module: str, tmp_path: Path) -> None:
    result = compare.compare(version, module, tmp_path)
    assert compare.unexplained(version, result) == [], log_of(tmp_path)
    assert result.cases > 0
    assert result.events > 0


@pytest.mark.parametrize(("version", "module"), PART_SCHEDULED)
def test_scheduled_tests_end_as_they_do_alone(
    version: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GILSCOPE_POLICY", "io-priority")
    result = compare.compare(version, module, tmp_path)
    assert compare.unexplained(version, result) == []
    assert result.events > 0


@pytest.mark.parametrize("module", PART_STACKS)
@pytest.mark.parametrize("version", WITH_TESTS)
def test_with_a_stack_of_every_hold_they_end_as_they_do_alone(
    version: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GILSCOPE_STACKS_US", "0")
    python, resources = compare.python_of(version), "cpu,network"  # 3.9 and 3.10 know no walltime
    alone = compare.Side("alone", python, resources=resources)
    recorded = compare.Side("recorded", python, recorded=True, resources=resources)
    result = compare.compare_sides((alone, recorded), module, tmp_path, ())
    assert compare.unexplained(version, result) == []
    assert result.cases > 0
    trace = gilscope.read(tmp_path / "recorded-1.pftrace")
    assert len(trace.stacks) > len(trace.holds) // 2


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a module `test_own` for the comparison is to be written."""
    monkeypatch.setattr(regrtest, "GLUE", tmp_path)
    monkeypatch.setattr(compare, "ROUNDS", 2)
    return tmp_path / "test_glued_own.py"


@pytest.mark.parametrize("version", compare.VERSIONS)
def test_every_kind_of_difference_is_found(version: str, own_module: Path) -> None:
    own_module.write_text(NOTICES)
    result = compare.compare(version, "test_own", own_module.parent / "files")
    of = "test_glued_own.Notices."
    assert result.differences[f"{of}test_fails_recorded"] == "passed alone, failed recorded"
    assert result.differences[f"{of}test_passes_recorded"] == "failed alone, passed recorded"
    assert result.differences[f"{of}test_skipped_recorded"] == "passed alone, skipped recorded"
    assert result.differences.keys() == {
        f"{of}test_{name}_recorded" for name in ("fails", "passes", "skipped", "subtest")
    }
    assert result.problems == []
    assert len(compare.unexplained(version, result)) == 4


def test_a_module_that_dies_is_a_difference(own_module: Path) -> None:
    own_module.write_text(DIES)
    result = compare.compare("3.13", "test_own", own_module.parent / "files")
    assert result.differences == {
        compare.WHOLE: "exit code 0 alone, exit code 137 recorded",
        "test_glued_own.Dies.test": "passed alone, no result recorded",
    }


def test_a_module_without_verdicts_is_a_problem(own_module: Path) -> None:
    own_module.write_text("raise RuntimeError")
    result = compare.compare("3.13", "test_own", own_module.parent / "files")
    assert result.differences == {}
    assert compare.unexplained("3.13", result) == ["no case gave a verdict alone"]


def test_what_differs_once_is_flaky(own_module: Path) -> None:
    own_module.write_text(FLAKY.format(mark=str(own_module.with_name("mark"))))
    result = compare.compare("3.13", "test_own", own_module.parent / "files")
    assert result.differences == {}
    assert result.flaky == [compare.WHOLE, "test_glued_own.Flaky.test_first_recorded_run"]


@pytest.mark.parametrize("version", compare.VERSIONS)
def test_expected_differences_give_a_reason(version: str) -> None:
    assert all(len(reason) > 20 for reason in compare.expected(version).values())


def test_modules_that_do_not_exist_are_an_error(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cpython.compare", "test_of_nothing"],
        cwd=root / "tests",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert "test_of_nothing" in done.stderr


def test_the_suite_goes_on_where_it_stood(
    own_module: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What stands in the results is not run again, unless an interpreter is another one."""
    python = interpreters.path("3.13")
    recorded = compare.Side("plus", python, recorded=True)
    monkeypatch.setattr(suite, "sides", lambda: (compare.Side("stock", python), recorded))
    monkeypatch.setattr(suite, "modules", lambda _: ["test_own", "test_fork1"])
    monkeypatch.setattr(suite, "built_from", lambda: "these two")
    folder, document = own_module.parent / "suite", own_module.parent / "results.md"
    document.write_text("# Title\n")
    own_module.write_text(NOTICES)
    options = ["suite", "--keep", str(folder), "--table", str(document)]
    monkeypatch.setattr(sys, "argv", [*options, "test_own"])
    assert suite.main() == 1
    assert "1 of 2 modules: 4 differences" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", options)
    assert suite.main() == 1
    out = capsys.readouterr().out
    assert "2 of 2 modules: 4 differences" in out
    assert "test_own: " not in out
    text = document.read_text()
    assert text.startswith("# Title\n<!-- written by")
    assert "| test_own | 4 | 1 | 2 | 2 | 2 | 2 |\n| test_fork1 | 4 | 0 | 0 | 4 | 0 | 0 |" in text
    assert "Notices.test_fails_recorded: passed stock, failed plus\n" in text
    monkeypatch.setattr(suite, "built_from", lambda: "others")
    monkeypatch.setattr(sys, "argv", [*options, "test_fork1"])
    assert suite.main() == 0
    assert "1 of 2 modules: no differences" in capsys.readouterr().out

"""`gilscope bench aspects`: which parts a row has, what is said first, and that it runs."""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path

import pytest
from support import interpreters

from gilscope.benchmarks import aspects, harness
from gilscope.benchmarks.harness import Interpreter, Outcome, Results, Variant
from gilscope.errors import InstallationError, UsageError

LOADS = ("1 CPU", "2 CPU", *aspects.giltest.PAIRS, *aspects._LOADS)


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    aspects.add_arguments(parser)
    return parser.parse_args(words)


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> dict[str, Variant]:
    monkeypatch.setattr(
        harness, "interpreter", lambda path: Interpreter(path, "3.13.5", path == "plus")
    )
    return aspects.variants("stock", "plus")


def test_each_part_stands_by_itself(rows: dict[str, Variant]) -> None:
    def parts(name: str) -> tuple[str, str | None, bool]:
        variant = rows[name]
        return variant.policy, variant.condvar, variant.python_condition

    assert parts("patched, nothing on") == ("classic", "pthread", True)
    assert parts("+ GIL") == ("io-priority", "pthread", True)
    assert parts("+ native Condition") == ("classic", "pthread", False)
    assert parts("+ emulated condvar") == ("classic", "emulated", True)
    assert parts("+ futex condvar") == ("classic", "futex", True)
    for condvar in ("pthread", "emulated", "futex"):
        assert parts(f"all, {condvar} condvar") == ("io-priority", condvar, False)
    unpatched = [name for name, variant in rows.items() if variant.interpreter.path == "stock"]
    assert unpatched == [aspects.UNPATCHED, aspects.UNDER_RUN]
    assert len(set(rows.values())) == len(rows) == 10


def test_python_plus_has_the_condition_that_the_row_names(tmp_path: Path) -> None:
    program = tmp_path / "tell.py"
    program.write_text(
        "import sys, threading\n"
        "print(hasattr(threading.Condition.notify, '__code__'), sys.argv[1:])\n"
    )
    plus = harness.interpreter(str(interpreters.path(interpreters.PLUS)))
    for python_condition in (True, False):
        variant = Variant(plus, "classic", python_condition=python_condition)
        command = variant.command(str(program), "10")
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout == f"{python_condition} ['10']\n"


def test_the_first_sentence_has_both_intervals(rows: dict[str, Variant]) -> None:
    def outcomes(rate: float) -> list[Outcome]:
        return [{"rate": rate * n, "done": 4.0, "computed": 5.0} for n in range(1, 11)]

    faster = {"all, futex condvar": 6.0, aspects.UNDER_RUN: 3.0}
    results: Results = {
        (variant, load): outcomes(faster.get(name, 1.0) if load == aspects.BESIDE else 1.0)
        for name, variant in rows.items()
        for load in LOADS
    }
    report = aspects.tell(_told(), rows, results)
    assert report.lead == (
        "Beside a thread that computes, Python Plus answers 6.00 times (6.00 to 6.00) as many "
        "requests per second as the same Python unpatched, and alone 1.00 times (1.00 to 1.00); "
        "the unpatched one under gilscope run 3.00 times (3.00 to 3.00) and 1.00 times (1.00 to "
        "1.00)."
    )
    assert report.as_markdown().splitlines()[2] == report.lead
    assert report.unjudged().lead == ""
    assert [row.words[0] for row in report.rows] == [aspects.RATES] * 10 + [aspects.RATIOS] * 9


def _told() -> argparse.Namespace:
    args = options()
    args.interpreter, args.policy = [], []
    return args


def test_what_is_not_built_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with pytest.raises(InstallationError, match=r"gilscope interpreter build --variant stock$"):
        aspects.run(options())


def test_only_a_quick_run_compares_two_sources() -> None:
    stock, plus = interpreters.path("3.11"), interpreters.path(interpreters.PLUS)
    with pytest.raises(UsageError, match=r"one source: Python 3\.11\..* Python Plus 3\.13\."):
        aspects.run(options("--stock", str(stock), "--plus", str(plus)))


def test_a_quick_run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    kept = (aspects.UNPATCHED, aspects._all("futex"), aspects.UNDER_RUN)
    every = aspects.variants

    def some(stock: str, plus: str) -> dict[str, Variant]:
        return {name: v for name, v in every(stock, plus).items() if name in kept}

    monkeypatch.setattr(aspects, "variants", some)
    stock, plus = interpreters.path("3.13"), interpreters.path(interpreters.PLUS)
    words = ("--stock", str(stock), "--plus", str(plus), "--quick", "--json")
    assert aspects.run(options(*words)) == 0
    told = json.loads(capsys.readouterr().out)["rows"]
    assert {(row["what"], row["variant"]) for row in told} == {
        *((aspects.RATES, name) for name in kept),
        *((aspects.RATIOS, name) for name in kept[1:]),
    }
    for row in told[:3]:
        assert set(row["figures"]) == set(aspects.COLUMNS)
        assert all(row["figures"][name]["median"] > 0 for name in aspects._LOADS)

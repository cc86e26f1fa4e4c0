"""`gilscope bench echo --without RULE`: what is kept, what goes on, what a rule is judged by."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from gilscope.benchmarks import ablation, echo
from gilscope.benchmarks.ablation import Pair, State
from gilscope.benchmarks.harness import Interpreter
from gilscope.errors import UsageError

PYTHON = Interpreter("python3", "3.13.0", False)
ROW = "echo: p99"


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    echo.add_arguments(parser)
    return parser.parse_args(words)


def pairs(share: float, number: int) -> list[Pair]:
    return [{"echo": {"a second": 1.0, "p99": share}, "1 CPU": {"CPU work": 1.0}}] * number


def test_the_rules_are_those_of_the_probe() -> None:
    rules = ablation.rules()
    assert {rule.number for rule in rules.values()} == set(range(1, 10))
    assert rules["debt"].without == "cpu threads are owed nothing"


@pytest.mark.parametrize(
    ("share", "number", "verdict"),
    [
        (0.96, 24, "may go"),
        (1.5, 24, "may go"),
        (0.96, 23, "not known: 1 more"),
        (0.5, 24, "wins"),
        (0.5, 10, "wins"),
        (0.5, 9, "not known: 15 more"),
    ],
)
def test_a_rule_may_go_where_its_absence_costs_little_in_every_row(
    share: float, number: int, verdict: str
) -> None:
    found = ablation.judge(pairs(share, number))
    assert found.verdict == verdict
    if share < 1:
        assert found.row == ROW


def test_one_pair_that_says_otherwise_leaves_it_open() -> None:
    assert ablation.judge([*pairs(0.5, 9), *pairs(0.96, 1)]).verdict == "not known: 14 more"
    assert ablation.judge([*pairs(0.5, 9), *pairs(0.96, 15)]).verdict != "may go"


def test_what_is_decided_has_no_more_pairs(tmp_path: Path, made: list[tuple[str, int]]) -> None:
    words = ["--state", str(tmp_path / "state.json"), "--without", "debt", "--repeats", "24"]
    ablation.measure(arguments(*words), [PYTHON], {})
    assert len(made) == ablation.SURE


def test_what_spreads_too_much_shows_nothing() -> None:
    found = ablation.judge([*pairs(0.6, 1), *pairs(1.6, 1)] * 12)
    assert (found.row, found.verdict) == (ROW, "stays: not shown to win nothing")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Pairs are made up, and told here."""
    told: list[tuple[str, int]] = []

    def pair(_args: object, _python: object, rule: str, _loads: object, number: int) -> Pair:
        told.append((rule, number))
        return pairs(0.9, 1)[0]

    monkeypatch.setattr(ablation, "_pair", pair)
    return told


def test_pairs_are_made_in_turn_and_kept(tmp_path: Path, made: list[tuple[str, int]]) -> None:
    path = tmp_path / "state.json"
    words = ["--state", str(path), "--without", "debt", "--without", "lazy", "--repeats", "2"]
    report = ablation.measure(arguments(*words), [PYTHON], {})
    assert made == [("debt", 0), ("lazy", 0), ("debt", 1), ("lazy", 1)]
    assert [row.words[1:3] for row in report.rows] == [("debt", "2"), ("lazy", "2")]
    # The next run goes on where that one ended; so does one whose time is up, which adds nothing.
    ablation.measure(arguments(*words[:-1], "3"), [PYTHON], {})
    assert made[4:] == [("debt", 2), ("lazy", 2)]
    ablation.measure(arguments(*words[:-1], "9", "--stop-after", "0"), [PYTHON], {})
    assert len(made) == 6
    assert len(State(path).of(PYTHON, "debt")) == 3


def test_another_policy_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.json"
    state = State(path)
    state.of(PYTHON, "debt").extend(pairs(1, 3))
    state.write()
    assert len(State(path).of(PYTHON, "debt")) == 3
    monkeypatch.setattr(ablation, "_policy_key", lambda: "another")
    assert State(path).of(PYTHON, "debt") == []
    path.write_text(json.dumps({"pairs": []}))
    with pytest.raises(UsageError, match="no state of this benchmark"):
        State(path)


def test_what_is_no_rule_is_refused(tmp_path: Path) -> None:
    words = arguments("--without", "luck", "--state", str(tmp_path / "state.json"))
    with pytest.raises(UsageError, match="no rule luck; rules: classes, early, grace"):
        ablation.measure(words, [PYTHON], {})

"""`gilscope bench giltest`, and `bench echo --control`: their arithmetic, and that they run."""

from __future__ import annotations

import argparse
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from gilscope.benchmarks import control, echo, giltest
from gilscope.benchmarks.harness import Interpreter, Outcome, Results, Variant
from gilscope.benchmarks.programs import threads

STOCK = Interpreter("python3", "3.13.5", False)
PLUS = Interpreter("plus", "3.13.5", True)
CLASSIC, OURS = Variant(STOCK, "classic"), Variant(STOCK, "io-priority")


def test_python_plus_appears_with_every_condition_variable() -> None:
    found = giltest.rows([CLASSIC, OURS, Variant(PLUS, "classic"), Variant(PLUS, "io-priority")])
    assert [variant.name for variant in found] == [
        "classic", "io-priority",
        *(f"{policy}, {condvar}" for policy in ("classic", "io-priority")
          for condvar in ("pthread", "emulated", "futex")),
    ]  # fmt: skip


def test_efficiency_is_paired() -> None:
    def outcomes(*values: float) -> list[Outcome]:
        return [{"computed": value, "done": value} for value in values]

    results: Results = {(CLASSIC, name): outcomes(10, 20) for name in giltest.PAIRS}
    results[CLASSIC, "1 CPU"], results[CLASSIC, "2 CPU"] = outcomes(100, 50), outcomes(90, 45)
    told = giltest.figures(results, CLASSIC, 0.5)
    assert told["e"].values == [0.9, 0.9]
    assert told["Lock + 1 CPU"].values == [20, 40]


def test_condition_variables_are_compared_with_the_default_within_repeats() -> None:
    variants = giltest.rows([Variant(PLUS, "classic"), Variant(PLUS, "io-priority")])
    results: Results = {}
    for number, variant in enumerate(variants, 1):
        for name in (*giltest.COMPUTING, *giltest.PAIRS):
            results[variant, name] = [{"computed": 8 * drift, "done": number * drift}
                                      for drift in (1.0, 10.0)]  # fmt: skip
    told = {row.words[1]: row.figures for row in giltest.against_the_default(variants, results)}
    assert {name: figures["Lock"].values for name, figures in told.items()} == {
        "classic, emulated / pthread": [2, 2],
        "classic, futex / pthread": [3, 3],
        "io-priority, pthread / futex": [4 / 6, 4 / 6],
        "io-priority, emulated / futex": [5 / 6, 5 / 6],
    }
    assert told["classic, futex / pthread"]["e"].values == [1, 1]


def test_a_transaction_across_the_beginning_is_timed_and_one_across_the_end_not_counted() -> None:
    window = threads.Window(100, 200)
    times = iter([0, 0, 50, 150, 190, 230])  # enter, start, and the ends of four transactions
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "now", lambda: next(times))
        assert window.measure(lambda: None) == 4
    assert list(window.latency_ns) == [100, 40, 40]
    assert window.done == 2
    assert window.late is False


def test_a_window_that_passed_within_one_transaction_has_nothing_done() -> None:
    window = threads.Window(100, 200)
    times = iter([0, 0, 500])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "now", lambda: next(times))
        assert window.measure(lambda: None) == 1
    assert (window.done, list(window.latency_ns)) == (0, [500])


def test_a_quick_giltest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    giltest.add_arguments(parser)
    picture = tmp_path / "giltest.svg"
    words = ["--quick", "--json", "--chart", str(picture)]
    assert giltest.run(parser.parse_args(words)) == 0
    row, ours = json.loads(capsys.readouterr().out)["rows"]
    assert [row["variant"], ours["variant"]] == ["classic", "io-priority"]
    assert list(row["figures"]) == ["e", "Lock", "Lock + 1 CPU", "Condition", "Condition + 1 CPU"]
    assert row["figures"]["Lock"]["median"] > 0
    texts = [element.text for element in ET.parse(picture).iter() if element.tag.endswith("text")]
    assert {"giltest", "classic", "Condition + 1 CPU"} <= set(texts)


def outcome(p99_ns: float, computed: float) -> list[Outcome]:
    return [{"p99_ns": p99_ns, "computed": computed, "done": 9, "offered": 10}] * 10


def settings_at(interval: tuple[float, float], policy: tuple[float, float]) -> Results:
    """All intervals do the same; latency in ns and work of both."""
    results: Results = {(CLASSIC, f"{cpu} CPU"): outcome(0, 100) for cpu in control.CPU_THREADS}
    for load in control.loads():
        for interval_s in control.INTERVALS_S:
            results[CLASSIC, control._name(*load, interval_s)] = outcome(*interval)
        results[OURS, control._name(*load, control.INTERVALS_S[0])] = outcome(*policy)
    return results


def test_an_interval_beats_the_policy_only_in_both() -> None:
    assert control.beaten_by(settings_at((100, 90), (200, 95)), CLASSIC, OURS) == []
    assert control.beaten_by(settings_at((300, 99), (200, 95)), CLASSIC, OURS) == []
    assert control.beaten_by(settings_at((200, 95), (200, 95)), CLASSIC, OURS) == []
    found = control.beaten_by(settings_at((100, 99), (200, 95)), CLASSIC, OURS)
    assert len(found) == len(control.loads()) * len(control.INTERVALS_S)
    assert found[0] == "5000 µs at 100/s + 1 CPU"


def test_both_fronts_are_in_one_picture() -> None:
    parser = argparse.ArgumentParser()
    echo.add_arguments(parser)
    settings = [*((CLASSIC, interval) for interval in control.INTERVALS_S), (OURS, 0.005)]
    per_setting = len(settings)
    results = settings_at((2e6, 90), (2e5, 80))
    report = control.tell(parser.parse_args(["--control"]), settings, results)
    assert [true for _, true in report.claims] == [True]
    assert report.missed == 0
    shares = [row.figures["CPU work"].estimate.median for row in report.rows]
    slow, fast = shares[0], shares[-per_setting]
    assert (slow, fast) == (pytest.approx(0.9 * 0.4), 0.9)  # windows of 1 s and of 0.4 s
    picture = ET.fromstring(report.chart)
    titles = [element.text for element in picture.iter() if element.tag.endswith("title")]
    per_panel = len(control.INTERVALS_S) + 1
    assert len(titles) == len(control.loads()) * per_panel + 2  # and the legend
    assert titles.count("io-priority: io-priority") == len(control.loads())
    results = settings_at((1e5, 90), (2e5, 80))
    assert control.tell(parser.parse_args(["--control"]), settings, results).missed == 1


def test_a_quick_control(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    echo.add_arguments(parser)
    words = ["--control", "--quick", "--seconds", "0.05", "--policy", "classic", "--json"]
    assert echo.run(parser.parse_args(words)) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert len(rows) == len(control.loads()) * len(control.INTERVALS_S)
    assert all(row["figures"]["p99"]["median"] > 0 for row in rows)

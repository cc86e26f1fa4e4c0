"""`gilscope bench echo`: its arithmetic, and that it runs; not how fast this machine is."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from gilscope.benchmarks import echo
from gilscope.benchmarks.harness import Interpreter, Outcome, Results, Variant
from gilscope.errors import UsageError

PYTHON = Interpreter("python3", "3.13.5", False)
CLASSIC, OURS = Variant(PYTHON, "classic"), Variant(PYTHON, "io-priority")


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    echo.add_arguments(parser)
    return parser.parse_args(words)


def outcomes(done: float = 0, p99_ns: float | None = None, computed: float = 0) -> list[Outcome]:
    return [{"done": done, "offered": 200, "p99_ns": p99_ns, "computed": computed}] * 10


def row(name: str, results: Results, variant: Variant = OURS) -> dict[str, object]:
    (load,) = (load for load in echo.LOADS if load.name == name)
    return {
        column: (figure.estimate.median, figure.met)
        for column, figure in echo.figures(load, variant, CLASSIC, results, 0.5).items()
    }


def test_an_echo_row_is_judged_by_its_own_base_and_by_classics_latency() -> None:
    results = {
        (CLASSIC, "echo"): outcomes(6_000, 20_000),
        (CLASSIC, "echo + 1 CPU"): outcomes(50, 10_000_000, 1_000),
        (CLASSIC, "1 CPU"): outcomes(computed=1_000),
        (OURS, "echo"): outcomes(5_000, 20_000),
        (OURS, "echo + 1 CPU"): outcomes(2_500, 100_000, 440),
    }
    told = row("echo + 1 CPU", results)
    assert told["a second"] == (5_000, None)
    assert told["of alone"] == (0.5, True)
    assert told["p99 lower"] == (100, True)
    assert told["CPU work"] == (0.44, False)
    told = row("echo + 1 CPU", results, CLASSIC)
    assert told["of alone"] == (50 / 6_000, None)
    assert "p99 lower" not in told
    assert told["CPU work"] == (1, None)
    assert row("echo", results)["of classic's"] == (5 / 6, False)
    assert row("echo", results)["p99 lower"] == (1, True)


def test_an_open_loop_has_to_answer_all_that_was_due() -> None:
    results = {
        (CLASSIC, "500 requests/s + 2 CPU"): outcomes(15, 300_000_000, 1_000),
        (CLASSIC, "2 CPU"): outcomes(computed=1_000),
        (OURS, "500 requests/s + 2 CPU"): outcomes(200, 200_000, 960),
    }
    told = row("500 requests/s + 2 CPU", results)
    assert told["of alone"] == (1, True)
    assert told["p99 lower"] == (1_500, True)
    assert told["CPU work"] == (0.96, True)
    results[OURS, "500 requests/s + 2 CPU"] = outcomes(199, 200_000, 960)
    assert row("500 requests/s + 2 CPU", results)["of alone"] == (0.995, False)


def test_processes_are_compared_with_as_many_threads() -> None:
    results = {
        (CLASSIC, "echo"): outcomes(6_000, 20_000),
        (CLASSIC, "1 CPU"): outcomes(computed=1_000),
        (CLASSIC, "echo + 1 CPU"): outcomes(50, 10_000_000, 1_000),
        (CLASSIC, "echo + 1 process"): outcomes(6_000, 50_000, 900),
    }
    told = row("echo + 1 process", results, CLASSIC)
    assert told["p99 lower"] == (200, None)
    assert told["CPU work"] == (0.9, None)


def test_a_row_in_which_nothing_was_done_is_not_met() -> None:
    results = {
        (CLASSIC, "8 IO + 1 CPU"): outcomes(1_000, 1, 10),
        (CLASSIC, "1 CPU"): outcomes(computed=0),
        (OURS, "8 IO + 1 CPU"): outcomes(0, None, 0),
    }
    (load,) = (load for load in echo.LOADS if load.name == "8 IO + 1 CPU")
    told = echo.figures(load, OURS, CLASSIC, results, 0.5)
    assert told["CPU work"].met is False
    assert told["CPU work"].texts()[0] == "nothing done"


def test_chosen_loads_bring_what_they_are_compared_with() -> None:
    names = [load.name for load in echo.chosen(["echo + 2 p"])]
    assert names == ["echo", "echo + 2 CPU", "echo + 2 processes", "2 CPU"]
    assert "echo + 2 processes" not in [load.name for load in echo.chosen(["2 CPU"])]
    assert echo.chosen([]) == list(echo.LOADS)
    with pytest.raises(UsageError, match="no load has nonsense"):
        echo.chosen(["nonsense"])


def test_a_quick_run_measures_every_load(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "echo.md"
    seconds, idle = 0.05, True
    while idle and seconds < 2:  # the machine may be busy
        words = ("--quick", "--seconds", str(seconds), "--json", "--markdown", str(page))
        code = echo.run(arguments(*words))
        told = json.loads(capsys.readouterr().out)
        rows = {(row["load"], row["policy"]): row["figures"] for row in told["rows"]}
        idle = any(
            figures[column]["median"] == 0
            for figures in rows.values()
            for column in ("a second", "CPU work")
            if column in figures
        )
        seconds *= 4
    policies = ("classic", "io-priority")
    assert list(rows) == [(load.name, policy) for load in echo.LOADS for policy in policies]
    verdicts = [figure["met"] for figures in rows.values() for figure in figures.values()]
    assert code == int(False in verdicts)
    for policy in policies:
        for name in ("echo", "Lock pair", "Condition pair", "8 IO", "echo, pool of 10"):
            assert rows[name, policy]["a second"]["median"] > 0
            assert rows[name, policy]["p99"]["median"] > 0
        assert rows["8 IO + 1 CPU", policy]["CPU work"]["median"] is not None
        assert rows["echo + 2 processes", policy]["CPU work"]["median"] > 0
    assert "p99 lower" in rows["echo + 4 CPU", "io-priority"]
    assert "| echo + 4 CPU | classic |" in page.read_text()


@pytest.mark.parametrize("placement", ["one", "apart"])
def test_every_placement_can_be_measured(
    placement: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--quick", "--policy", "classic", "--only", "echo + 1", "--placement", placement)
    assert echo.run(arguments(*words)) == 0
    shown = capsys.readouterr().out
    assert "on one CPU" in shown
    assert "echo + 1 CPU" in shown

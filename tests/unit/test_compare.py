"""What changed between two sets of runs: the test, the rows, the answer, the page."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from support.stories import told

from gilscope.analysis import significance
from gilscope.analysis.compare import compare
from gilscope.analysis.measures import Key, Run, run_of
from gilscope.analysis.summary import summarise
from gilscope.analysis.windows import windows_of
from gilscope.cli import main
from gilscope.perfetto.writer import write_trace
from gilscope.trace.model import Trace
from gilscope.viewers.comparison import _named as named
from gilscope.viewers.comparison import render

S = 1_000_000_000
MS = 1_000_000

# A thread that comes back from IO waits for one that computes.
CONVOY = """
0             MainThread process.start
0             MainThread gil.acquire
1000          spin       thread.start
2000          MainThread gil.release
3000          spin       gil.acquire
10_000_000    echo       thread.start
10_000_000    echo       gil.wait io
{waited}      spin       gil.release
{waited}      echo       gil.acquire waited
{waited}      echo       gil.release
{waited}      spin       gil.acquire
1_000_000_000 spin       gil.release
1_000_000_000 echo       thread.end
1_000_000_000 MainThread process.end
"""


def story(waited_ns: int) -> Trace:
    return Trace.from_source(told(CONVOY.format(waited=10 * MS + waited_ns)))


def run(number: int = 0, **figures: float) -> Run:
    """A run of one second; `echo_waiting=0.5` are seconds of a thread's measure."""
    keys = {Key("run", "", "duration"): S}
    threads = set()
    for name, seconds in figures.items():
        thread, measure = name.split("_", 1)
        threads.add(thread)
        keys[Key("thread", thread, measure)] = round(seconds * S)
    return Run(f"{number}.pftrace", S, True, 0, number, keys, dict.fromkeys(threads, 1), {})


def runs(
    values: list[float], name: str = "echo_waiting", first: int = 0, **more: float
) -> list[Run]:
    return [run(2 * i + first, **{name: value}, **more) for i, value in enumerate(values)]


# ---- the test -----------------------------------------------------------------------------------


def test_few_runs_can_tell_nothing() -> None:
    told = [(a, b) for a in range(1, 6) for b in range(a, 6) if significance.can_tell(a, b)]
    assert told == [(2, 5), (3, 4), (3, 5), (4, 4), (4, 5), (5, 5)]


def test_no_difference_is_called_one_in_at_most_a_twentieth_of_trials() -> None:
    """Over all rows together, with tails as a busy machine has them."""
    dice = np.random.default_rng(7)
    trials, false = 400, 0
    for _ in range(trials):
        rows = 6
        sides = [dice.standard_t(3, size=(5, rows)) for _ in range(2)]
        false += bool(significance.test(*sides).changed.any())
    # 5 % of 400 are 20; 36 and more would happen once in 2,000 tries.
    assert false <= 35


def test_three_deviations_are_found() -> None:
    dice = np.random.default_rng(7)
    found = 0
    for _ in range(200):
        before, after = dice.normal(size=(6, 4)), dice.normal(size=(6, 4))
        after[:, 0] += 3
        found += bool(significance.test(before, after).changed[0])
    assert found >= 180


def test_equal_figures_never_differ_and_constant_ones_may() -> None:
    same = np.ones((5, 2))
    assert not significance.test(same, same).changed.any()
    moved = same.copy()
    moved[:, 1] = 2
    assert significance.test(same, moved).changed.tolist() == [False, True]


def test_many_runs_are_drawn_from() -> None:
    dice = np.random.default_rng(3)
    before, after = dice.normal(size=(12, 2)), dice.normal(size=(12, 2))
    after[:, 1] += 5
    test = significance.test(before, after)
    assert test.ways == significance.MOST_WAYS + 1
    assert test.changed.tolist() == [False, True]


# ---- rows and the answer ------------------------------------------------------------------------


def test_a_fix_is_told_first() -> None:
    before = runs([0.80, 0.82, 0.79, 0.81, 0.80], spin_held=0.97)
    after = runs([0.06, 0.07, 0.06, 0.065, 0.06], first=1, spin_held=0.97)
    result = compare(before, after)
    assert result["answer"] == "echo waits 92 % less for the GIL; nothing else changed."
    assert result["certain"] is True
    first = result["rows"][0]
    assert (first["name"], first["measure"], first["changed"]) == ("echo", "waiting", True)
    assert first["p"] <= 0.05
    assert first["change"] == pytest.approx(-0.925)
    assert result["notes"] == []


def test_nothing_changed_is_told_with_what_could_have_been_seen() -> None:
    values = [0.80, 0.82, 0.79, 0.81, 0.80]
    result = compare(runs(values), runs(values[::-1], first=1))
    assert result["answer"].startswith("Nothing changed that these runs could show (the least")
    assert all(row["changed"] is False and row["visible"] > 0 for row in result["rows"])


def test_one_run_a_side_cannot_be_sure() -> None:
    result = compare(runs([0.8]), runs([0.06], first=1))
    assert result["answer"] == (
        "echo waits 92 % less for the GIL. Whether that is more than noise cannot be known from so"
        " few runs."
    )
    assert result["certain"] is False
    assert {row["changed"] for row in result["rows"]} == {None}
    assert "--repeat" in result["notes"][0]


def test_what_is_small_on_both_sides_is_no_row() -> None:
    result = compare(runs([0.001] * 5), runs([0.009] * 5, first=1))
    assert [row["kind"] for row in result["rows"]] == ["run"]


def test_sides_that_were_recorded_one_after_the_other_are_told_of() -> None:
    before, after = runs([0.8] * 5), runs([0.1] * 5, first=100)
    assert "in turn" in compare(before, after)["notes"][0]


def test_threads_that_came_and_went() -> None:
    before = [run(2 * i, worker_waiting=0.5, worker_held=0.5) for i in range(5)]
    after = [run(2 * i + 1, process_held=0.5) for i in range(5)]
    answer = compare(before, after)["answer"]
    assert "worker is no longer there" in answer
    assert "process is new" in answer


def test_a_part_of_a_run_is_compared_by_the_second() -> None:
    half = Run("a", 2 * S, False, 0, 0, {Key("thread", "t", "held"): S}, {"t": 1}, {})
    whole = Run("b", 4 * S, False, 0, 1, {Key("thread", "t", "held"): 2 * S}, {"t": 1}, {})
    result = compare([half], [whole])
    assert result["basis"] == "second"
    assert [(row["name"], row["change"]) for row in result["rows"]] == [("t", 0.0)]


def test_the_figures_of_a_summary() -> None:
    made = run_of("x", summarise(story(500 * MS)), 5)
    assert made.figures[Key("thread", "echo", "waiting")] == 500 * MS
    assert made.figures[Key("thread", "spin", "held")] == pytest.approx(S, rel=1e-5)
    assert made.io_p99["echo"] == 500 * MS
    assert made.whole


def test_windows_add_up_to_the_run() -> None:
    trace = story(500 * MS)
    windows = windows_of(trace)
    length = trace.metadata.end_ns - trace.metadata.start_ns
    assert sum(windows["echo"]["waiting"]) * length / 10 == pytest.approx(500 * MS, rel=1e-6)
    assert windows["echo"]["waiting"][8] == 0
    assert windows["spin"]["held"][3] == pytest.approx(1)


# ---- the command --------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for side, waited in (("before", 600), ("after", 50)):
        (tmp_path / side).mkdir()
        for number in range(5):
            source = told(CONVOY.format(waited=(10 + waited + number) * MS))
            write_trace(source, tmp_path / side / f"{number}.pftrace")
    return tmp_path / "before", tmp_path / "after"


def test_the_command_compares_folders(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *map(str, folders)]) == 0
    page = capsys.readouterr().out
    assert page.startswith("echo waits 91 % less for the GIL (after IO p99 602 ms, then 52 ms)")
    assert main(["compare", "--json", *map(str, folders)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["schema"] == 1
    assert [Path(name).name for name in result["before"]] == [f"{n}.pftrace" for n in range(5)]


def test_the_command_shows_windows_of_single_traces(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = (str(folder / "0.pftrace") for folder in folders)
    assert main(["compare", one, other]) == 0
    page = capsys.readouterr().out
    assert "cannot be known" in page
    assert "in each tenth of the run" in page


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(tmp_path), str(tmp_path)]) == 2
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) in (1, 3)
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2
    assert "no .pftrace" in errors[0]


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_page_fits(width: int) -> None:
    result = compare(
        runs([0.80, 0.82, 0.79, 0.81, 0.80], spin_held=0.97),
        runs([0.06, 0.07, 0.06, 0.065, 0.06], first=1, spin_held=0.97),
    )
    file = io.StringIO()
    render(result, Console(file=file, width=width, highlight=False), 20)
    assert max(map(len, file.getvalue().splitlines())) <= width


def test_each_row_says_what_it_is_of() -> None:
    def row(kind: str, name: str, measure: str) -> dict[str, str]:
        return {"kind": kind, "name": name, "measure": measure}

    assert named(row("run", "", "duration")) == "the run takes"
    assert named(row("thread", "worker-*", "waiting")) == "worker-* waits for the GIL"
    assert named(row("line", "app.py:7 f", "waiting")) == "others wait for app.py:7 f"
    assert named(row("lock", "app.py:7 f", "waiting")) == "waits for the lock of app.py:7 f"


def test_a_wait_for_something_to_do_is_no_wait_for_a_lock() -> None:
    """As in the findings: an idle worker's wait is as long as there is nothing to do."""
    summary = summarise(story(500 * MS))
    (process,) = summary["processes"]
    waiter = process["threads"][-1]["id"]

    def row(waits_for: str, wait_ns: int) -> dict[str, Any]:
        blame = [{"waiter": waiter, "holder": None, "holder_site": None, "wait_ns": wait_ns}]
        return {
            "library": f"a {waits_for}",
            "waits_for": waits_for,
            "wait_ns": {"sum": wait_ns},
            "blame": blame,
        }

    process["locks"] = [row("lock", 300), row("event", 5_000)]
    process["conditions"] = [row("event", 7_000)]
    figures = run_of("a", summary, 0).figures
    assert {key: ns for key, ns in figures.items() if key.kind == "lock"} == {
        Key("lock", "a lock", "waiting"): 300
    }
    assert [ns for key, ns in figures.items() if key.measure == "lock_wait"] == [300]

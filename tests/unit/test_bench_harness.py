"""What benchmarks share: statistics on data whose law is known, verdicts, tables, workers."""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from pathlib import Path

import pytest

from gilscope.__main__ import itself
from gilscope.benchmarks import harness, windows
from gilscope.benchmarks.harness import Interpreter, Variant, Worker, estimate, median_interval
from gilscope.benchmarks.report import Figure, Report, Row, number, publish
from gilscope.errors import RecordingError, UsageError


@pytest.mark.parametrize("n", [6, 10, 11, 12, 51, 400])
def test_the_interval_holds_the_median_as_often_as_it_says(n: int) -> None:
    dice = random.Random(1)
    hits = 0
    for _ in range(2_000):
        low, high = median_interval([dice.expovariate(1) for _ in range(n)])
        hits += low <= 0.6931 <= high  # ln 2
    assert hits >= 1_880
    assert n < 51 or hits <= 1_940  # and with many values hardly more often


def test_an_estimate_of_one_value_is_that_value() -> None:
    assert estimate([3.0]) == harness.Estimate(3, 3, 3)


def test_a_bound_is_judged_by_the_lower_end() -> None:
    values = [0.39, *[0.5] * 9]
    assert Figure(values).met is None
    assert Figure(values, at_least=0.4).met is True  # one bad repeat of ten is not evidence
    assert Figure([0.39, 0.39, *[0.5] * 8], at_least=0.4).met is False
    assert Figure([], at_least=0.4).met is False
    assert Figure([1.4, *[1.2] * 9], at_most=1.3).met is True
    assert Figure([1.4, 1.4, *[1.2] * 8], at_most=1.3).met is False
    assert Figure([0.9, *[1.1] * 9], no_worse=1).met is True
    assert Figure([0.9] * 10, no_worse=1).met is False


def test_texts_of_figures() -> None:
    assert Figure([0.5] * 10, at_least=0.4).texts() == ["0.50", "(0.50 to 0.50)", "≥ 0.4: met"]
    assert Figure([1_500.0], "ns").texts() == ["1.5 µs"]
    assert Figure([], at_least=1).texts() == ["nothing done", "≥ 1: NOT MET"]
    assert [number(x) for x in (12_345.6, 12.34, 1.234, 0.0123, 0)] == [
        "12,346", "12.3", "1.23", "0.012", "0.00",
    ]  # fmt: skip


def test_a_report_as_page_and_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figure = Figure([2.0, 2.0, 2.0], at_least=3)
    report = Report("echo", "Title", "gilscope bench echo", "A machine", 3, ("what",), ("speed",))
    report.rows.append(Row(("this",), {"speed": figure}))
    report.notes.append("A note.")
    page = tmp_path / "page.md"
    report.chart = "<svg/>"
    options = argparse.Namespace(quick=False, json=True, markdown=page, chart=tmp_path / "page.svg")
    assert publish(report, options) == 1
    assert options.chart.read_text() == "<svg/>"
    told = json.loads(capsys.readouterr().out)
    assert told["rows"][0]["what"] == "this"
    assert told["rows"][0]["figures"]["speed"]["met"] is False
    text = page.read_text()
    assert text.startswith("# Title\n\n    gilscope bench echo\n\nA machine. Median of 3")
    assert (
        "A bound ≥ is judged by the interval's lower end, ≤ and no worse by its upper end." in text
    )
    assert "![Title](page.svg)" in text
    assert "| what | speed |\n|---|---|\n| this | 2.00 (2.00 to 2.00) ≥ 3: NOT MET |" in text
    options = argparse.Namespace(quick=False, json=False, markdown=None, chart=None)
    assert publish(report, options) == 1
    shown = capsys.readouterr().out
    assert "Title: this" in shown
    assert "A note." in shown


@pytest.mark.parametrize("columns", [40, 80, 132, 250, None])
def test_figures_are_legible_at_any_width(
    columns: int | None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a pipe a table has what it needs; on a terminal each figure has a line if need be."""
    if columns is not None:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", str(columns))
    names = ("stock", "native", "atomic", "native faster", "atomic faster", "native, of alone")
    report = Report("it", "Title", "command", "A machine", 3, ("what", "use", "policy"), names)
    figures = {name: Figure([1_500.0 + len(name)] * 9, "ns", at_least=1) for name in names}
    report.rows += [Row(("this", use, "io-priority"), figures) for use in ("notify", "wait(0)")]
    report.show()
    told = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
    lines = told.splitlines()
    assert "…" not in told
    assert max(map(len, lines)) <= (columns or 250)
    assert told.count("(1.5") == 2 * len(names)  # no interval is in two lines
    assert all(told.count(f"{name} ") for name in names)
    as_lines = any(line.startswith("  native faster     1.51 µs (1.51") for line in lines)
    assert as_lines == (columns in (40, 80, 132))
    assert columns is not None or not [line for line in lines if line.endswith(" ")]


def test_a_quick_run_judges_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report("echo", "Title", "gilscope bench echo", "A machine", 1, ("what",), ("speed",))
    bounds = ({"at_least": 3}, {"at_most": 1}, {"no_worse": 3})
    report.rows += [Row(("this",), {"speed": Figure([2.0], **bound)}) for bound in bounds]
    report.claims.append(("It is fast", False))
    options = argparse.Namespace(quick=True, json=False, markdown=None, chart=None)
    assert publish(report, options) == 0
    shown = capsys.readouterr().out
    assert shown.count("2.00") == 3
    assert "NOT MET" not in shown
    assert "A quick run judges nothing." in shown


def test_how_variants_are_run() -> None:
    stock = Interpreter("/opt/python3", "3.13.5", False)
    plus = Interpreter("/opt/plus", "3.13.5", True)
    script = str(harness.PROGRAMS / "threads.py")
    assert Variant(stock, "classic").command("threads.py") == ["/opt/python3", script]
    ours = Variant(stock, "io-priority", 20).command("threads.py")
    options = ["run", "--policy", "io-priority", "--grace", "20"]
    assert ours == [*itself(), *options, "--", "/opt/python3", script]
    assert Variant(plus, "io-priority", None, "futex").command("threads.py", "x") == [
        "/opt/plus", "-Xgilscope.policy=io-priority", "-Xgilscope.condvar=futex", script, "x",
    ]  # fmt: skip
    assert Variant(plus, "io-priority", 5, "futex").name == "io-priority, 5 µs, futex"


def test_policies_and_their_mistakes() -> None:
    assert harness.policy("io-priority") == ("io-priority", None)
    assert harness.policy("io-priority:7") == ("io-priority", 7)
    for wrong in ("fast", "io-priority:x", "io-priority:-1", "io-priority:"):
        with pytest.raises(UsageError, match="not a policy"):
            harness.policy(wrong)
    with pytest.raises(UsageError, match="no-such-python: not a program"):
        harness.interpreter("no-such-python")
    for wrong in ("false", "true", "/etc/passwd"):
        with pytest.raises(UsageError, match=rf"{wrong}:? (does not run as|not a pro)"):
            harness.interpreter(wrong)


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("--repeats=0", "--repeats needs"),
        ("--seconds=0", "--seconds needs"),
        ("--seconds=nan", "--seconds needs"),
        ("--seconds=1e9", "--seconds needs"),
        ("--markdown=missing/page.md", "missing: no such directory for page.md"),
        ("--chart=missing/page.svg", "missing: no such directory for page.svg"),
    ],
)
def test_options_are_checked_before_anything_is_measured(option: str, told: str) -> None:
    parser = argparse.ArgumentParser()
    windows.add_arguments(parser, 3)
    with pytest.raises(UsageError, match=told):
        harness.variants(parser.parse_args([option]))


def test_what_was_measured_is_told_where_its_page_cannot_be_written(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = Report("echo", "Title", "command", "A machine", 3, ("what",), ("speed",))
    options = argparse.Namespace(quick=False, json=True, markdown=Path("/dev/full"), chart=None)
    with pytest.raises(RecordingError, match="/dev/full: cannot be written: No space"):
        publish(report, options)
    assert json.loads(capsys.readouterr().out)["benchmark"] == "echo"


def test_a_worker_answers_or_is_reported() -> None:
    code = "import sys\nprint('hello', flush=True)\nfor line in sys.stdin: print(line, end='')"
    with Worker([sys.executable, "-uc", code]) as worker:
        assert worker.first == "hello"
        assert worker.ask("a") == "a"
        worker.tell("b\nc")
        assert [worker.answer(), worker.answer()] == ["b", "c"]
    with pytest.raises(RecordingError, match="ended early"):
        Worker([sys.executable, "-c", "pass"])

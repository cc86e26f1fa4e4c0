"""Bounds: how they are written, held against traces, taken from good runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import pytest
from support.stories import told
from test_compare import CONVOY, MS

from gilscope.analysis import bounds, margins
from gilscope.analysis.summary import summarise
from gilscope.cli import main
from gilscope.errors import UsageError
from gilscope.perfetto.writer import write_trace
from gilscope.trace.model import Trace


def summary(waited_ms: int = 500, **metadata: Any) -> dict[str, Any]:
    source = told(CONVOY.format(waited=(10 + waited_ms) * MS), **metadata)
    return summarise(Trace.from_source(source))


@pytest.fixture
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In a folder with a pyproject.toml of its own, so that none above it counts."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x" # kept\n')
    write_trace(told(CONVOY.format(waited=510 * MS)), tmp_path / "a.pftrace")
    return tmp_path / "a.pftrace"


@pytest.mark.parametrize(
    ("text", "metric", "thread", "most"),
    [
        ("waiting_share=0.1", "waiting_share", "", 0.1),
        ("waiting_share@echo=10%", "waiting_share", "echo", 0.1),
        ("io_wait_ns.p99@worker-*=5 ms", "io_wait_ns.p99", "worker-*", 5e6),
        ("wait_ns.max=1.5us", "wait_ns.max", "", 1500),
        ("wait_ns.max=2e3", "wait_ns.max", "", 2000),
        ("held_ns@a=b=2s", "held_ns", "a=b", 2e9),
        ("acquires=10_000", "acquires", "", 10_000),
    ],
)
def test_bounds_are_read(text: str, metric: str, thread: str, most: float) -> None:
    assert bounds.parsed(text) == bounds.Bound(metric, thread, most)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("waiting_share", "METRIC[@THREAD]=VALUE"),
        ("waiting_shar=1", "did you mean waiting_share?"),
        ("nonsense=1", "no figure of a thread"),
        ("waiting_share=much", "no value"),
        ("waiting_share=5ms", "no share"),
        ("acquires=10%", "no count"),
        ("wait_ns.count=5ms", "no count"),
        ("wait_ns.p99=5%", "no time"),
        ("wait_ns=5ms", "no figure of a thread"),
        ("waiting_share=nan", "no value"),
        ("waiting_share=-1", "no value"),
    ],
)
def test_bounds_that_say_nothing_are_refused(text: str, part: str) -> None:
    with pytest.raises(UsageError) as error:
        bounds.parsed(text)
    assert part in str(error.value)


def test_every_metric_is_a_field_of_a_thread() -> None:
    thread = summary()["processes"][0]["threads"][0]
    for metric in bounds.METRICS:
        field, _, part = metric.partition(".")
        if field != "lock_wait_ns":  # where locks are told
            assert not part or part in thread[field], metric
            assert field in thread


def verdicts(summary: dict[str, Any], *texts: str) -> dict[tuple[str, str], str | None]:
    found = bounds.held_against([bounds.parsed(text) for text in texts], summary, "a")
    return {(verdict.bound.name, verdict.thread): verdict.why for verdict in found}


def test_a_bound_is_kept_or_broken() -> None:
    found = verdicts(summary(), "waiting_share@echo=0.5", "waiting_share@spin=0.5")
    assert found["waiting_share@spin", "spin"] is None
    why = found["waiting_share@echo", "echo"]
    assert why is not None
    assert why.startswith("waiting_share is 5")
    assert why.endswith("more than 50 %")


def test_without_a_thread_it_is_of_each() -> None:
    found = verdicts(summary(), "io_wait_ns.p99=600ms")
    assert {thread for _, thread in found} == {"MainThread", "spin", "echo"}
    assert set(found.values()) == {None}  # of no waits none was long


def test_what_is_unknown_is_broken() -> None:
    told = summary()
    echo = next(t for t in told["processes"][0]["threads"] if t["name"] == "echo")
    echo["waiting_share"] = None
    assert "not known" in str(verdicts(told, "waiting_share@echo=1")["waiting_share@echo", "echo"])
    echo["waiting_share"], echo["unknown_ns"] = 0.1, echo["life_ns"] // 2
    why = verdicts(told, "waiting_share@echo=1")["waiting_share@echo", "echo"]
    assert "50 % of its life is unknown" in str(why)
    assert verdicts(told, "unknown_ns@echo=10s")["unknown_ns@echo", "echo"] is None
    lost = verdicts(summary(lost_events=7), "waiting_share@echo=1")
    assert "7 events were lost" in str(lost["waiting_share@echo", "echo"])


def test_a_bound_of_no_thread_is_a_mistake() -> None:
    with pytest.raises(UsageError, match="no thread of a is called so; there: MainThread"):
        verdicts(summary(), "waiting_share@nobody=1")


def test_the_command(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(trace), "--max", "waiting_share@echo=0.9"]) == 0
    assert capsys.readouterr().out == ""
    junit = trace.with_name("junit.xml")
    arguments = ["check", str(trace), "--max", "waiting_share@echo=0.1", "wait_ns.max=9s"]
    assert main([*arguments, "--junit", str(junit)]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert "echo" in line
    assert "more than 10 %" in line
    suite = Xml.parse(junit).getroot()[0]
    assert (suite.get("tests"), suite.get("failures")) == ("4", "1")
    assert [case.get("name") for case in suite if len(case)] == ["echo: waiting_share@echo=10 %"]
    assert main(["check", str(trace), "--max", "waiting_share@nobody=1"]) == 2
    assert main(["check", str(trace)]) == 2
    assert main(["check", str(trace.parent / "none.pftrace"), "--max", "acquires=1"]) in (1, 3)


def test_bounds_of_the_project(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = trace.with_name("pyproject.toml")
    file.write_text('[tool.gilscope.check]\nmax = { "waiting_share@echo" = "10 %" }\n')
    assert main(["check", str(trace)]) == 1
    assert main(["check", str(trace), "--max", "waiting_share@echo=0.9"]) == 0  # the closer one
    file.write_text("[tool.gilscope.check]\nmax = 3\n")
    assert main(["check", str(trace)]) == 2
    file.write_text("[tool.gilscope\n")
    assert main(["check", str(trace)]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_good_runs_give_bounds(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_trace(told(CONVOY.format(waited=530 * MS)), trace.with_name("b.pftrace"))
    assert main(["check", "--update", str(trace.parent)]) == 0
    assert "waiting_share@echo" in capsys.readouterr().out
    text = trace.with_name("pyproject.toml").read_text()
    assert text.startswith('[project]\nname = "x" # kept\n')
    assert main(["check", str(trace.parent)]) == 0
    worse = trace.with_name("worse")
    worse.mkdir()
    write_trace(told(CONVOY.format(waited=900 * MS)), worse / "c.pftrace")
    assert main(["check", str(worse)]) == 1
    assert main(["check", "--update", str(trace), "--max", "io_wait_ns.p99@echo"]) == 0
    assert '"io_wait_ns.p99@echo" = ' in trace.with_name("pyproject.toml").read_text()


def test_a_margin_is_above_the_worst_good_run() -> None:
    good = [summary(ms) for ms in (500, 520, 540)]
    (bound,) = margins.bounds(good, ["waiting_ns@echo"])
    assert bound.most == pytest.approx(1.25 * 540 * MS, rel=0.05)
    with pytest.raises(UsageError, match="no such thread"):
        margins.bounds(good, ["waiting_ns@nobody"])


def test_junit_holds_hostile_names(trace: Path) -> None:
    source = told(CONVOY.replace("echo ", "\\x1b[31m<&>\\x00\\u202e ").format(waited=510 * MS))
    write_trace(source, trace)
    junit = trace.with_name("junit.xml")
    assert main(["check", str(trace), "--max", "waiting_share=0.1", "--junit", str(junit)]) == 1
    assert "\x1b" not in junit.read_text()
    Xml.parse(junit)


def test_waiting_share_is_in_the_json(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", "--json", str(trace)]) == 0
    threads = json.loads(capsys.readouterr().out)["processes"][0]["threads"]
    shares = {thread["name"]: thread["waiting_share"] for thread in threads}
    assert shares["echo"] == pytest.approx(0.5, abs=0.02)
    assert shares["spin"] == 0

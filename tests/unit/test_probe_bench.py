"""`gilscope bench probe`: what it tells, not how fast this machine is."""

from __future__ import annotations

import argparse
import json
import os

import pytest

from gilscope.benchmarks import probe
from gilscope.errors import UsageError


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    probe.add_arguments(parser)
    return parser.parse_args(words)


def test_every_figure_with_its_spread_and_its_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    code = probe.run(arguments("--rounds", "3", "--json"))
    told = json.loads(capsys.readouterr().out)
    figures = told["figures"]
    assert "CPUs" in told["machine"]
    places = min(2, len(os.sched_getaffinity(0)))  # on one processor, on two
    # To recording, to counters alone, to the stacks in a recording.
    echoes = [3] * places + [1, 1] * places + [1, 1] * places
    write = [None, 12, 2, None, 15]
    entering = [50, 50]
    expected = [20, None, 1.6, 2_000, *write, *echoes, *entering, None, 100, None]
    assert [figure["target"] for figure in figures] == expected
    for figure in figures:
        assert figure["low"] <= figure["median"] <= figure["high"]
        assert (figure["met"] is None) == (figure["target"] is None)
    event, floor, ratio = (figure["median"] for figure in figures[:3])
    assert min(event, floor, ratio) > 0
    assert code == int(any(figure["met"] is False for figure in figures))


def test_verdicts() -> None:
    assert probe.Figure("", "", 5, 1, 9).met is None
    assert probe.Figure("", "", 5, 1, 9, target=5).met is True
    assert probe.Figure("", "", 5, 1, 9, target=4).met is False
    assert probe.Figure("", "", 5, 1, 9, target=4, judged=3).met is True


def test_mistakes_in_use() -> None:
    with pytest.raises(UsageError, match="at least 2"):
        probe.run(arguments("--rounds", "1"))
    with pytest.raises(UsageError, match="no-such-python: not a program"):
        probe.run(arguments("--interpreter", "no-such-python"))

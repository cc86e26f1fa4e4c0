"""`gilscope bench scale`: its sizes, its bends, and that it runs."""

from __future__ import annotations

import argparse
import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from gilscope.benchmarks import scale
from gilscope.benchmarks.chart import Curve
from gilscope.errors import RecordingError, UsageError


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    scale.add_arguments(parser)
    return parser.parse_args(words)


def test_sizes_are_chosen_by_kind() -> None:
    turns = list(scale._turns(options("--threads", "8,2,2", "--processes", "0", "--large")))
    events = [("events", int(number)) for number in scale.LARGE["events"].split(",")]
    assert turns == [("threads", 2), ("threads", 8), *events]
    with pytest.raises(UsageError, match="--events takes numbers"):
        list(scale._turns(options("--events", "many")))


def test_what_grows_faster_than_its_size_is_a_bend() -> None:
    straight = Curve("trace", [(1, 10), (2, 20), (8, 80)], " MiB")
    bent = Curve("memory", [(100, 5), (200, 9), (400, 60)], " MiB")
    (told,) = scale._bends([straight, bent])
    assert told.startswith("Bend: memory, grew 6.7 times from 200 to 400")


def test_what_does_not_run_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    missing = tmp_path / "not" / "there.md"
    with pytest.raises(UsageError, match="no such directory"):
        scale.run(options("--markdown", str(missing)))
    with pytest.raises(RecordingError, match="2 spoons do not run here"):
        scale.measure(sys.executable, "spoons", 2)
    assert capsys.readouterr().out == ""


def test_a_small_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    page, picture = tmp_path / "scale.md", tmp_path / "scale.svg"
    sizes = ("--threads", "2,20", "--processes", "2,3", "--events", "1000,10000")
    files = ("--markdown", str(page), "--chart", str(picture))
    assert scale.run(options(*sizes, *files, "--json")) == 0
    told = json.loads(capsys.readouterr().out)
    rows = {(row["what"], row["how many"]): row["figures"] for row in told["rows"]}
    assert len(rows) == 6
    assert all(claim["met"] for claim in told["claims"])
    for figures in rows.values():
        assert all(figures[name]["median"] > 0 for name in scale._CURVES)
    for kind, size in (("threads", "20"), ("processes", "3")):  # a turn is a release and an acquire
        assert rows[kind, size]["events"]["median"] >= 2 * scale.TURNS * int(size)
    assert rows["events", "10,000"]["events"]["median"] >= 10_000
    assert "One run of each" in page.read_text(encoding="utf-8")
    titles = [element.text for element in ET.parse(picture).iter() if element.get("font-weight")]
    assert titles[1:3] == ["memory, by threads", "rings, by threads"]
    assert len(titles) == 13

"""Garbage collections in a story: there and back, whose hold they were, what cannot be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.stories import MemorySource, told

from gilscope.analysis.summary import summarise
from gilscope.errors import ImpossibleStory
from gilscope.perfetto.reader import open_trace
from gilscope.perfetto.writer import write_trace
from gilscope.trace.model import Trace

# b waits 90 ms for a, which collects for most of the time after b has asked; c's hold is its own.
SERVER = """
    0 a process.start
    0 a gil.acquire
    400000000 b gil.wait io arg=1
    405000000 b gil.request arg=1
    489999999 a hold.gc arg=3
    489999999 a hold.gc_least arg=60000000
    489999999 a hold.gc_most arg=80000000
    489999999 a stack arg=1
    490000000 a gil.release arg=1
    490000000 b gil.acquire waited
    495000000 b stack arg=2
    495000000 b gil.release
    600000000 b gil.acquire
    649999999 b hold.gc arg=1
    649999999 b hold.gc_least arg=5000000
    650000000 b gil.release
    700000000 a process.end
"""


def source_of(text: str, how: str | None = "counted") -> MemorySource:
    source = told(text)
    (process,) = source.metadata.processes
    source.metadata = replace(source.metadata, processes=(replace(process, collections=how),))
    return source


def summary_of(source: MemorySource) -> dict[str, Any]:
    return summarise(Trace.from_source(source))


def test_they_come_back_from_a_trace(tmp_path: Path) -> None:
    source = source_of(SERVER)
    path = tmp_path / "t.pftrace"
    write_trace(source, path)
    again = open_trace(path)
    assert again.metadata.processes[0].collections == "counted"
    np.testing.assert_array_equal(np.concatenate([*again.batches()]), source.events)


def test_number_and_bounds_are_added_up() -> None:
    (process,) = summary_of(source_of(SERVER))["processes"]
    assert process["gc"] == {
        "collections": 4,
        "held_ns": None,
        "held_least_ns": 65_000_000,
        "held_most_ns": 85_000_000,
    }
    exact = SERVER.replace("    489999999 a hold.gc_most arg=80000000\n", "")
    (process,) = summary_of(source_of(exact, "told"))["processes"]
    assert process["gc"]["held_ns"] == 65_000_000
    (process,) = summary_of(source_of(SERVER, None))["processes"]
    assert process["gc"] is None


def test_a_hold_is_a_collection_by_what_came_after_the_request() -> None:
    (process,) = summary_of(source_of(SERVER))["processes"]
    (row,) = (row for row in process["blame"] if row["reason"] == "held")
    assert row["holder_site"]["gc"]
    assert row["wait_ns"] == 90_000_000
    less = SERVER.replace("gc_least arg=60000000", "gc_least arg=40000000")
    (process,) = summary_of(source_of(less))["processes"]
    (row,) = (row for row in process["blame"] if row["reason"] == "held")
    assert not row["holder_site"]["gc"]


def test_a_short_collection_is_not_what_was_waited_for() -> None:
    """Python code lets go at once when it is asked: by chance that was a collection."""
    short = SERVER.replace("405000000 b gil.request", "488000000 b gil.request")
    for least, told_as in ((2_500_000, True), (2_499_999, False)):
        text = short.replace("gc_least arg=60000000", f"gc_least arg={least}")
        (process,) = summary_of(source_of(text))["processes"]
        (row,) = (row for row in process["blame"] if row["reason"] == "held")
        assert row["holder_site"]["gc"] == told_as


def test_the_finding_names_line_number_and_length() -> None:
    (found,) = (f for f in summary_of(source_of(SERVER))["findings"] if f["kind"] == "gc")
    assert "`b` waited 90 ms" in found["text"]
    assert "`a` collected garbage in main.py:17 serve" in found["text"]
    assert "4 collections took at least 65 ms in all, up to 60 ms in one hold." in found["text"]


@pytest.mark.parametrize(
    "wrong",
    [
        "5 a hold.gc_least arg=3",  # of no collections
        "5 b hold.gc arg=1",  # by a thread that does not hold
        "5 a hold.gc arg=1\n6 a hold.gc_least arg=9\n7 a hold.gc_most arg=8",
        "5 a hold.gc arg=99999999999",
    ],
)
def test_what_cannot_be_is_refused(wrong: str) -> None:
    begin = "0 a process.start\n0 a gil.acquire\n1 b gil.wait io arg=1\n"
    with pytest.raises(ImpossibleStory):
        Trace.from_source(told(begin + wrong + "\n9 a process.end"))

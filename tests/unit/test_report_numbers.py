"""The numbers behind a report: what its page draws adds up to what the summary says."""

from __future__ import annotations

import base64
import re
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from support.stories import MemorySource, possible_stories, rolled_story

from gilscope.analysis.summary import summarise
from gilscope.safe_text import escaped
from gilscope.trace.model import Trace
from gilscope.viewers.report import figures, timeline
from gilscope.viewers.report.flame import Flame
from gilscope.viewers.report.groups import shown_groups
from gilscope.viewers.report.html import code, data, table, tag, text
from gilscope.viewers.report.objects import objects
from gilscope.viewers.report.timeline import SLOTS, STATES, Timeline


def expect_adds_up(source: MemorySource) -> None:
    trace = Trace.from_source(source)
    summary = summarise(trace)
    groups = shown_groups(summary)
    threads = {t["id"]: t for p in summary["processes"] for t in p["threads"]}
    assert len({group.label for group in groups.table}) == len(groups.table)
    assert sum(len(group.threads) for group in groups.table) + groups.quiet == len(threads)
    for index, group in enumerate(groups.table):
        assert {int(groups.of_thread[t["id"]]) for t in group.threads} == {index}
        assert sum(group.parts().values()) == group.row["life_ns"]

    waiting = sum(thread["waiting_ns"] for thread in threads.values())
    assert sum(row["wait_ns"] for row in figures.blame_of(summary, groups)) == waiting
    assert sum(row["waits"] for row in figures.bars_of(trace, groups)) == len(trace.waits)
    for bar in figures.bars_of(trace, groups):
        assert bar["from_ns"] < bar["to_ns"]
    assert sum(row["sum"] for row in figures.waits_of(groups)) == waiting
    held = sum(thread["held_ns"] for thread in threads.values())
    flame = Flame(trace, groups)
    assert [flame.trees[name]["v"] for name in ("held", "waiting")] == [held, waiting]
    assert sum(line[1] for line in flame.lines) <= held

    drawn = Timeline(trace, groups)
    for state, field in enumerate(("held_ns", "waiting_ns")):
        for lane in range(len(drawn.lanes)):
            members = [t for t in threads.values() if groups.of_thread[t["id"]] == lane]
            if lane == timeline.LANES:
                members = [t for t in threads.values() if groups.of_thread[t["id"]] >= lane]
            expected = sum(t[field] for t in members)
            spent = drawn.share[state, lane] * max(drawn.threads[lane], 1)
            edges = np.diff(np.arange(SLOTS + 1) * drawn.span_ns // SLOTS)
            assert (spent * np.maximum(edges, 1)).sum() == pytest.approx(expected)
    expect_decodes(trace, drawn)


def expect_decodes(trace: Trace, drawn: Timeline) -> None:
    """What the page's script reads is all the time, and the kept intervals are the trace's."""
    packed = drawn.json()
    times = np.frombuffer(base64.b64decode(packed["times"]), "<u4").astype(np.int64)
    rest = np.frombuffer(base64.b64decode(packed["rest"]), "<u2").reshape(2, -1, SLOTS)
    unit, lanes = packed["unit_ns"], len(packed["lanes"])
    kept: Counter[tuple[str, int, int]] = Counter()
    first = 0
    for number, count in enumerate(packed["counts"]):
        begins = times[first : first + count] * unit
        lengths = times[first + count : first + 2 * count] * unit
        first += 2 * count
        state, lane = divmod(number, lanes)
        for begin, length in zip(begins.tolist(), lengths.tolist(), strict=True):
            kept[STATES[state], begin, length] += 1
        width = packed["span_ns"] / SLOTS
        spent = lengths.sum() + rest[state, lane].sum() / 65535 * width * drawn.threads[lane]
        whole = drawn.share[state, lane].sum() * width * drawn.threads[lane]
        assert spent == pytest.approx(whole, rel=0.02, abs=2 * (SLOTS + count * unit))
    assert first == len(times)
    if unit == 1:
        ours: Counter[tuple[str, int, int]] = Counter()
        for state, rows in zip(STATES, (trace.holds, trace.waits), strict=True):
            for begin, end in zip(rows["start_ns"].tolist(), rows["end_ns"].tolist(), strict=True):
                if end - begin >= drawn.kept_from_ns:
                    ours[state, begin - trace.metadata.start_ns, end - begin] += 1
        assert kept == ours


@settings(deadline=None, max_examples=30)
@given(possible_stories())
def test_what_is_drawn_adds_up(source: MemorySource) -> None:
    expect_adds_up(source)


def test_what_is_drawn_of_many_adds_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline, "EXACT", 200)
    monkeypatch.setattr(timeline, "LANES", 3)
    source = rolled_story(3, 3_000, ((6, 1), (3, 2)))
    trace = Trace.from_source(source)
    drawn = Timeline(trace, shown_groups(summarise(trace)))
    assert 0 < sum(drawn.json()["counts"]) <= 200
    assert drawn.kept_from_ns > 1
    expect_adds_up(source)


class Reader(HTMLParser):
    """What a browser would make of it: tags, and all text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.told = ""
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.told += data


HOSTILE = "</script><img src=x onerror=alert(1)>\"' onload=1\x1b[2J\u202e&amp;<!--`b`"


def test_text_cannot_leave_its_place() -> None:
    made = (
        tag("p", HOSTILE, title=HOSTILE, class_="x"),
        table(HOSTILE, (HOSTILE, "n"), [(HOSTILE, HOSTILE)]),
        tag("p", code(f"a `{HOSTILE.replace('`', '')}` b")),
        data({HOSTILE: [HOSTILE]}, "data-x"),
    )
    reader = Reader()
    reader.feed("".join(made))
    expected = {"p": 2, "div": 1, "table": 1, "caption": 1, "thead": 1, "tbody": 1, "tr": 2}
    expected |= {"th": 3, "td": 1, "code": 1, "script": 1}
    assert dict(reader.tags) == expected
    assert escaped(HOSTILE) in reader.told
    names = {"title", "class", "role", "aria-label", "tabindex", "scope", "type", "id"}
    assert {name for name, _ in reader.attributes} == names
    assert ("title", escaped(HOSTILE)) in reader.attributes
    assert text(text("<b>")) == "&lt;b&gt;"
    assert not re.search("<(?!/?script)", made[3])


def test_what_has_no_name_is_not_called_none() -> None:
    """Locks that others had stand first, and processes without a collection in one sentence."""

    def row(library: str | None, waits_for: str, waited_ns: int) -> dict[str, object]:
        wait = dict.fromkeys(("sum", "p50", "p99", "max"), waited_ns)
        return {
            "object": None,
            "library": library,
            "kind": "sem-lock",
            "waits_for": waits_for,
            "waits": 1,
            "wait_ns": wait,
            "blame": [],
        }

    summary = summarise(Trace.from_source(rolled_story(3, 50)))
    process = summary["processes"][0]
    process["locks"] = [row("queue.Queue.get", "event", 9_000_000), row(None, "lock", 5_000_000)]
    process["gc"] = {"collections": 0, "held_ns": 0}
    page = str(objects({**summary, "processes": [process]}))
    assert "None" not in page
    assert page.index("not known") < page.index("queue.Queue.get")
    assert "One process had none." in page

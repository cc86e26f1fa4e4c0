"""Details of long slices: for people. Readers pass them by, in C, and take nothing else for one."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TrackEvent
from support.perfetto_engine import bad_stats, engine, query
from support.stories import MemorySource, played

from gilscope.benchmarks.synthetic import SyntheticSource
from gilscope.errors import TraceError
from gilscope.perfetto import details, layout, reader
from gilscope.perfetto.reader import open_trace
from gilscope.perfetto.writer import write_trace
from gilscope.trace.text import lines

BEGIN, END, INSTANT = (
    TrackEvent.TYPE_SLICE_BEGIN,
    TrackEvent.TYPE_SLICE_END,
    TrackEvent.TYPE_INSTANT,
)
OF_DETAILS = 32  # GS_ANNOTATION_OF_DETAILS


@pytest.fixture
def convoy(tmp_path: Path) -> Path:
    """A trace in which one event in three ends a wait of a millisecond or more."""
    path = tmp_path / "convoy.pftrace"
    write_trace(SyntheticSource(3000), path)
    return path


@pytest.fixture
def with_stacks(tmp_path: Path) -> Path:
    path = tmp_path / "stacks.pftrace"
    write_trace(slow_story(), path)
    return path


def slow_story() -> MemorySource:
    """With stacks, gaps and several GILs; a step takes up to 3 ms."""
    dice = random.Random(7)
    steps = (0, 1, 50, 5_000, 300_000, 3_000_000)
    choices = [
        (dice.randrange(7), dice.randrange(8), dice.randrange(840), dice.choice(steps))
        for _ in range(3_000)
    ]
    return played(((4, 2), (3, 1)), choices, 50).source()


def read(path: Path) -> str:
    return "".join(lines(open_trace(path)))


def is_of_detail(packet: Any) -> bool:
    main = packet.trusted_packet_sequence_id == layout.MAIN_SEQUENCE
    return packet.HasField("track_event") and not packet.sequence_flags and not main


def changed(path: Path, change: Callable[[Any], None], wanted: Callable[[Any], bool]) -> Path:
    """A copy in which the first packet of a detail that is `wanted` is changed."""
    return edited(path, change, lambda packet: is_of_detail(packet) and wanted(packet))


def begins(packet: Any) -> bool:
    return bool(packet.track_event.type == BEGIN)


@pytest.mark.parametrize("name", ["convoy", "with_stacks"])
def test_no_detail_goes_through_python(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    path: Path = request.getfixturevalue(name)
    packets = Trace.FromString(path.read_bytes()).packet
    hot = sum(packet.sequence_flags == layout.NEEDS_STATE for packet in packets)
    of_details = sum(is_of_detail(packet) for packet in packets)
    assert of_details > 200
    rare = []
    read_rare = reader._Scan._rare

    def counted(scan: reader._Scan, body: bytes, offset: int) -> None:
        rare.append(body)
        read_rare(scan, body, offset)

    trace = open_trace(path)
    monkeypatch.setattr(reader._Scan, "_rare", counted)
    for _ in trace.batches():
        pass
    assert len(rare) == len(packets) - hot - of_details


def test_what_a_detail_says_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    parts = details.Details.parts

    def counted(self: details.Details, detail: Any) -> Any:
        fields = ("thread", "of_wait", "yielded", "holder", "some")
        made.append(tuple(getattr(detail, name) for name in fields))
        return parts(self, detail)

    monkeypatch.setattr(details.Details, "parts", counted)
    # Less than a buffer of packets: at its end a detail is asked for again.
    write_trace(SyntheticSource(12_000, n_io=40, n_cpu=5), tmp_path / "convoy.pftrace")
    assert 100 < len(set(made)) <= len(made) <= 1.02 * len(set(made))  # few fall on one place


@pytest.mark.parametrize("name", ["convoy", "with_stacks"])
def test_what_a_detail_says_is_free(name: str, request: pytest.FixtureRequest) -> None:
    def spell_out(packet: Any) -> None:
        packet.track_event.name = "at or before \u00e4rger.py:7 \N{SNOWMAN}" * 20
        packet.track_event.debug_annotations.add(name="more", int_value=7)

    def number(packet: Any) -> None:
        packet.track_event.ClearField("name")
        packet.track_event.name_iid = 1 << 20
        packet.interned_data.event_names.add(iid=1 << 20, name="x" * 1000)

    path: Path = request.getfixturevalue(name)
    for change in (spell_out, number):
        assert read(changed(path, change, begins)) == read(path)


def is_told_end(packet: Any) -> bool:
    """Of a hold or a wait, with what its detail says."""
    event = packet.track_event
    return bool(
        packet.sequence_flags == layout.NEEDS_STATE
        and event.type == END
        and any(a.name_iid >= OF_DETAILS for a in event.debug_annotations)
    )


def edited(path: Path, change: Callable[[Any], None], wanted: Callable[[Any], bool]) -> Path:
    """A copy in which the first packet that is `wanted` is changed."""
    trace = Trace.FromString(path.read_bytes())
    change(next(p for p in trace.packet if wanted(p)))
    copy = path.with_name("changed.pftrace")
    copy.write_bytes(trace.SerializeToString())
    return copy


@pytest.mark.parametrize("name", ["convoy", "with_stacks"])
def test_the_end_of_a_slice_may_tell_more_or_nothing(
    name: str, request: pytest.FixtureRequest
) -> None:
    def more(packet: Any) -> None:
        packet.track_event.debug_annotations.add(name="more", string_value="x" * 1000)

    def nothing(packet: Any) -> None:
        packet.track_event.ClearField("debug_annotations")

    path: Path = request.getfixturevalue(name)
    for change in (more, nothing):
        assert read(edited(path, change, is_told_end)) == read(path)


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda p: p.track_event.debug_annotations.add(name="more", int_value=7), None),
        (lambda p: setattr(p.track_event, "type", INSTANT), is_told_end),
        (lambda p: setattr(p.track_event, "type", BEGIN), is_told_end),
        (lambda p: p.track_event.category_iids.append(1), is_told_end),
        (lambda p: setattr(p.track_event, "name_iid", 1), is_told_end),
        (lambda p: p.ClearField("sequence_flags"), is_told_end),
        (lambda p: setattr(p, "sequence_flags", 3), is_told_end),
        (lambda p: setattr(p, "trusted_packet_sequence_id", 2), is_told_end),
        (lambda p: p.track_event.flow_ids.append(7), is_told_end),
    ],
    ids=[
        *("without a detail", "instant", "begin", "category", "name", "no state", "cleared"),
        *("another's", "flow"),
    ],
)
def test_what_is_no_end_of_a_detailed_slice_is_refused(
    change: Callable[[Any], None], wanted: Callable[[Any], bool] | None, convoy: Path
) -> None:
    def plain_end(packet: Any) -> bool:
        return (
            packet.sequence_flags == layout.NEEDS_STATE
            and packet.track_event.type == END
            and not packet.track_event.track_uuid
            and not packet.track_event.debug_annotations
        )

    with pytest.raises(TraceError, match="offset"):
        read(edited(convoy, change, wanted or plain_end))


def test_what_takes_too_many_bytes_stands_below_alone(
    with_stacks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(details, "MOST_TEXTS", 0)
    monkeypatch.setattr(details.Details, "_stack", lambda self, leaf: ["x" * 1000] * 40)
    before = read(with_stacks)
    write_trace(slow_story(), with_stacks)
    assert read(with_stacks) == before
    packets = Trace.FromString(with_stacks.read_bytes()).packet
    assert not any(map(is_told_end, packets))
    assert max(len(p.track_event.debug_annotations) for p in packets if is_of_detail(p)) >= 3


def clear(field: str) -> Callable[[Any], None]:
    return lambda packet: packet.ClearField(field)


def put(part: str, field: str, value: object) -> Callable[[Any], None]:
    return lambda packet: setattr(getattr(packet, part) if part else packet, field, value)


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (put("track_event", "type", INSTANT), begins),
        (put("track_event", "name_iid", 1), begins),
        (put("track_event", "name_iid", 27), begins),
        (put("", "timestamp", 7), lambda p: begins(p) and not p.timestamp),
        (clear("timestamp"), begins),
        (clear("timestamp_clock_id"), lambda p: begins(p) and p.timestamp),
        (put("", "trusted_packet_sequence_id", 2), begins),
        (put("", "trusted_packet_sequence_id", 99), begins),
        (clear("trusted_packet_sequence_id"), begins),
        (clear("track_event"), begins),
        (put("track_event", "type", BEGIN), lambda p: not begins(p)),
        (put("track_event", "name_iid", 30), lambda p: not begins(p)),
        (put("", "timestamp", (1 << 64) - 1), lambda p: not begins(p)),
        (put("", "sequence_flags", 2), lambda p: not begins(p)),
        (put("", "trusted_packet_sequence_id", 2), lambda p: not begins(p)),
    ],
    ids=[
        *("instant", "a hot name", "the owner", "not at once", "no time", "no clock"),
        *("no GIL's", "no sequence", "not on a sequence", "no event"),
        *("no end", "an end with a name", "past the end of time", "a hot end", "another's end"),
    ],
)
def test_what_is_no_detail_is_refused(
    change: Callable[[Any], None], wanted: Callable[[Any], bool], convoy: Path
) -> None:
    with pytest.raises(TraceError, match="offset"):
        read(changed(convoy, change, wanted))


@pytest.mark.parametrize(
    "change",
    [put("track_event", "type", INSTANT), clear("track_event"), clear("timestamp")],
    ids=["instant", "no event", "no time"],
)
def test_what_is_no_slice_of_a_flame_is_refused(
    change: Callable[[Any], None], with_stacks: Path
) -> None:
    flames = {
        packet.trusted_packet_sequence_id
        for packet in Trace.FromString(with_stacks.read_bytes()).packet
        if packet.trace_packet_defaults.track_event_defaults.track_uuid >> 32 == 5
    }
    assert len(flames) == 3
    with pytest.raises(TraceError, match="offset"):
        read(changed(with_stacks, change, lambda p: p.trusted_packet_sequence_id in flames))


def test_a_detail_stands_where_its_slice_is_open(convoy: Path) -> None:
    """Two packets, right before the end of a hold or wait."""
    packets = list(Trace.FromString(convoy.read_bytes()).packet)
    at = next(i for i, packet in enumerate(packets) if is_of_detail(packet))
    detail = packets[at : at + 2]
    for packet in detail:
        packet.timestamp = 0
    copy = convoy.with_name("changed.pftrace")
    refused = 0
    for place in range(at + 2, at + 200):
        changed = [*packets[:place], *detail, *packets[place:]]
        copy.write_bytes(layout.frame(*changed))
        try:
            assert read(copy) == read(convoy)
        except TraceError:
            refused += 1
    assert refused > 100


# The slice that a detail lies below, and the detail.
DETAILS = """
    select above.name as above, above.ts as ts, above.dur as dur, s.ts as since, s.dur as lasts,
      s.name as name, above.track_id as track,
      (select group_concat(key || '=' || coalesce(string_value, int_value), '|') from
        (select * from args where arg_set_id = s.arg_set_id order by key)) as says,
      (select group_concat(key || '=' || coalesce(string_value, int_value), '|') from
        (select * from args where arg_set_id = above.arg_set_id order by key)) as says_above
    from slice s join slice above on s.parent_id = above.id
    where above.name in ('holds GIL', 'waiting for GIL') and s.dur > 0
      and s.name not in ('waiting for lock', 'waiting for condition')
    order by above.ts, above.track_id
"""
FLAMES = """
    select t.name as track, s.ts as ts, s.dur as dur, s.depth as depth, s.name as name
    from slice s join track t on s.track_id = t.id where t.name glob 'GIL*flame'
    order by s.ts, s.dur desc, s.depth, t.id
"""


def test_what_people_see(with_stacks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with engine(with_stacks) as tp:
        assert bad_stats(tp) == []
        told, flames = query(tp, DETAILS), query(tp, FLAMES)
    assert len(told) > 100
    for row in told:
        assert (row["since"], row["lasts"]) == (row["ts"], row["dur"])
        assert row["dur"] >= 1_000_000
        assert row["says"]
        assert row["says"] == row["says_above"]
    says = "\n".join(row["says"] or "" for row in told)
    assert {row["above"] for row in told} == {"holds GIL", "waiting for GIL"}
    assert "debug.waited_for=worker-" in says
    assert "debug.line=main.py:17 serve" in says
    assert "debug.stack[0]=re/__init__.py:167 match|debug.stack[1]=app/main.py:17 serve" in says
    assert "debug.ended_by_yield=1|debug.kept_waiting=" in says
    assert any(row["name"].startswith("at or before ") for row in told)
    assert {row["name"] for row in flames} >= {"main.py:17 serve", "gr\u00f6\u00dfe.py Werk.tue"}
    monkeypatch.setattr(details, "MOST_TEXTS", 3)
    write_trace(slow_story(), with_stacks)
    with engine(with_stacks) as tp:
        assert bad_stats(tp) == []
        assert query(tp, DETAILS) == told
        assert query(tp, FLAMES) == flames
    assert 'name: "for ' in str(Trace.FromString(with_stacks.read_bytes()))

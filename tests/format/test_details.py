"""Details of long slices: for people. Readers pass them by, in C, and take nothing else for one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TrackEvent

from gilscope.benchmarks.synthetic import SyntheticSource
from gilscope.errors import TraceError
from gilscope.perfetto import details, reader
from gilscope.perfetto.reader import open_trace
from gilscope.perfetto.writer import write_trace
from gilscope.trace.text import lines


@pytest.fixture
def convoy(tmp_path: Path) -> Path:
    """A trace in which one event in three ends a wait of a millisecond or more."""
    path = tmp_path / "convoy.pftrace"
    write_trace(SyntheticSource(3000), path)
    return path


def read(path: Path) -> str:
    return "".join(lines(open_trace(path)))


def changed(path: Path, change: Callable[[Any], None]) -> Path:
    """A copy in which the first detail is changed."""
    metadata = open_trace(path).metadata
    trace = Trace.FromString(path.read_bytes())
    packet = next(p for p in trace.packet if details.is_detail(metadata, p))
    change(packet)
    copy = path.with_name("changed.pftrace")
    copy.write_bytes(trace.SerializeToString())
    return copy


def test_no_detail_goes_through_python(convoy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metadata = open_trace(convoy).metadata
    trace = Trace.FromString(convoy.read_bytes())
    assert sum(details.is_detail(metadata, packet) for packet in trace.packet) > 1000
    handed_over = []

    def is_detail(*packet: Any) -> bool:
        handed_over.append(details.is_detail(*packet))
        return handed_over[-1]

    monkeypatch.setattr(reader, "is_detail", is_detail)
    read(convoy)
    assert handed_over
    assert not any(handed_over)


def test_what_a_detail_says_is_free(convoy: Path) -> None:
    def change(packet: Any) -> None:
        packet.track_event.name = "at or before ärger.py:7 \N{SNOWMAN}"
        packet.track_event.debug_annotations.add(name="more", int_value=7)

    assert read(changed(convoy, change)) == read(convoy)


@pytest.mark.parametrize(
    "change",
    [
        lambda packet: setattr(packet.track_event, "type", TrackEvent.TYPE_INSTANT),
        lambda packet: setattr(packet.track_event, "track_uuid", 2 << 32 | 10**6),
        lambda packet: setattr(packet.track_event, "track_uuid", 7),
        lambda packet: setattr(packet, "timestamp_clock_id", 6),
        lambda packet: packet.ClearField("timestamp"),
        lambda packet: setattr(packet, "sequence_flags", 1),
    ],
    ids=["instant", "no such thread", "no such track", "clock", "no time", "flags"],
)
def test_what_is_no_detail_is_refused(convoy: Path, change: Callable[[Any], None]) -> None:
    with pytest.raises(TraceError):
        read(changed(convoy, change))

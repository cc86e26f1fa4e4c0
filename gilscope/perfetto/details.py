"""What a trace tells of long holds and waits besides their own slices, for people who look at it.

Below a hold of a millisecond or more stands a slice named by its line, below such a wait one named
by whom it waited for; the annotations have the rest. "GIL flame" is a track per GIL with the stacks
of such holds: selecting a stretch of it adds them up. All of it is derived from the events around
it; readers pass it by (decode_detail.h, and `is_detail` for what that is not sure of).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TracePacket, TrackEvent

from gilscope.perfetto import layout
from gilscope.perfetto.annotations import entries
from gilscope.perfetto.codec import Detail
from gilscope.trace import stacks
from gilscope.trace.schema import Metadata

_NONE = 0xFFFFFFFF


class Details:
    """Builds the packets of one recording's details."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata
        self._flame_events = lru_cache(maxsize=4096)(self._flame)

    def of(self, detail: Detail) -> bytes:
        """The packets that stand before the end of the slice that `detail` is about."""
        name, values = self._wait(detail) if detail.of_wait else self._hold(detail)
        begin = TrackEvent(
            type=TrackEvent.TYPE_SLICE_BEGIN,
            track_uuid=layout.thread_track(detail.thread),
            name=name,
        )
        begin.debug_annotations.extend(entries(values))
        end = TrackEvent(
            type=TrackEvent.TYPE_SLICE_END, track_uuid=layout.thread_track(detail.thread)
        )
        packets = [_packet(detail.start_ns, begin), _packet(detail.end_ns, end)]
        if not detail.of_wait and detail.leaf != _NONE:
            frames = self._flame_events(detail.gil, detail.leaf)
            packets += [_packet(detail.start_ns, frame) for frame in frames]
            end = TrackEvent(
                type=TrackEvent.TYPE_SLICE_END, track_uuid=layout.flame_track(detail.gil)
            )
            packets += [_packet(detail.end_ns, end) for _ in frames]
        data: bytes = Trace(packet=packets).SerializeToString()
        return data

    def _flame(self, gil: int, leaf: int) -> list[Any]:
        return [
            TrackEvent(
                type=TrackEvent.TYPE_SLICE_BEGIN,
                track_uuid=layout.flame_track(gil),
                name=stacks.where(row, 1),
            )
            for row in reversed(stacks.path(self._metadata.stacks, leaf))
        ]

    def _line(self, leaf: int, exact: bool) -> str | None:
        if leaf == _NONE:
            return None
        site = stacks.site(self._metadata.stacks, leaf)
        file = site.file.rsplit("/", 1)[-1] or "?"
        return f"{'' if exact else 'at or before '}{file}:{site.line} {site.function}"

    def _hold(self, detail: Detail) -> tuple[str, dict[str, Any]]:
        line = self._line(detail.leaf, bool(detail.seen))
        return line or "no stack", {
            "line": line,
            "stack": self._stack(detail.leaf),
            "ended_by_yield": bool(detail.yielded),
            "kept_waiting": detail.others,
            "kept_waiting_ns": detail.other_ns,
        }

    def _wait(self, detail: Detail) -> tuple[str, dict[str, Any]]:
        line = self._line(detail.leaf, True)
        values: dict[str, Any] = {"line": line, "stack": self._stack(detail.leaf)}
        if detail.holder == _NONE:
            return "for no long hold", values
        holder = self._metadata.threads[detail.holder].name
        where = self._line(detail.other_leaf, bool(detail.other_seen))
        values |= {
            "waited_for": holder,
            "waited_for_line": where,
            "waited_for_stack": self._stack(detail.other_leaf),
            "waited_for_ns": detail.other_ns,
        }
        return f"for {layout.printable(holder)}" + (f" {where}" if where else ""), values

    def _stack(self, leaf: int) -> list[str] | None:
        if leaf == _NONE:
            return None
        return [stacks.where(row) for row in stacks.path(self._metadata.stacks, leaf)]


def _packet(time_ns: int, event: Any) -> Any:
    return TracePacket(
        timestamp=time_ns,
        timestamp_clock_id=layout.MONOTONIC,
        trusted_packet_sequence_id=layout.MAIN_SEQUENCE,
        track_event=event,
    )


_FIELDS = {"timestamp", "timestamp_clock_id", "trusted_packet_sequence_id", "track_event"}


def is_detail(metadata: Metadata, packet: Any) -> bool:
    """Whether this packet is a detail, on a track that the metadata has; what it says is free."""
    event = packet.track_event
    return (
        packet.trusted_packet_sequence_id == layout.MAIN_SEQUENCE
        and {field.name for field, _ in packet.ListFields()} == _FIELDS
        and packet.timestamp_clock_id == layout.MONOTONIC
        and event.type in (TrackEvent.TYPE_SLICE_BEGIN, TrackEvent.TYPE_SLICE_END)
        and layout.has_track_of_details(metadata, event.track_uuid)
    )

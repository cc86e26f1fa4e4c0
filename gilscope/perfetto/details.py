"""What a trace tells of long holds and waits besides their own slices, for people who look at it.

Below a hold of a millisecond or more stands a slice named by its line, below such a wait one named
by whom it waited for; the annotations have the rest. "GIL flame" is a track per GIL with the stacks
of such holds: selecting a stretch of it adds them up. All of it is derived from the events around
it; readers pass it by (decode_detail.h, and `is_detail` for what that is not sure of).
"""

from __future__ import annotations

from typing import Any

from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import TrackEvent

from gilscope.perfetto import layout
from gilscope.perfetto.annotations import entries
from gilscope.perfetto.codec import Detail
from gilscope.trace import stacks
from gilscope.trace.schema import Metadata

_NONE = 0xFFFFFFFF


class Details:
    """Builds what one recording's details say, but for times and counts (put_detail.h)."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata

    def parts(self, detail: Detail) -> tuple[bytes, list[bytes]]:
        """The slice's event, but for its counts, and the flame's: what `Encoder.detail` takes."""
        name, values = self._wait(detail) if detail.of_wait else self._hold(detail)
        event = _begin(layout.thread_track(detail.thread), name)
        event.debug_annotations.extend(entries(values))
        frames = []
        if not detail.of_wait and detail.leaf != _NONE:
            track = layout.flame_track(detail.gil)
            path = stacks.path(self._metadata.stacks, detail.leaf)
            frames = [_begin(track, stacks.where(row, 1)) for row in reversed(path)]
        return event.SerializeToString(), [frame.SerializeToString() for frame in frames]

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
        }
        return f"for {layout.printable(holder)}" + (f" {where}" if where else ""), values

    def _stack(self, leaf: int) -> list[str] | None:
        if leaf == _NONE:
            return None
        return [stacks.where(row) for row in stacks.path(self._metadata.stacks, leaf)]


def _begin(track: int, name: str) -> Any:
    return TrackEvent(type=TrackEvent.TYPE_SLICE_BEGIN, track_uuid=track, name=name)


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

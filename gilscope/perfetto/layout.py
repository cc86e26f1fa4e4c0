"""The rare packets of a trace: clocks, tracks, names, metadata. docs/trace-format.md has the why.

The order of a file: the clocks, a track "gilscope", on it what is known when a recording begins;
then hot packets (format.h), each packet sequence introduced where it is first needed, behind the
descriptors of the tracks that it needs (tracks.py); then the metadata, and at the end the totals.
Everything here is built with the perfetto package's protobuf classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain
from typing import Any

from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TracePacket, TrackEvent

from gilscope.perfetto.annotations import AnnotationError, build, entries, from_entries
from gilscope.perfetto.codec import OWN_NAME, InternedTable, interned_names
from gilscope.perfetto.metadata import Event, check_tables, take_apart
from gilscope.trace.schema import NO_GIL, Metadata, Thread, Totals

FORMAT = 5  # of the file; a reader refuses what it does not know
# 2 had its details on the main sequence, 3 told all gaps' counts, 4 had its metadata at the begin.
READABLE = (2, 3, 4, FORMAT)
TABLES = ("processes", "threads", "gils", "stacks", "looks", "look_frames")  # of the metadata
_ROWS = 1 << 12  # of a table, in one packet

# Clock ids of Perfetto, and one of our own: deltas to the same sequence's packet before.
REALTIME, MONOTONIC, BOOTTIME, DELTAS = 1, 3, 6, 64

CLEARED, NEEDS_STATE = 1, 2  # TracePacket.sequence_flags
MAIN_SEQUENCE = 1  # carries the recording's own packets; format.h numbers the others from 2

# Roles of sequences (enum gs_role of format.h).
ROLE_GIL, ROLE_THREAD, ROLE_ATOMIC, ROLE_FLAME, ROLE_PROCESSOR = 1, 2, 3, 4, 5

RECORDING_TRACK, RECORDING = "gilscope", "gilscope recording"
METADATA, THE_END = "gilscope metadata", "gilscope end"
ATOMIC_TRACK = "atomic sections"

# Tracks: a uuid is a kind and an id, so that a track tells what it is for. Those of GIL owners are
# small (GS_OWNER_TRACK of format.h), because hot packets carry them. Reserved: kinds 6 to 8, for
# processors (of no track), spans and collections.
RECORDING_UUID = 1
FIRST_OWNER = 2
PROCESS, THREAD, WAITERS, ATOMIC, FLAME, PROCESSOR = (kind << 32 for kind in range(1, 7))
_KINDS = ~0xFFFFFFFF


class LayoutError(ValueError):
    """A packet that gilscope does not write; the message says what is wrong with it."""


class BrokenMetadata(LayoutError):
    """Metadata of gilscope's, of another format or damaged."""


def frame(*packets: Any) -> bytes:
    """Return the bytes of TracePackets as a part of a Trace."""
    data: bytes = Trace(packet=packets).SerializeToString()
    return data


# ---- The recording ------------------------------------------------------------------------------


def head(metadata: Metadata) -> bytes:
    """Return everything before the first hot packet: what is known when a recording begins."""
    known = ("command", "start_ns", "realtime_offset_ns", "boottime_offset_ns", "clock_source")
    values = {name: getattr(metadata, name) for name in (*known, "gilscope")}
    return frame(
        _clocks(metadata),
        _recording_track(metadata),
        _on_recording_track(RECORDING, metadata.start_ns, {"format": FORMAT, **values}),
    )


def tail(metadata: Metadata) -> Iterator[bytes]:
    """Yield the packets of the metadata, which stand behind the last hot packet."""

    def packet(values: dict[str, Any]) -> bytes:
        return frame(_on_recording_track(METADATA, metadata.end_ns, values))

    flat = {field.name: getattr(metadata, field.name) for field in dataclasses.fields(metadata)}
    tables = {name: flat.pop(name) for name in TABLES}
    flat["policy"] = dataclasses.asdict(metadata.policy)
    yield packet(flat)
    for name, rows in tables.items():
        for first in range(0, len(rows), _ROWS):
            yield packet({name: [_fields(row) for row in rows[first : first + _ROWS]]})


def _fields(row: Any) -> dict[str, Any]:
    return {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}


def end(metadata: Metadata, totals: Totals, metadata_bytes: int) -> bytes:
    """Return the packet that closes a whole trace, behind so many bytes of `tail`."""
    values = {**dataclasses.asdict(totals), "metadata_bytes": metadata_bytes}
    return frame(_on_recording_track(THE_END, metadata.end_ns, values))


def _clocks(metadata: Metadata) -> Any:
    """One instant on all clocks. Both engines need it as the first packet to import slices."""
    packet = TracePacket(trusted_packet_sequence_id=MAIN_SEQUENCE)
    start_ns = metadata.start_ns
    snapshot = packet.clock_snapshot
    snapshot.primary_trace_clock = MONOTONIC
    for clock, time_ns in (
        (MONOTONIC, start_ns),
        (BOOTTIME, start_ns + metadata.boottime_offset_ns),
        (REALTIME, start_ns + metadata.realtime_offset_ns),
    ):
        snapshot.clocks.add(clock_id=clock, timestamp=max(0, time_ns))
    return packet


def track_packet(metadata: Metadata, uuid: int) -> Any:
    """A packet that describes a track; the caller says how."""
    packet = TracePacket(
        timestamp=metadata.start_ns,
        timestamp_clock_id=MONOTONIC,
        trusted_packet_sequence_id=MAIN_SEQUENCE,
    )
    packet.track_descriptor.uuid = uuid
    return packet


def _recording_track(metadata: Metadata) -> Any:
    packet = track_packet(metadata, RECORDING_UUID)
    packet.track_descriptor.name = RECORDING_TRACK
    packet.sequence_flags = CLEARED
    return packet


def _on_recording_track(name: str, time_ns: int, values: dict[str, Any]) -> Any:
    packet = TracePacket(
        timestamp=time_ns, timestamp_clock_id=MONOTONIC, trusted_packet_sequence_id=MAIN_SEQUENCE
    )
    event = packet.track_event
    event.type, event.track_uuid, event.name = TrackEvent.TYPE_INSTANT, RECORDING_UUID, name
    event.debug_annotations.extend(entries(values))
    return packet


def printable(text: str) -> str:
    """`text` as UTF-8 can hold it."""
    return text.encode("utf-8", "backslashreplace").decode()


def thread_name(thread: Thread) -> str:
    """As Perfetto shows it."""
    return printable(thread.name) or f"thread {thread.tid}"


# ---- Packet sequences ---------------------------------------------------------------------------


@cache
def _interned(table: InternedTable) -> dict[int, str]:
    return interned_names(table)


def _sequence(metadata: Metadata, sequence: int, role: int, thread: int, gil: int) -> Any:
    """Give a sequence its clock of deltas, its track, its counter and its names.

    Names of details are interned by the packets that first need them.
    """
    packet = TracePacket(trusted_packet_sequence_id=sequence, sequence_flags=CLEARED)
    clocks = packet.clock_snapshot.clocks
    clocks.add(clock_id=MONOTONIC, timestamp=metadata.start_ns)
    clocks.add(clock_id=DELTAS, timestamp=metadata.start_ns, is_incremental=True)
    defaults = packet.trace_packet_defaults
    defaults.timestamp_clock_id = DELTAS
    if role == ROLE_FLAME:
        defaults.track_event_defaults.track_uuid = FLAME | gil
        return packet
    if role == ROLE_PROCESSOR:  # no track: the engine makes tables of scheduling from it
        defaults.track_event_defaults.track_uuid = PROCESSOR | thread
        return packet
    defaults.track_event_defaults.track_uuid = (ATOMIC if role == ROLE_ATOMIC else THREAD) | thread
    interned = packet.interned_data
    names = interned.event_names
    for table, entries_of in (
        (InternedTable.NAMES, names),
        (InternedTable.CATEGORIES, interned.event_categories),
        (InternedTable.ANNOTATIONS, interned.debug_annotation_names),
    ):
        for iid, name in _interned(table).items():
            entries_of.add(iid=iid, name=name)
    if role == ROLE_GIL:
        defaults.track_event_defaults.extra_counter_track_uuids.append(WAITERS | gil)
        names.add(iid=OWN_NAME, name=thread_name(metadata.threads[thread]))
    return packet


def introduce(metadata: Metadata, sequence: int, role: int, thread: int, gil: int) -> bytes:
    """Return the packet that opens a sequence."""
    return frame(_sequence(metadata, sequence, role, thread, gil))


# ---- Reading ------------------------------------------------------------------------------------


def read_clocks(packet: Any) -> None:
    """Check the first packet of a trace. Raises LayoutError."""
    if packet.clock_snapshot.primary_trace_clock != MONOTONIC:
        raise LayoutError("does not begin with gilscope's clocks")


def read_recording_track(packet: Any) -> None:
    """Check the second packet of a trace. Raises LayoutError."""
    if packet.track_descriptor.name != RECORDING_TRACK:
        raise LayoutError("has no track named gilscope")


def event_of(packet: bytes) -> Event:
    """The packet's event, read row by row. Raises LayoutError."""
    try:
        return take_apart(memoryview(packet))
    except AnnotationError as error:
        raise BrokenMetadata(f"has broken metadata ({error})") from None


def read_recording(packet: bytes) -> tuple[int, Metadata | None]:
    """Invert `head`'s third packet: the format and, up to format 4, the metadata.

    Raises LayoutError.
    """
    event = event_of(packet)
    if event.name != RECORDING or event.track_uuid != RECORDING_UUID:
        raise LayoutError("has no metadata of gilscope")
    version = event.values.pop("format", None)
    if version not in READABLE:
        raise BrokenMetadata(f"has format {version}; this gilscope reads format {FORMAT}")
    return version, None if version == FORMAT else _built(event.values)


def read_metadata(events: Iterable[Event]) -> Metadata:
    """Invert `tail`. Raises LayoutError."""
    tables: dict[str, list[Iterable[Any]]] = {name: [] for name in TABLES}
    flat: dict[str, Any] = {}
    for number, event in enumerate(events):
        if event.name != METADATA or event.track_uuid != RECORDING_UUID:
            raise LayoutError("has something else where its metadata should be")
        for name in TABLES:
            rows = event.values.pop(name, ())
            if not isinstance(rows, (tuple, Iterator)):
                raise BrokenMetadata(f"has broken metadata ({name}: not a list)")
            tables[name].append(rows)
        if number and event.values:
            raise BrokenMetadata("has broken metadata (a field twice)")
        flat |= event.values
    return _built(flat | {name: chain.from_iterable(rows) for name, rows in tables.items()})


def _built(values: dict[str, Any]) -> Metadata:
    try:
        metadata = build(Metadata, values)
    except AnnotationError as error:
        raise BrokenMetadata(f"has broken metadata ({error})") from None
    if wrong := check_tables(metadata):
        raise BrokenMetadata(f"has broken metadata ({wrong})")
    return metadata


def read_end(packet: Any) -> tuple[Totals, int] | None:
    """The totals, and the bytes of metadata before it (0 up to format 4), if this is the packet
    that closes a trace. Raises LayoutError.
    """
    if not packet.HasField("track_event") or packet.track_event.name != THE_END:
        return None
    try:
        values = from_entries(packet.track_event.debug_annotations)
        metadata_bytes = values.pop("metadata_bytes", 0)
        if type(metadata_bytes) is not int or metadata_bytes < 0:
            raise LayoutError("broken totals (metadata_bytes: not a number of bytes)")
        return build(Totals, values), metadata_bytes
    except AnnotationError as error:
        raise LayoutError(f"broken totals ({error})") from None


def find_end(data: bytes) -> int | None:
    """Where in the last bytes of a file the packet begins that closes a trace; None: nowhere."""
    name = data.rfind(THE_END.encode())
    for start in range(name, max(name - _END_HEAD, -1), -1):
        if data[start] != _PACKET_TAG:
            continue
        size = shift = 0
        for at in range(start + 1, min(start + 4, len(data))):
            size |= (data[at] & 127) << shift
            shift += 7
            if data[at] < 128:
                if at + 1 + size == len(data):
                    return start
                break
    return None


_END_HEAD = 256  # bytes, at most, from the packet's begin to its name
_PACKET_TAG = 0x0A


def read_sequence(
    metadata: Metadata, packet: Any, own_name: int = OWN_NAME
) -> tuple[int, int, int, int] | None:
    """Invert `introduce`: sequence, role, thread, GIL; None if this is no such packet.

    Raises LayoutError where it differs from the one that gilscope writes, since the hot packets
    rest on its fields. It may intern fewer names: it was written before there were more.
    """
    if not packet.HasField("trace_packet_defaults"):
        return None
    defaults = packet.trace_packet_defaults.track_event_defaults
    thread, role, gil = defaults.track_uuid & ~_KINDS, ROLE_THREAD, NO_GIL
    if defaults.track_uuid & _KINDS == ATOMIC:
        role = ROLE_ATOMIC
    elif defaults.track_uuid & _KINDS == PROCESSOR:
        role = ROLE_PROCESSOR
    elif defaults.track_uuid & _KINDS == FLAME:
        role, thread, gil = ROLE_FLAME, 0, thread
    elif defaults.extra_counter_track_uuids:
        role, gil = ROLE_GIL, defaults.extra_counter_track_uuids[0] & ~_KINDS
    sequence = packet.trusted_packet_sequence_id
    if thread < len(metadata.threads):
        expected = _sequence(metadata, sequence, role, thread, gil)
        if _knows(expected.interned_data, packet.interned_data, role == ROLE_GIL, own_name):
            expected.ClearField("interned_data")
            if expected.HasField("interned_data") or packet.HasField("interned_data"):
                expected.interned_data.CopyFrom(packet.interned_data)
            if packet == expected:
                return sequence, role, thread, gil
    raise LayoutError("a packet sequence that gilscope does not write")


def _knows(known: Any, interned: Any, of_gil: bool, own_name: int) -> bool:
    """Whether texts that a sequence interned mean here what they meant when it was written.

    (The owner's name is for people: it may be any.)
    """
    own = [entry for entry in interned.event_names if entry.iid == own_name]
    if len(own) != of_gil:
        return False
    tables = ("event_names", "event_categories", "debug_annotation_names")
    if {field.name for field, _ in interned.ListFields()} - {*tables}:
        return False
    for table in tables:
        texts = {entry.iid: entry.name for entry in getattr(known, table)}
        if any(
            texts.get(entry.iid) != entry.name
            for entry in getattr(interned, table)
            if entry not in own or table != "event_names"
        ):
            return False
    return True


def check_track(metadata: Metadata, packet: Any) -> int:
    """Pass a track's descriptor and return its uuid; any other packet raises LayoutError.

    Tracks are for Perfetto alone. What they show is not compared, so that a later gilscope may show
    it better in the same format.
    """
    fields = {field.name for field, _ in packet.ListFields()}
    if fields != _TRACK_FIELDS:
        raise LayoutError("a packet that gilscope does not write")
    uuid = packet.track_descriptor.uuid
    kind, number = uuid & _KINDS, uuid & ~_KINDS
    if kind == 0:
        kind, number = WAITERS, number - FIRST_OWNER
    table: tuple[Any, ...] = {
        PROCESS: metadata.processes,
        THREAD: metadata.threads,
        ATOMIC: metadata.threads,
        WAITERS: metadata.gils,
        FLAME: metadata.gils,
    }.get(kind, ())
    if not 0 <= number < len(table):
        raise LayoutError("a track that the metadata does not have")
    return int(uuid)


def is_thread(uuid: int) -> bool:
    """Whether it is a thread's own track."""
    return uuid & _KINDS == THREAD


def is_old_detail(metadata: Metadata, packet: Any) -> bool:
    """Whether this is a detail of format 2, on a track that the metadata has."""
    event = packet.track_event
    tables: dict[int, tuple[Any, ...]] = {THREAD: metadata.threads, FLAME: metadata.gils}
    return (
        packet.trusted_packet_sequence_id == MAIN_SEQUENCE
        and {field.name for field, _ in packet.ListFields()} == _EVENT_FIELDS
        and packet.timestamp_clock_id == MONOTONIC
        and event.type in (TrackEvent.TYPE_SLICE_BEGIN, TrackEvent.TYPE_SLICE_END)
        and (event.track_uuid & ~_KINDS) < len(tables.get(event.track_uuid & _KINDS, ()))
    )


_EVENT_FIELDS = {"timestamp", "timestamp_clock_id", "trusted_packet_sequence_id", "track_event"}
_TRACK_FIELDS = {
    "timestamp",
    "timestamp_clock_id",
    "trusted_packet_sequence_id",
    "track_descriptor",
}

"""The rare packets of a trace: clocks, tracks, names, metadata. docs/trace-format.md has the why.

The order of a file: the clocks, a track "gilscope", the metadata on it, the descriptors of all
tracks; then hot packets (format.h), each packet sequence introduced where it is first needed; at
the end the totals. Everything here is built with the perfetto package's protobuf classes.
"""

from __future__ import annotations

import dataclasses
import os
from functools import cache
from typing import Any

from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TracePacket, TrackEvent

from gilscope.perfetto.annotations import AnnotationError, build, entries, from_entries
from gilscope.perfetto.codec import InternedTable, interned_names
from gilscope.trace.schema import NO_GIL, Metadata, Process, Thread, Totals

FORMAT = 4  # of the file; a reader refuses what it does not know
READABLE = (2, 3, FORMAT)  # 2 had its details on the main sequence, 3 told all gaps' counts

# Clock ids of Perfetto, and one of our own: deltas to the same sequence's packet before.
REALTIME, MONOTONIC, BOOTTIME, DELTAS = 1, 3, 6, 64

CLEARED, NEEDS_STATE = 1, 2  # TracePacket.sequence_flags
MAIN_SEQUENCE = 1  # carries the recording's own packets; format.h numbers the others from 2

# Roles of sequences (enum gs_role of format.h).
ROLE_GIL, ROLE_THREAD, ROLE_ATOMIC, ROLE_FLAME = 1, 2, 3, 4

RECORDING_TRACK, RECORDING, THE_END = "gilscope", "gilscope recording", "gilscope end"
ATOMIC_TRACK = "atomic sections"

# Tracks: a uuid is a kind and an id, so that a track tells what it is for. Those of GIL owners are
# small (GS_OWNER_TRACK of format.h), because hot packets carry them.
RECORDING_UUID = 1
_FIRST_OWNER = 2
_PROCESS, _THREAD, _WAITERS, _ATOMIC, _FLAME = (kind << 32 for kind in (1, 2, 3, 4, 5))
_KINDS = ~0xFFFFFFFF

REUSE = 1 << 22  # Linux never gives a pid or tid from here on
_LARGEST = (1 << 31) - 1


class LayoutError(ValueError):
    """A packet that gilscope does not write; the message says what is wrong with it."""


def frame(*packets: Any) -> bytes:
    """Return the bytes of TracePackets as a part of a Trace."""
    data: bytes = Trace(packet=packets).SerializeToString()
    return data


# ---- The recording ------------------------------------------------------------------------------


def head(metadata: Metadata) -> bytes:
    """Return everything before the first hot packet."""
    return frame(
        _clocks(metadata),
        _recording_track(metadata),
        _on_recording_track(
            RECORDING, metadata.start_ns, {"format": FORMAT, **dataclasses.asdict(metadata)}
        ),
        *_tracks(metadata),
    )


def end(metadata: Metadata, totals: Totals) -> bytes:
    """Return the packet that closes a whole trace."""
    return frame(_on_recording_track(THE_END, metadata.end_ns, dataclasses.asdict(totals)))


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


def _track(metadata: Metadata, uuid: int) -> Any:
    packet = TracePacket(
        timestamp=metadata.start_ns,
        timestamp_clock_id=MONOTONIC,
        trusted_packet_sequence_id=MAIN_SEQUENCE,
    )
    packet.track_descriptor.uuid = uuid
    return packet


def _recording_track(metadata: Metadata) -> Any:
    packet = _track(metadata, RECORDING_UUID)
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


def _tracks(metadata: Metadata) -> list[Any]:
    """Describe every process, thread and GIL."""
    pids, tids = distinct_numbers(metadata)
    packets = []
    for process in metadata.processes:
        packet = _track(metadata, _PROCESS | process.id)
        shown = packet.track_descriptor.process
        shown.pid = pids[process.id]
        shown.process_name = _process_name(process)
        if shown.pid != process.pid:
            shown.process_name += f" (pid {process.pid})"
        shown.cmdline.extend(printable(word) for word in process.command)
        packets.append(packet)
    for thread in metadata.threads:
        packet = _track(metadata, _THREAD | thread.id)
        track = packet.track_descriptor
        track.parent_uuid = _PROCESS | thread.process
        track.thread.pid, track.thread.tid = pids[thread.process], tids[thread.id]
        track.thread.thread_name = _thread_name(thread)
        packets.append(packet)
    gils_of: dict[int, int] = {}
    for gil in metadata.gils:
        number = gils_of[gil.process] = gils_of.get(gil.process, 0) + 1
        which = "GIL" if number == 1 else f"GIL {number}"
        owner = _track(metadata, _FIRST_OWNER + gil.id)
        waiters = _track(metadata, _WAITERS | gil.id)
        waiters.track_descriptor.counter.unit_name = "threads"
        above = _PROCESS | gil.process
        tracks = [(owner, f"{which} owner", above), (waiters, f"{which} waiters", above)]
        if metadata.stacks:
            # Beneath the owner's, where the UI folds it: one deep stack makes the track high.
            flame = _track(metadata, _FLAME | gil.id)
            tracks.append((flame, f"{which} flame", _FIRST_OWNER + gil.id))
        for packet, name, parent in tracks:
            packet.track_descriptor.parent_uuid = parent
            packet.track_descriptor.name = name
            packets.append(packet)
    return packets


def distinct_numbers(metadata: Metadata) -> tuple[list[int], list[int]]:
    """Return the pid of each process and the tid of each thread as the tracks show them.

    The engine merges threads of equal (pid, tid), so a number that returns is shown as number
    + n * 2**22; the metadata keeps the true one. A main thread keeps tid = pid, by which the engine
    knows it.
    """
    used: set[int] = set()

    def distinct(number: int) -> int:
        while number in used and number + REUSE <= _LARGEST:
            number += REUSE
        while number in used:  # 512 times the same number: any free one will do
            number -= 1
        used.add(number)
        return number

    pids = [distinct(process.pid) for process in metadata.processes]
    main_seen: set[int] = set()
    tids = []
    for thread in metadata.threads:
        if thread.tid == metadata.processes[thread.process].pid and (
            thread.process not in main_seen
        ):
            main_seen.add(thread.process)
            tids.append(pids[thread.process])
        else:
            tids.append(distinct(thread.tid))
    return pids, tids


def printable(text: str) -> str:
    """`text` as UTF-8 can hold it."""
    return text.encode("utf-8", "backslashreplace").decode()


def _process_name(process: Process) -> str:
    if not process.command:
        return f"process {process.pid}"
    words = [os.path.basename(process.command[0]), *process.command[1:]]
    name = printable(" ".join(words)).strip()
    return (name if len(name) <= 60 else name[:59] + "…") or f"process {process.pid}"


def _thread_name(thread: Thread) -> str:
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
        defaults.track_event_defaults.track_uuid = _FLAME | gil
        return packet
    defaults.track_event_defaults.track_uuid = (
        _ATOMIC if role == ROLE_ATOMIC else _THREAD
    ) | thread
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
        defaults.track_event_defaults.extra_counter_track_uuids.append(_WAITERS | gil)
        names.add(iid=len(names) + 1, name=_thread_name(metadata.threads[thread]))
    return packet


def introduce(metadata: Metadata, sequence: int, role: int, thread: int, gil: int) -> bytes:
    """Return the packet that opens a sequence, behind that of its own track if it has one."""
    opening = _sequence(metadata, sequence, role, thread, gil)
    if role != ROLE_ATOMIC:
        return frame(opening)
    track = _track(metadata, _ATOMIC | thread)
    track.track_descriptor.parent_uuid = _THREAD | thread
    track.track_descriptor.name = ATOMIC_TRACK
    return frame(track, opening)


# ---- Reading ------------------------------------------------------------------------------------


def read_clocks(packet: Any) -> None:
    """Check the first packet of a trace. Raises LayoutError."""
    if packet.clock_snapshot.primary_trace_clock != MONOTONIC:
        raise LayoutError("does not begin with gilscope's clocks")


def read_recording_track(packet: Any) -> None:
    """Check the second packet of a trace. Raises LayoutError."""
    if packet.track_descriptor.name != RECORDING_TRACK:
        raise LayoutError("has no track named gilscope")


def read_metadata(packet: Any) -> Metadata:
    """Invert `head`'s third packet. Raises LayoutError."""
    event = packet.track_event
    if event.name != RECORDING or event.track_uuid != RECORDING_UUID:
        raise LayoutError("has no metadata of gilscope")
    try:
        values = from_entries(event.debug_annotations)
        version = values.pop("format", None)
        if version not in READABLE:
            raise LayoutError(f"has format {version}; this gilscope reads format {FORMAT}")
        metadata = build(Metadata, values)
    except AnnotationError as error:
        raise LayoutError(f"has broken metadata ({error})") from None
    _check_tables(metadata)
    return metadata


def _check_tables(metadata: Metadata) -> None:
    tables: tuple[tuple[Any, ...], ...] = (
        metadata.processes,
        metadata.threads,
        metadata.gils,
        metadata.stacks,
    )
    called = all(row.parent is None or 0 <= row.parent < row.id for row in metadata.stacks)
    in_order = all(row.id == index for table in tables for index, row in enumerate(table))
    inside = all(
        0 <= row.process < len(metadata.processes)
        for table in (metadata.threads, metadata.gils)
        for row in table
    )
    if (
        not in_order
        or not inside
        or not called
        or len(metadata.gils) > NO_GIL
        or metadata.start_ns < 0
    ):
        raise LayoutError("has broken metadata (its tables do not fit together)")


def read_end(packet: Any) -> Totals | None:
    """Return the totals if this is the packet that closes a trace. Raises LayoutError."""
    if not packet.HasField("track_event") or packet.track_event.name != THE_END:
        return None
    try:
        return build(Totals, from_entries(packet.track_event.debug_annotations))
    except AnnotationError as error:
        raise LayoutError(f"broken totals ({error})") from None


def read_sequence(metadata: Metadata, packet: Any) -> tuple[int, int, int, int] | None:
    """Invert `introduce`: sequence, role, thread, GIL; None if this is no such packet.

    Raises LayoutError where it differs from the one that gilscope writes, since the hot packets
    rest on its fields. (The owner's name is for people: it is not compared.)
    """
    if not packet.HasField("trace_packet_defaults"):
        return None
    defaults = packet.trace_packet_defaults.track_event_defaults
    thread, role, gil = defaults.track_uuid & ~_KINDS, ROLE_THREAD, NO_GIL
    if defaults.track_uuid & _KINDS == _ATOMIC:
        role = ROLE_ATOMIC
    elif defaults.track_uuid & _KINDS == _FLAME:
        role, thread, gil = ROLE_FLAME, 0, thread
    elif defaults.extra_counter_track_uuids:
        role, gil = ROLE_GIL, defaults.extra_counter_track_uuids[0] & ~_KINDS
    sequence = packet.trusted_packet_sequence_id
    if thread < len(metadata.threads):
        expected = _sequence(metadata, sequence, role, thread, gil)
        if role == ROLE_GIL and packet.interned_data.event_names:
            expected.interned_data.event_names[-1].name = packet.interned_data.event_names[-1].name
        if packet == expected:
            return sequence, role, thread, gil
    raise LayoutError("a packet sequence that gilscope does not write")


def check_track(metadata: Metadata, packet: Any) -> None:
    """Pass a track's descriptor; any other packet raises LayoutError.

    Tracks are for Perfetto alone. What they show is not compared, so that a later gilscope may show
    it better in the same format.
    """
    fields = {field.name for field, _ in packet.ListFields()}
    if fields != _TRACK_FIELDS:
        raise LayoutError("a packet that gilscope does not write")
    uuid = packet.track_descriptor.uuid
    kind, number = uuid & _KINDS, uuid & ~_KINDS
    if kind == 0:
        kind, number = _WAITERS, number - _FIRST_OWNER
    table: tuple[Any, ...] = {
        _PROCESS: metadata.processes,
        _THREAD: metadata.threads,
        _ATOMIC: metadata.threads,
        _WAITERS: metadata.gils,
        _FLAME: metadata.gils,
    }.get(kind, ())
    if not 0 <= number < len(table):
        raise LayoutError("a track that the metadata does not have")


def is_old_detail(metadata: Metadata, packet: Any) -> bool:
    """Whether this is a detail of format 2, on a track that the metadata has."""
    event = packet.track_event
    tables: dict[int, tuple[Any, ...]] = {_THREAD: metadata.threads, _FLAME: metadata.gils}
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

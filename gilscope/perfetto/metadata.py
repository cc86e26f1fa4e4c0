"""Takes the packet with a recording's metadata apart, row by row.

Parsed as a whole it would take ten times its size, and nested messages of two bytes fifty times. So
it is cut by the rules of protobuf's wire format down to the rows of its tables; each of them is
parsed by protobuf's classes when its turn comes, and has gone before the next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import (
    DebugAnnotation,
    TracePacket,
    TrackEvent,
)

from gilscope.perfetto.annotations import AnnotationError, plain
from gilscope.trace import limits
from gilscope.trace.schema import NO_GIL, Metadata

_EVENT = TracePacket.TRACK_EVENT_FIELD_NUMBER
_ANNOTATIONS = TrackEvent.DEBUG_ANNOTATIONS_FIELD_NUMBER
_ITEMS = DebugAnnotation.ARRAY_VALUES_FIELD_NUMBER
_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5  # wire types
_Field = tuple[int, memoryview, memoryview]  # number, the whole field, its body


class Event(NamedTuple):
    """The packet's event: its own fields, and what its annotations say."""

    name: str
    track_uuid: int
    values: dict[str, Any]  # by name; a list is an iterator, which raises AnnotationError


def take_apart(packet: memoryview) -> Event:
    """The event of a TracePacket; nameless if it has none. Raises AnnotationError."""
    events = [body for number, _, body in _few_fields(packet) if number == _EVENT]
    if len(events) != 1:
        return Event("", 0, {})
    rest = bytearray()  # the fields that are no annotations
    values: dict[str, Any] = {}
    for number, field, body in _few_fields(events[0]):
        if number != _ANNOTATIONS:
            rest += field
            continue
        name, value = _value(body)
        if name in values:
            raise AnnotationError("a field twice")
        values[name] = value
    event = _parsed(TrackEvent, rest)
    return Event(event.name, event.track_uuid, values)


def _value(annotation: memoryview) -> tuple[str, Any]:
    """Its name and its plain value; that of a list is an iterator, which its name comes before."""
    head = bytearray()
    fields = _fields(annotation)
    for number, field, body in fields:
        if number == _ITEMS:
            parsed = _parsed(DebugAnnotation, head)
            if parsed.WhichOneof("value") is not None or parsed.dict_entries:
                raise AnnotationError(f"{parsed.name}: a list that has a value")
            return parsed.name, _entries(body, fields)
        head += field
        if len(head) > limits.ENTRY_BYTES:
            break
    parsed = _parsed(DebugAnnotation, head)
    return parsed.name, plain(parsed)


def _entries(first: memoryview, others: Iterator[_Field]) -> Iterator[Any]:
    """The plain values of a list's entries."""
    for count, body in enumerate(chain((first,), (_item(field) for field in others))):
        entry = plain(_parsed(DebugAnnotation, body))
        if isinstance(entry, dict):
            _check_row(entry)
        elif count >= limits.WORDS:
            raise AnnotationError("a list longer than any that gilscope writes")
        yield entry


def _item(field: _Field) -> memoryview:
    number, _, body = field
    if number != _ITEMS:
        raise AnnotationError("a list that has a value")
    return body


def _check_row(row: dict[str, Any]) -> None:
    for value in row.values():
        if isinstance(value, str):
            short = len(value) <= 2 * limits.TEXT_BYTES  # it may be hexadecimal
        elif isinstance(value, tuple):
            short = sum(map(_length, value)) + len(value) <= limits.COMMAND_BYTES
        else:
            continue
        if not short:
            raise AnnotationError("a text longer than any that gilscope writes")


def _length(word: Any) -> int:
    """Of a text, as it is or as hexadecimal digits."""
    return len(word) if isinstance(word, str) else len(str(word)) // 2


def _parsed(message: Any, data: memoryview | bytearray) -> Any:
    if len(data) > limits.ENTRY_BYTES:
        raise AnnotationError("an entry longer than any that gilscope writes")
    try:
        return message.FromString(bytes(data))
    except DecodeError:
        raise AnnotationError("a broken entry") from None


def _few_fields(data: memoryview) -> Iterator[_Field]:
    for count, field in enumerate(_fields(data)):
        if count >= limits.FIELDS:
            raise AnnotationError("more fields than gilscope writes")
        yield field


def _fields(data: memoryview) -> Iterator[_Field]:
    """The fields of a message. Raises AnnotationError."""
    at, end = 0, len(data)
    while at < end:
        key, body = _varint(data, at)
        kind = key & 7
        if kind == _DELIMITED:
            length, body = _varint(data, body)
            after = body + length
        elif kind == _VARINT:
            _, after = _varint(data, body)
        elif kind in (_FIXED64, _FIXED32):
            after = body + (8 if kind == _FIXED64 else 4)
        else:
            raise AnnotationError("a broken entry")
        if after > end:
            raise AnnotationError("a broken entry")
        yield key >> 3, data[at:after], data[body:after]
        at = after


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Its value, and where it ends."""
    if at < len(data) and data[at] < 128:
        return data[at], at + 1
    value = shift = 0
    for byte in data[at : at + 10]:
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
        shift += 7
    raise AnnotationError("a broken entry")


# ---- What the tables may say --------------------------------------------------------------------


def check_tables(metadata: Metadata) -> str | None:
    """What is wrong with them, if anything is."""
    if not _fit(metadata):
        return "its tables do not fit together"
    if not _known_words(metadata):
        return "a word that gilscope does not write"
    return None if _shallow(metadata) else "a stack deeper than any that gilscope writes"


def _fit(metadata: Metadata) -> bool:
    tables: tuple[tuple[Any, ...], ...] = (
        metadata.processes,
        metadata.threads,
        metadata.gils,
        metadata.stacks,
    )
    called = all(row.parent is None or 0 <= row.parent < row.id for row in metadata.stacks)
    in_order = all(
        row.id == index for table in (*tables, metadata.looks) for index, row in enumerate(table)
    )
    seen = all(
        0 <= thread < len(metadata.threads)
        for look in metadata.looks
        for thread in (look.thread, 0 if look.holder is None else look.holder)
    ) and all(0 <= frame.look < len(metadata.looks) for frame in metadata.look_frames)
    inside = all(
        0 <= row.process < len(metadata.processes)
        for table in (metadata.threads, metadata.gils)
        for row in table
    )
    few = len(metadata.gils) <= NO_GIL and _shallow_looks(metadata)
    return in_order and inside and called and seen and few and metadata.start_ns >= 0


def _shallow_looks(metadata: Metadata) -> bool:
    depths = Counter(frame.look for frame in metadata.look_frames)
    return max(depths.values(), default=0) <= limits.STACK_DEPTH


def _known_words(metadata: Metadata) -> bool:
    """Whether what gilscope has words for are words."""
    words = {metadata.clock_source, metadata.gilscope, metadata.stopped, metadata.policy.name}
    for process in metadata.processes:
        words |= {process.python, process.feed, process.interpreter, process.stacks}
    for look in metadata.looks:
        words |= {look.waits_for, look.known_by}
    return all(len(word) <= limits.WORD_BYTES and word.isprintable() for word in words if word)


def _shallow(metadata: Metadata) -> bool:
    depths: list[int] = []
    for row in metadata.stacks:
        depths.append(1 if row.parent is None else depths[row.parent] + 1)
    return max(depths, default=0) <= limits.STACK_DEPTH

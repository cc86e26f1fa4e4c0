"""Traces made to cost their reader more than they are worth, or to say more than text.

Each function returns a file's bytes. They stay within what a hostile author can send: some hundred
kilobytes or some megabytes.
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import (
    DebugAnnotation,
    Trace,
    TracePacket,
    TrackEvent,
)
from support.stories import StoryBuilder

from gilscope.perfetto import layout
from gilscope.perfetto.writer import write_trace
from gilscope.trace import limits
from gilscope.trace.schema import EventKind as K
from gilscope.trace.schema import Stack, Thread, Totals

# Everything that moves a cursor, names a terminal, turns the writing round or ends a line.
CONTROLS = "\x1b[2J\x1b]0;title\x07\x9b31m\u202e\u2066\u2028\n\r\x00\x7f\ud800"
MEGABYTE = 1_000_000


def whole(builder: StoryBuilder, **fields: object) -> bytes:
    """The story as a trace."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "t.pftrace")
        write_trace(builder.source(**fields), path)
        return path.read_bytes()


class Pieces(NamedTuple):
    """A trace's packets, each with its frame."""

    head: list[bytes]
    body: list[bytes]
    tail: list[bytes]

    @classmethod
    def of(cls, data: bytes) -> Pieces:
        """Take a trace apart."""
        packets = Trace.FromString(data).packet
        framed = [layout.frame(packet) for packet in packets]
        first = [packet.track_event.name for packet in packets].index(layout.METADATA)
        return cls(framed[:3], framed[3:first], framed[first:-1])

    def whole(self, events: int = 4) -> bytes:
        """The trace, with an end that fits."""
        tail = b"".join(self.tail)
        metadata = StoryBuilder().source().metadata
        end = layout.end(metadata, Totals(events=events, clamped=0), len(tail))
        return b"".join((*self.head, *self.body, tail, end))

    def with_tail(self, *tail: bytes) -> bytes:
        """The trace with another metadata."""
        return self._replace(tail=[*tail]).whole()


def small() -> StoryBuilder:
    """A process that holds its GIL once."""
    builder = StoryBuilder()
    builder.process()
    builder.thread()
    builder.gil()
    builder.event(0, K.PROCESS_START, 0)
    builder.event(0, K.THREAD_START, 0)
    builder.event(1, K.GIL_ACQUIRE, 0, 0)
    builder.event(9, K.GIL_RELEASE, 0, 0)
    return builder


def ended(builder: StoryBuilder) -> StoryBuilder:
    """With the ends that every story needs."""
    builder.event(max(row[0] for row in builder.rows) - builder.start_ns, K.PROCESS_END, 0)
    return builder


# ---- Text ---------------------------------------------------------------------------------------


def controls_everywhere() -> bytes:
    """A trace whose every free text has control characters."""
    builder = StoryBuilder()
    builder.process(command=(f"/bin/{CONTROLS}python", CONTROLS), stacks="told")
    for name in ("a", "b"):
        builder.thread(name=name + CONTROLS)
    builder.gil()
    builder.event(0, K.PROCESS_START, 0)
    builder.event(0, K.THREAD_START, 0)
    builder.event(0, K.THREAD_START, 1)
    at = 0
    for _ in range(20):
        for me, other in ((0, 1), (1, 0)):
            builder.event(at, K.GIL_ACQUIRE, me, 0)
            builder.event(at + 1, K.GIL_WAIT, other, 0, arg=1)
            at += 20_000_000
            builder.event(at, K.STACK, me, arg=1)
            builder.event(at, K.GIL_RELEASE, me, 0, arg=1)
            builder.event(at, K.GIL_ACQUIRE, other, 0, flags=1)
            builder.event(at + 1, K.GIL_RELEASE, other, 0)
            at += 2
    text = _sent(CONTROLS)
    stacks = (
        Stack(0, None, f"/srv/{text}/a{text}.py", f"f{text}", 1, False),
        Stack(1, 0, f"/srv/b{text}.py", f"g{text}", 2, False),
    )
    return whole(ended(builder), command=(f"python{CONTROLS}", CONTROLS), stacks=stacks)


def controls_in_broken_metadata() -> Iterable[bytes]:
    """Traces that are refused, where the refusal has a reason to repeat what they say."""
    trace = Pieces.of(whole(ended(small())))
    for change in (_unknown_field, _odd_name_of_value):
        yield trace.with_tail(_changed(trace.tail[0], change), *trace.tail[1:])
    head = [*trace.head[:2], _changed(trace.head[2], _odd_format)]
    yield trace._replace(head=head).whole()


def _changed(framed: bytes, change: Callable[[object], None]) -> bytes:
    packet = Trace.FromString(framed).packet[0]
    change(packet.track_event.debug_annotations)
    return layout.frame(packet)


def _unknown_field(annotations: object) -> None:
    annotations.add(name=_sent(CONTROLS), int_value=1)  # type: ignore[attr-defined]


def _odd_format(annotations: object) -> None:
    annotations[0].string_value = _sent(CONTROLS)  # type: ignore[index]


def _odd_name_of_value(annotations: object) -> None:
    annotations.add(name=_sent(CONTROLS), double_value=1.0)  # type: ignore[attr-defined]


def _sent(text: str) -> str:
    return text.replace("\ud800", "")  # UTF-8 cannot hold it


# ---- Size ---------------------------------------------------------------------------------------


def deep_stacks(rows: int = 6000) -> bytes:
    """Each row is called by the one before."""
    stacks = tuple(Stack(i, i - 1 if i else None, "/a.py", f"f{i}", 1, False) for i in range(rows))
    return whole(ended(small()), stacks=stacks)


def wide_stacks(size: int = 7 * MEGABYTE) -> bytes:
    """Stacks as deep and names as long as allowed, with as many leaves, each held, as there is
    room for."""
    builder = small()
    long = "x" * limits.TEXT_BYTES
    chain = [
        Stack(i, i - 1 if i else None, long, f"{i}{long}"[: limits.TEXT_BYTES], 1, i > 0)
        for i in range(limits.STACK_DEPTH - 1)
    ]
    leaves = (size - 2 * limits.TEXT_BYTES * len(chain)) // 300
    stacks = [
        *chain,
        *(Stack(len(chain) + i, len(chain) - 1, "", f"{i}", 1, True) for i in range(leaves)),
    ]
    for i in range(leaves):
        builder.event(10 + 2 * i, K.GIL_ACQUIRE, 0, 0)
        builder.event(11 + 2 * i, K.STACK, 0, arg=len(chain) + i)
        builder.event(11 + 2 * i, K.GIL_RELEASE, 0, 0)
    return whole(ended(builder), stacks=tuple(stacks))


def many_rows(size: int = 7 * MEGABYTE) -> bytes:
    """A table of stacks as long as the file."""
    rows = size // 80
    stacks = tuple(Stack(i, None, "/a.py", "f", i, False) for i in range(rows))
    return whole(ended(small()), stacks=stacks)


def many_threads(size: int = 7 * MEGABYTE) -> bytes:
    """A table of threads, with a track for each and nothing more, as long as the file."""
    builder = ended(small())
    first = builder.threads[0]
    start = builder.start_ns
    builder.threads += [
        Thread(i, 0, first.tid + i, "t", False, start, start, 0) for i in range(1, size // 185)
    ]
    return whole(builder)


def threads_without_tracks(size: int = 7 * MEGABYTE) -> bytes:
    """A table of threads as long as the file, and nothing else of them."""
    builder = ended(small())
    trace = Pieces.of(whole(builder))
    first = builder.threads[0]
    start = builder.start_ns
    builder.threads += [
        Thread(i, 0, first.tid + i, "t", False, start, start, 0) for i in range(1, size // 110)
    ]
    return trace.with_tail(*layout.tail(builder.source().metadata))


def tiny_entries(where: str, size: int = 7 * MEGABYTE) -> bytes:
    """Metadata with as many empty entries as there is room for, in one of its places."""
    trace = Pieces.of(whole(ended(small())))
    entry = {
        "annotations": field(TrackEvent.DEBUG_ANNOTATIONS_FIELD_NUMBER, b""),
        "rows": field(DebugAnnotation.ARRAY_VALUES_FIELD_NUMBER, b""),
        "fields": field(DebugAnnotation.DICT_ENTRIES_FIELD_NUMBER, b""),
        "words": field(DebugAnnotation.ARRAY_VALUES_FIELD_NUMBER, b"\x32\x00"),
    }[where]
    more = entry * (size // len(entry))
    if where != "annotations":
        name = field(DebugAnnotation.NAME_FIELD_NUMBER, b"command" if where == "words" else b"x")
        more = field(TrackEvent.DEBUG_ANNOTATIONS_FIELD_NUMBER, name + more)
    packet = Trace.FromString(trace.tail[0]).packet[0]
    event = packet.track_event
    if where == "words":
        kept = [a for a in event.debug_annotations if a.name != "command"]
        del event.debug_annotations[:]
        event.debug_annotations.extend(kept)
    body = event.SerializeToString() + more
    packet.ClearField("track_event")
    changed = packet.SerializeToString() + field(TracePacket.TRACK_EVENT_FIELD_NUMBER, body)
    return trace.with_tail(field(1, changed), *trace.tail[1:])


def field(number: int, body: bytes) -> bytes:
    """A field of the wire format that has a length."""
    return varint(number << 3 | 2) + varint(len(body)) + body


def varint(value: int) -> bytes:
    """The wire format's number."""
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    data.append(value)
    return bytes(data)


def tracks_again(size: int = 7 * MEGABYTE) -> bytes:
    """The description of one track, over and over."""
    trace = Pieces.of(whole(ended(small())))
    first = next(
        p for p in trace.body if Trace.FromString(p).packet[0].HasField("track_descriptor")
    )
    return trace._replace(body=[first] * (size // len(first))).whole()


def gaps(size: int = 7 * MEGABYTE) -> bytes:
    """Many threads on a GIL, and then gaps of it, each of which concerns them all."""
    builder = small()
    threads = size // 3000
    for number in range(1, threads):
        builder.thread(name=f"{number}")
        builder.event(10 + number * 4, K.GIL_ACQUIRE, number, 0)
        builder.event(11 + number * 4, K.GIL_RELEASE, number, 0)
    at = 10 + threads * 4
    for number in range(size // 2 // 24):
        builder.event(at + number, K.GIL_LOST, 0, 0, arg=1)
    return whole(ended(builder))


def wakeups(size: int = 7 * MEGABYTE) -> bytes:
    """A thread on many GILs, and then wakeups of it, each of which looks for one of them."""
    builder = small()
    gils = size // 3000
    for number in range(1, gils):
        builder.gil()
        builder.event(10 + number * 4, K.GIL_ACQUIRE, 0, number)
        builder.event(11 + number * 4, K.GIL_RELEASE, 0, number)
    builder.thread(name="waker")
    at = 10 + gils * 4
    for number in range(size // 2 // 30):
        builder.event(at + number, K.GIL_WAKEUP, 1, 0, arg=1)
    return whole(ended(builder))


def packed(data: bytes, claimed: int | None = None) -> bytes:
    """The data as gzip, which says that it unpacks to `claimed` bytes."""
    compressor = zlib.compressobj(1, wbits=31)
    done = compressor.compress(data) + compressor.flush()
    return done if claimed is None else done[:-4] + claimed.to_bytes(4, "little")


def bomb(claimed: int | None = None) -> bytes:
    """Some hundred kilobytes that unpack to 400 MB: a whole head, then one track without end."""
    return packed(tracks_again(400 * MEGABYTE), claimed)


COSTLY: dict[str, Callable[[], bytes]] = {
    "deep stacks": deep_stacks,
    "wide stacks": wide_stacks,
    "many rows": many_rows,
    "many threads": many_threads,
    "threads without tracks": threads_without_tracks,
    **{
        f"tiny {where}": partial(tiny_entries, where)
        for where in ("annotations", "rows", "fields", "words")
    },
    "tracks again": tracks_again,
    "gaps": gaps,
    "wakeups": wakeups,
    "bomb": bomb,
    "bomb that lies": partial(bomb, 1000),
}

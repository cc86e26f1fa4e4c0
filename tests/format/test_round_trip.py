"""What is written is what is read: events, metadata, totals; and Perfetto sees the same story."""

from __future__ import annotations

import gzip
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TracePacket
from support.stories import MemorySource, StoryBuilder, possible_stories, rolled_story, told
from support.wakers import CONDITIONS, Wakers, object_of

from gilscope.benchmarks.synthetic import SyntheticSource
from gilscope.perfetto import layout, tracks
from gilscope.perfetto.codec import InternedTable, interned_names
from gilscope.perfetto.reader import TraceFile, open_trace
from gilscope.perfetto.writer import TraceWriter, write_trace
from gilscope.safe_text import escaped
from gilscope.trace.schema import (
    NO_GIL,
    SYNC_DETAIL_SHIFT,
    SYNC_EVENTS,
    SYNC_OBJECT_MASK,
    EventKind,
    EventSource,
    Metadata,
    Policy,
    SyncKind,
    Totals,
)
from gilscope.trace.story import checked
from gilscope.trace.text import lines

K = EventKind


def events_of(source: EventSource) -> NDArray[np.void]:
    return np.concatenate([batch.copy() for batch in source.batches()])


def written(source: EventSource, folder: Path, name: str = "t.pftrace") -> TraceFile:
    path = folder / name
    write_trace(source, path)
    return open_trace(path)


def check_round_trip(source: MemorySource, folder: Path, name: str = "t.pftrace") -> TraceFile:
    trace = written(source, folder, name)
    batches = [batch.copy() for batch in trace.batches()]
    events = np.concatenate(batches) if batches else source.events[:0]
    assert events.tolist() == source.events.tolist()
    assert trace.metadata == source.metadata
    assert trace.totals == source.totals
    return trace


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("traces")


@settings(max_examples=150, deadline=None)
@given(source=possible_stories())
def test_possible_stories_come_back(source: MemorySource, folder: Path) -> None:
    check_round_trip(source, folder)


def test_locks_conditions_and_atomic_sections_come_back(root: Path, tmp_path: Path) -> None:
    story = (root / "tests/golden/stories/conditions.story").read_text(encoding="utf-8")
    trace = check_round_trip(told(story), tmp_path)
    assert "".join(lines(trace)) == "".join(lines(told(story)))


@settings(max_examples=40, deadline=None)
@given(source=possible_stories())
def test_protobuf_classes_read_what_the_encoder_meant(source: MemorySource, folder: Path) -> None:
    written(source, folder)
    trace = Trace.FromString((folder / "t.pftrace").read_bytes())
    packets, arrived = shown(trace)
    expected, expected_arrived = meant(source)
    assert by_track(packets) == by_track(expected)
    assert arrived == expected_arrived


@pytest.mark.parametrize("name", ["t.pftrace", "t.pftrace.gz"])
def test_large_stories_come_back_in_batches(name: str, tmp_path: Path) -> None:
    source = rolled_story(3, 150_000, ((5, 2), (3, 1), (2, 3)))
    check_round_trip(source, tmp_path, name)


def test_compression_is_told_by_content_and_repeats_exactly(tmp_path: Path) -> None:
    source = rolled_story(4, 2_000)
    for name in ("a.pftrace", "a.pftrace.gz", "b.pftrace.gz"):
        write_trace(source, tmp_path / name)
    packed = (tmp_path / "a.pftrace.gz").read_bytes()
    assert packed == (tmp_path / "b.pftrace.gz").read_bytes()
    assert gzip.decompress(packed) == (tmp_path / "a.pftrace").read_bytes()
    renamed = tmp_path / "renamed.pftrace"
    renamed.write_bytes(packed)
    assert len(events_of(open_trace(renamed))) == len(source.events)


def test_synthetic_recordings_come_back(tmp_path: Path) -> None:
    source = SyntheticSource(200_001, n_processes=3)
    events = events_of(source)
    assert len(events) == 200_001
    trace = written(source, tmp_path)
    assert (events_of(trace) == events).all()
    assert trace.metadata == source.metadata
    assert trace.totals == Totals(events=200_001, clamped=0)


@pytest.mark.parametrize("n_events", [54, 1_000, 70_000])
def test_synthetic_recordings_are_possible(n_events: int) -> None:
    source = SyntheticSource(n_events, n_processes=3)
    assert sum(len(batch) for batch in checked(source)) == n_events
    assert source.metadata.end_ns == max(batch["time_ns"].max() for batch in source.batches())
    with pytest.raises(ValueError, match="too few"):
        SyntheticSource(53, n_processes=3)


def test_unknown_states_gaps_and_sudden_ends(tmp_path: Path) -> None:
    source = told(
        """
        0 main process.start
        0 main thread.start
        1 a thread.start
        2 b thread.start
        5 a gil.release arg=1       # it held before the trace began
        6 b gil.acquire waited      # its wait began before, too
        7 a gil.request arg=1
        9 b gil.yield cpu=0 arg=1
        9 a gil.acquire waited
        10 b gil.wait cpu arg=1
        12 b gil.lost arg=3         # closes a's hold and b's wait
        12 b gil.yield arg=2
        13 main gil.wait io arg=1
        14 a gil.acquire
        15 a thread.end             # holds still
        16 main gil.acquire waited gil=1
        17 b gil.wait io arg=1
        18 b thread.end             # waits still
        19 main process.end arg=1
        """
    )
    check_round_trip(source, tmp_path)


def test_a_trace_without_events_is_valid(tmp_path: Path) -> None:
    check_round_trip(StoryBuilder().source(), tmp_path)


AWKWARD_TEXT = st.text(st.characters(), max_size=8)  # lone surrogates and NULs among them
WORDS = st.text(st.characters(), max_size=8).map(
    escaped
)  # what gilscope has words for is printable


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(AWKWARD_TEXT, min_size=4, max_size=4),
    words=st.tuples(WORDS, WORDS),
    number=st.integers(0, 2**62),
    offset=st.integers(-(2**40), 2**61),
    maybe=st.one_of(st.none(), st.integers(-1, 2**31)),
)
def test_metadata_comes_back(  # noqa: PLR0917
    texts: list[str],
    words: tuple[str, str],
    number: int,
    offset: int,
    maybe: int | None,
    folder: Path,
) -> None:
    stopped = None if maybe is None else words[0]
    builder = StoryBuilder()
    parent = builder.process(command=(texts[0], ""), python=stopped, start_ns=number)
    builder.process(parent=parent, command=(), feed=None, interpreter="none", lost_events=number)
    builder.thread(1, is_main=False)
    builder.threads[0] = replace(builder.threads[0], name=texts[1], lost_events=number)
    builder.gil(1)
    source = builder.source(
        command=tuple(texts),
        end_ns=number,
        realtime_offset_ns=offset,
        stopped=stopped,
        exit_code=maybe,
        policy=Policy(words[1], maybe, None),
    )
    check_round_trip(source, folder)


def test_numbers_that_return_are_told_apart(tmp_path: Path) -> None:
    builder = StoryBuilder()
    for _ in range(3):
        process = builder.process(pid=100)
        builder.thread(process, tid=100)
        builder.thread(process, tid=107)
        builder.thread(process, tid=107)
    trace = check_round_trip(builder.source(), tmp_path)
    assert [t.tid for t in trace.metadata.threads] == 3 * [100, 107, 107]
    packets = Trace.FromString((tmp_path / "t.pftrace").read_bytes()).packet
    shown_threads = [
        (p.track_descriptor.thread.pid, p.track_descriptor.thread.tid)
        for p in packets
        if p.track_descriptor.HasField("thread")
    ]
    shown = [p.track_descriptor.process for p in packets if p.track_descriptor.HasField("process")]
    again = "python app.py (pid 100)"
    assert [p.process_name for p in shown] == ["python app.py", again, again]
    step = tracks.REUSE
    pids = [100, 100 + step, 100 + 2 * step]
    assert [pid for pid, _ in shown_threads] == [pid for pid in pids for _ in range(3)]
    assert [tid for _, tid in shown_threads[::3]] == pids
    assert len({tid for _, tid in shown_threads}) == 9
    assert shown_threads[1][1] == 107
    assert shown_threads[2][1] == 107 + step


def test_locate_gives_the_packet_of_an_event(tmp_path: Path) -> None:
    source = rolled_story(5, 3_000, rare=0)  # no gap or end of a thread implies the end of a slice
    trace = written(source, tmp_path)
    data = (tmp_path / "t.pftrace").read_bytes()
    for index in (0, 1, 700, len(source.events) - 1):
        at = trace.locate(index)
        packet = Trace.FromString(data[at : at + 2 + data[at + 1]]).packet[0]
        assert packet.HasField("track_event")
        assert len(trace_events_before(data[:at], trace.metadata)) == index
    with pytest.raises(IndexError):
        trace.locate(len(source.events))


def is_of_detail(packet: TracePacket) -> bool:
    """Begin or end of a slice of a detail, for people (tests/format/test_details.py)."""
    return bool(packet.HasField("track_event") and not packet.sequence_flags)


def trace_events_before(data: bytes, metadata: Metadata) -> list[object]:
    """The events of a trace's beginning, told by packets that protobuf classes read."""
    end, instant = 2, 3
    counted = []
    without_gil: set[int] = set()  # sequences
    for packet in Trace.FromString(data).packet:
        event, sequence = packet.track_event, packet.trusted_packet_sequence_id
        if packet.HasField("trace_packet_defaults"):
            if not packet.trace_packet_defaults.track_event_defaults.extra_counter_track_uuids:
                without_gil.add(sequence)
            continue
        if is_of_detail(packet) or not event.type or event.HasField("track_uuid"):
            continue
        woken = event.type == instant and event.name_iid == 15
        if (
            event.extra_counter_values
            or event.debug_annotations
            or (event.type == end and sequence in without_gil)
            or (event.type == instant and event.name_iid >= 7 and not woken)
        ):
            counted.append(packet)
    assert metadata.gils
    return counted


# ---- The oracle: the same story told by two who know nothing of each other ----------------------

# time, track, type, name, category, waiters, annotations
Shown = tuple[int, str, str, str, str, tuple[int, ...], dict[str, int]]


def shown(trace: Trace) -> tuple[list[Shown], int]:
    """What Perfetto reads: hot packets with their state applied; and how many flows arrive."""
    tracks: dict[int, str] = {}
    names: dict[tuple[int, int], str] = {}
    categories: dict[tuple[int, int], str] = {}
    annotations: dict[tuple[int, int], str] = {}
    clocks: dict[int, int] = {}
    defaults: dict[int, int] = {}
    flows: set[int] = set()
    arrived = 0
    out: list[Shown] = []
    for packet in trace.packet:
        sequence = packet.trusted_packet_sequence_id
        descriptor = packet.track_descriptor
        if descriptor.uuid:
            thread = descriptor.HasField("thread")
            name = descriptor.name
            if name == layout.ATOMIC_TRACK:
                name = f"atomic {descriptor.parent_uuid & 0xFFFFFFFF}"
            tracks[descriptor.uuid] = f"thread {descriptor.uuid & 0xFFFFFFFF}" if thread else name
        if packet.HasField("trace_packet_defaults"):
            clocks[sequence] = packet.clock_snapshot.clocks[1].timestamp
            defaults[sequence] = packet.trace_packet_defaults.track_event_defaults.track_uuid
            names.update({(sequence, n.iid): n.name for n in packet.interned_data.event_names})
            categories.update(
                {(sequence, c.iid): c.name for c in packet.interned_data.event_categories}
            )
            annotations.update(
                {(sequence, a.iid): a.name for a in packet.interned_data.debug_annotation_names}
            )
        if sequence == layout.MAIN_SEQUENCE or not packet.HasField("track_event"):
            continue
        event = packet.track_event
        if not packet.HasField("timestamp_clock_id"):
            clocks[sequence] += packet.timestamp
        if is_of_detail(packet):
            continue
        for flow in event.flow_ids:
            assert flow not in flows
            flows.add(flow)
        arrived += len(event.terminating_flow_ids)
        assert flows.issuperset(event.terminating_flow_ids)
        out.append(
            (
                clocks[sequence],
                tracks[event.track_uuid or defaults[sequence]],
                ("", "begin", "end", "instant")[event.type],
                names[sequence, event.name_iid] if event.name_iid else "",
                ",".join(categories[sequence, c] for c in event.category_iids),
                tuple(event.extra_counter_values),
                {
                    annotations[sequence, a.name_iid]: a.pointer_value or a.uint_value
                    for a in event.debug_annotations
                    if (sequence, a.name_iid) in annotations  # a detail interns its own
                },
            )
        )
    return out, arrived


def by_track(packets: list[Shown]) -> dict[str, list[Shown]]:
    """Slices that one event ends at once may end in any order, but for those on one track."""
    tracks: dict[str, list[Shown]] = {}
    for packet in packets:
        tracks.setdefault(packet[1], []).append(packet)
    return tracks


class _Teller:
    """Tells events as packets, by docs/trace-format.md and not by encode.c."""

    def __init__(self, source: MemorySource) -> None:
        self.metadata = source.metadata
        self.out: list[Shown] = []
        self.open: dict[tuple[int, int], str] = {}
        self.times: Counter[tuple[int, int]] = Counter()
        self.flow: dict[int, bool] = {}
        self.arrived = 0
        self.wakeups: set[tuple[int, int]] = set()  # (thread, GIL) that a flow leads to
        self.waits: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)  # object, since
        self.own_times: Counter[int] = Counter()
        self.sections: Counter[int] = Counter()
        self.wakers = Wakers()
        for row in source.events.tolist():
            self.tell(row)

    def put(  # noqa: PLR0917 - a packet's fields
        self,
        time: int,
        track: str,
        kind: str,
        name: str = "",
        category: str = "",
        waiters: tuple[int, ...] = (),
        **annotations: int,
    ) -> None:
        self.out.append((time, track, kind, name, category, waiters, annotations))

    def process(self, thread: int) -> int:
        return self.metadata.threads[thread].process

    def owner_track(self, gil: int) -> str:
        mine = [g.id for g in self.metadata.gils if g.process == self.metadata.gils[gil].process]
        return "GIL owner" if mine[0] == gil else f"GIL {mine.index(gil) + 1} owner"

    def close(self, thread: int, gil: int, time: int, waiters: tuple[int, ...] = ()) -> None:
        held = self.open.pop((thread, gil)) == "hold"
        self.wakeups.discard((thread, gil))
        time = max(time, self.times[thread, gil])
        self.put(time, f"thread {thread}", "end", "", "", waiters)
        if held:
            self.put(time, self.owner_track(gil), "end")

    def close_waits(self, thread: int, time: int) -> None:
        for _ in self.waits.pop(thread, ()):
            self.put(max(time, self.own_times[thread]), f"thread {thread}", "end")

    def close_own(self, thread: int, time: int) -> None:
        self.close_waits(thread, time)
        for _ in range(self.sections.pop(thread, 0)):
            self.put(time, f"atomic {thread}", "end")

    def tell(self, row: tuple[int, int, int, int, int, int]) -> None:
        time, arg, thread, gil, kind, flags = row
        if K(kind) in SYNC_EVENTS:
            self.sync(time, arg, thread, K(kind))
        elif kind == K.STACK:
            stacks = ("stack, end of hold", "stack, end of wait")
            name = (*stacks, "stack of hold, seen by who asked")[flags]
            self.own_times[thread] = time
            self.put(time, f"thread {thread}", "instant", name, leaf=arg)
        elif kind >= K.ATOMIC_ENTER:
            self.atomic(time, arg, thread, K(kind))
        elif gil == NO_GIL:
            self.life(time, arg, thread, K(kind))
        else:
            self.of_gil(time, arg, thread, gil, K(kind), flags)

    def life(self, time: int, arg: int, thread: int, kind: K) -> None:
        self.own_times[thread] = time
        if kind == K.THREAD_LOST:
            self.put(time, f"thread {thread}", "instant", "events lost", **counted(arg))
        else:
            name = kind.label.replace(".", " ") + (", unclean" if arg else "")
            self.put(time, f"thread {thread}", "instant", name)
        self.imply(kind, thread, NO_GIL, time)

    def sync(self, time: int, arg: int, thread: int, kind: K) -> None:
        track, about, process = f"thread {thread}", object_of(kind, arg), self.process(thread)
        detail, sort = arg >> SYNC_DETAIL_SHIFT, arg & 0xF
        shown = {"object": arg & SYNC_OBJECT_MASK}
        category = SyncKind(sort).label if sort else ""
        what = "condition" if kind in CONDITIONS else "lock"
        waits = self.waits[thread]
        self.own_times[thread] = time
        if kind in (K.LOCK_WAIT, K.COND_WAIT):
            waits.append((about, time))
            self.put(time, track, "begin", f"waiting for {what}", category, **shown)
        elif kind in (K.LOCK_RELEASE, K.COND_NOTIFY):
            notify = kind == K.COND_NOTIFY
            name = "condition notify" if notify else "lock release"
            self.put(
                time,
                track,
                "instant",
                name,
                category,
                **shown,
                **({"woken": detail} if notify else {}),
            )
            self.wakers.put(process, about, time, thread, min(detail, 4) if notify else 1)
        else:
            timed_out = {"timed_out": 1} if detail else {}
            if not waits:
                name = "condition wake" if kind == K.COND_WAKE else "lock acquire"
                self.put(time, track, "instant", name, category, **shown, **timed_out)
                return
            self.put(time, track, "end", **timed_out)
            if not detail and self.wakers.take(process, *waits[-1]):
                self.put(time, track, "instant", "woken")
                self.arrived += 1
            waits.pop()

    def atomic(self, time: int, arg: int, thread: int, kind: K) -> None:
        track = f"atomic {thread}"
        if kind == K.ATOMIC_ENTER:
            self.sections[thread] += 1
            self.put(time, track, "begin", "atomic section", depth=arg)
        elif kind == K.ATOMIC_DEFERRED:
            self.put(time, track, "instant", "deferred yield", depth=arg)
        elif self.sections[thread]:
            self.sections[thread] -= 1
            self.put(time, track, "end")
        else:
            self.put(time, track, "instant", "atomic exit", depth=arg)

    def of_gil(  # noqa: PLR0917 - an event's fields
        self, time: int, arg: int, thread: int, gil: int, kind: K, flags: int
    ) -> None:
        track = f"thread {thread}"
        if kind == K.GIL_WAIT:
            self.put(time, track, "begin", "waiting for GIL", "cpu" if flags else "io", (arg,))
            self.open[thread, gil] = "wait"
        elif kind == K.GIL_ACQUIRE:
            self.arrived += (thread, gil) in self.wakeups
            if (thread, gil) in self.open:
                self.close(thread, gil, time)
            self.put(time, track, "begin", "holds GIL", "waited" if flags else "", (arg,))
            self.put(time, self.owner_track(gil), "begin", self.name(thread))
            self.open[thread, gil] = "hold"
            self.arrived += bool(flags and self.flow.get(gil))
            self.flow[gil] = False
        elif kind in (K.GIL_RELEASE, K.GIL_YIELD):
            known = (thread, gil) in self.open
            if kind == K.GIL_YIELD or not known:
                name = "forced yield" if kind == K.GIL_YIELD else "GIL release"
                self.put(time, track, "instant", name, "", () if known else (arg,))
            if known:
                self.close(thread, gil, time, (arg,))
                self.flow[gil] = arg > 0
        elif kind == K.GIL_REQUEST:
            self.put(time, track, "instant", "GIL drop request", "", (arg,))
        elif kind == K.GIL_WAKEUP:
            self.put(time, track, "instant", "GIL wakeup", **({"thread": arg - 1} if arg else {}))
            if self.open.get((arg - 1, gil)) == "wait":
                self.wakeups.add((arg - 1, gil))
        else:
            self.put(time, track, "instant", "GIL events lost", **counted(arg))
            self.imply(K.GIL_LOST, thread, gil, time)
        self.times[thread, gil] = time

    def name(self, thread: int) -> str:
        return self.metadata.threads[thread].name

    def imply(self, kind: K, thread: int, gil: int, time: int) -> None:
        process = self.process(thread)
        for other in self.metadata.threads:
            if (kind == K.PROCESS_END and other.process == process) or (
                kind in (K.THREAD_END, K.THREAD_LOST) and other.id == thread
            ):
                self.close_own(other.id, time)
        for pair in list(self.open):
            ends = {
                K.THREAD_END: pair[0] == thread,
                K.PROCESS_END: self.process(pair[0]) == process,
                K.GIL_LOST: pair[1] == gil,
            }.get(kind, False)
            if ends:
                if self.open[pair] == "wait":
                    self.close_waits(pair[0], time)
                self.close(*pair, time)
        if kind in (K.PROCESS_END, K.GIL_LOST):
            for of_process in self.metadata.gils:
                if of_process.id == gil or (
                    kind == K.PROCESS_END and of_process.process == process
                ):
                    self.flow[of_process.id] = False


def counted(missing: int) -> dict[str, int]:
    """How many are missing, where that is known."""
    return {"count": missing} if missing else {}


def meant(source: MemorySource) -> tuple[list[Shown], int]:
    teller = _Teller(source)
    return teller.out, teller.arrived


def test_the_names_of_the_format_stand() -> None:
    """They are in files that users keep, and their hash is the colour of a slice."""
    assert list(interned_names(InternedTable.NAMES).values()) == [
        "holds GIL",
        "waiting for GIL",
        "forced yield",
        "GIL drop request",
        "GIL release",
        "GIL events lost",
        "thread start",
        "thread end",
        "process start",
        "process end",
        "process end, unclean",
        "GIL wakeup",
        "waiting for lock",
        "waiting for condition",
        "woken",
        "lock acquire",
        "condition wake",
        "lock release",
        "condition notify",
        "atomic section",
        "atomic exit",
        "deferred yield",
        "events lost",
        "stack, end of hold",
        "stack of hold, seen by who asked",
        "stack, end of wait",
        "stack, wait for a lock or condition",
        "stack, of who ends the wait",
        "on a processor since it was asked for the GIL",
        "asleep since it was asked for the GIL",
        "garbage collections",
        "garbage collections took at least",
        "garbage collections took at most",
    ]
    sorts = [kind.label for kind in SyncKind if kind]
    assert list(interned_names(InternedTable.CATEGORIES).values()) == [
        "io",
        "cpu",
        "waited",
        *sorts,
    ]
    assert list(interned_names(InternedTable.ANNOTATIONS).values()) == [
        "count",
        "object",
        "woken",
        "timed_out",
        "thread",
        "depth",
        "leaf",
        "cpu_ns",
        "percent",
        "ns",
    ]


def test_a_thread_that_gets_another_name_while_it_is_written(tmp_path: Path) -> None:
    """Its track is described again, by whatever it is called when another packet needs it."""
    builder = StoryBuilder()
    builder.process()
    builder.thread(name="first")
    builder.gil()
    builder.gil()
    for number, gil in enumerate((0, 1)):
        builder.event(10 * number + 1, K.GIL_ACQUIRE, 0, gil)
        builder.event(10 * number + 2, K.GIL_RELEASE, 0, gil)
    source = builder.source()
    path = tmp_path / "t.pftrace"
    with path.open("wb") as file:
        writer = TraceWriter(file, source.metadata, source.name, packed=False)
        for number, name in enumerate(("second", "third")):
            writer.write(source.events[2 * number : 2 * number + 2])
            threads = (replace(source.metadata.threads[0], name=name),)
            renamed = replace(source.metadata, threads=threads)
            writer.grow(renamed)
        writer.finish(renamed, 0)
        writer.close()
    trace = open_trace(path)
    assert sum(len(batch) for batch in trace.batches()) == 4
    assert [thread.name for thread in trace.metadata.threads] == ["third"]
    described = [
        packet.track_descriptor.thread.thread_name
        for packet in Trace.FromString(path.read_bytes()).packet
        if packet.track_descriptor.HasField("thread")
    ]
    assert described == ["first", "second", "third"]

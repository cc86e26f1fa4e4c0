"""What is no whole trace of gilscope is refused in one line; a failed writer leaves nothing."""

from __future__ import annotations

import errno
import gzip
import os
import random
import re
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TracePacket, TrackEvent
from support.stories import MemorySource, StoryBuilder, rolled_story, told

from gilscope.errors import GilscopeError, ImpossibleStory, TraceError
from gilscope.perfetto import layout
from gilscope.perfetto.reader import open_trace
from gilscope.perfetto.writer import write_trace
from gilscope.trace.schema import Totals

SMALL = """
    0 main process.start
    0 main thread.start
    1 main gil.acquire
    2 worker thread.start
    3 worker gil.wait io arg=1
    8 worker gil.request arg=1
    9 main gil.yield arg=1
    300 worker gil.acquire waited
    301 main gil.wait cpu arg=1
    302 main gil.lost arg=200
    303 worker gil.release
    304 worker gil.acquire
    305 main process.end
"""


GCC = ("gcc", "-std=c11", "-g", "-O1", "-Wall", "-Wextra", "-Werror")
SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def read_all(path: Path) -> int:
    return sum(len(batch) for batch in open_trace(path).batches())


def refusal(path: Path) -> str:
    """The one line that a user sees."""
    with pytest.raises(TraceError) as caught:
        read_all(path)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(f"{path}: ")
    return line


SYNC = """
    0 main process.start
    0 main thread.start
    1 main gil.acquire
    2 worker cond.wait native object=0x7f0000001000
    3 main cond.notify native object=0x7f0000001000 woken=2
    4 worker cond.wake native object=0x7f0000001000
    5 worker gil.wait io arg=1
    6 main gil.release arg=1
    7 main gil.wakeup to=worker
    8 worker gil.acquire waited
    9 worker lock.release pymutex object=0x7f0000002000
    10 main lock.wait pymutex object=0x7f0000002000
    11 main lock.acquire pymutex object=0x7f0000002000 timed-out
    12 worker atomic.enter depth=1
    13 worker atomic.enter depth=2
    14 worker atomic.deferred depth=2
    15 worker atomic.exit depth=2
    16 main lock.wait thread-lock
    17 main thread.lost arg=300
    18 main lock.acquire native object=0x10
    19 main gil.wakeup
    20 main process.end
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.pftrace"
    write_trace(told(SMALL), path)
    return path


@pytest.fixture(params=[SMALL, SYNC], ids=["gil", "sync"])
def each(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "each.pftrace"
    write_trace(told(request.param), path)
    return path


def test_cut_short_at_every_byte(each: Path, tmp_path: Path) -> None:
    whole = each.read_bytes()
    path = tmp_path / "cut.pftrace"
    for size in range(1, len(whole)):
        path.write_bytes(whole[:size])
        assert f"offset {size}: " in refusal(path)
    path.write_bytes(b"")
    assert refusal(path).endswith("the file is empty")


def test_compressed_and_cut_short_at_every_byte(small: Path, tmp_path: Path) -> None:
    packed = gzip.compress(small.read_bytes())
    path = tmp_path / "cut.pftrace.gz"
    for size in range(2, len(packed)):
        path.write_bytes(packed[:size])
        refusal(path)
    path.write_bytes(packed + b"tail")
    refusal(path)
    broken = bytearray(packed)
    broken[-6] ^= 1  # its checksum
    path.write_bytes(broken)
    assert "broken compression" in refusal(path)


def test_each_byte_damaged(each: Path, tmp_path: Path) -> None:
    """Damage is refused, or gives other data of the same form: times, numbers and texts vary."""
    whole = each.read_bytes()
    path = tmp_path / "damaged.pftrace"
    passed = 0
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << at % 8
        path.write_bytes(damaged)
        with suppress(TraceError):  # nothing else comes through
            read_all(path)
            passed += 1
    assert 0 < passed < len(whole) / 2


def fields_of(packet: TracePacket) -> Iterator[tuple[str, Callable[[TracePacket], None]]]:
    """Every change of one field of a hot packet: its name, and what makes it."""

    def change(part: str, field: str, value: object) -> Callable[[TracePacket], None]:
        def apply(target: TracePacket) -> None:
            message = getattr(target, part) if part else target
            if isinstance(value, list):
                del getattr(message, field)[:]
                getattr(message, field).extend(value)
            else:
                setattr(message, field, value)

        return apply

    event = packet.track_event
    yield "sequence", change("", "trusted_packet_sequence_id", 99)
    yield "flags", change("", "sequence_flags", 1)
    yield "clock", change("", "timestamp_clock_id", 64)
    yield "type", change("track_event", "type", event.type % 3 + 1)
    yield "no type", change("track_event", "type", TrackEvent.TYPE_UNSPECIFIED)
    yield "name", change("track_event", "name_iid", 77)
    yield "category", change("track_event", "category_iids", [77])
    yield "track", change("track_event", "track_uuid", 12345)
    yield "too many waiters", change("track_event", "extra_counter_values", [4096])
    yield "two counters", change("track_event", "extra_counter_values", [1, 1])
    yield "flow", change("track_event", "flow_ids", [555])
    yield "arriving flow", change("track_event", "terminating_flow_ids", [555])
    yield "unknown field", change("track_event", "source_location_iid", 1)
    yield "no such annotation", annotated(99, uint_value=1)
    yield "a text for an annotation", annotated(2, string_value="x")


def annotated(name: int, **value: object) -> Callable[[TracePacket], None]:
    """One annotation more."""

    def apply(target: TracePacket) -> None:
        target.track_event.debug_annotations.add(name_iid=name, **value)

    return apply


def test_each_field_of_each_hot_packet_changed(each: Path, tmp_path: Path) -> None:
    trace = Trace.FromString(each.read_bytes())
    path = tmp_path / "changed.pftrace"
    hot = [i for i, p in enumerate(trace.packet) if p.sequence_flags == layout.NEEDS_STATE]
    assert len(hot) > 15
    for index in hot:
        for name, change in fields_of(trace.packet[index]):
            changed = Trace.FromString(each.read_bytes())
            change(changed.packet[index])
            path.write_bytes(canonical(changed))
            line = refusal(path)
            assert re.search(r": offset \d+: ", line), (name, line)


def canonical(trace: Trace) -> bytes:
    """Bytes of a Trace. Protobuf writes fields in ascending order, as encode.c does; but a counter
    of 0 and a delta of 0 must stay present, which proto2 keeps."""
    data: bytes = trace.SerializeToString()
    return data


def test_protobuf_classes_write_the_same_bytes(each: Path) -> None:
    assert canonical(Trace.FromString(each.read_bytes())) == each.read_bytes()


def test_packets_left_out_or_told_twice(small: Path, tmp_path: Path) -> None:
    """No slice's packet can go or come twice unnoticed. (An instant that implies nothing can; and
    a yield without its instant is a release.)"""
    packets = Trace.FromString(small.read_bytes()).packet
    slices = [
        index
        for index, packet in enumerate(packets)
        if packet.track_event.type in (TrackEvent.TYPE_SLICE_BEGIN, TrackEvent.TYPE_SLICE_END)
    ]
    assert len(slices) == 16
    path = tmp_path / "t.pftrace"
    for index in slices:
        for copies in (0, 2):
            changed = [*packets[:index], *copies * [packets[index]], *packets[index + 1 :]]
            path.write_bytes(layout.frame(*changed))
            refusal(path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda packets: packets[:-1], "cut short"),
        (lambda packets: [*packets, packets[5]], "after the end"),
        (lambda packets: [*packets, packets[-1]], "a broken end"),
        (lambda packets: [*packets[:-1], packets[5], packets[-1]], "a broken end"),
        (lambda packets: packets[1:], "not one by gilscope"),
        (lambda packets: [packets[0], *packets[2:]], "not one by gilscope"),
        (lambda packets: [*packets[:2], *packets[3:]], "not one by gilscope"),
        (lambda packets: [*packets[:9], TracePacket(trigger={}), *packets[9:]], "does not write"),
        (lambda packets: [*packets[:9], TracePacket(), *packets[9:]], "does not write"),
    ],
)
def test_rare_packets_out_of_place(
    change: Callable[[list[TracePacket]], list[TracePacket]],
    reason: str,
    small: Path,
    tmp_path: Path,
) -> None:
    path = tmp_path / "t.pftrace"
    path.write_bytes(layout.frame(*change(list(Trace.FromString(small.read_bytes()).packet))))
    assert reason in refusal(path)


@pytest.mark.parametrize(
    ("entry", "value", "reason"),
    [
        ("format", 1, "format 1"),
        ("start_ns", -1, "broken metadata"),
        ("clock_source", 5, "clock_source: not a value of type str"),
        ("command", "python", "command: not a list"),
        ("colour", "red", "colour: an unknown field"),
        ("lost_events", None, "lost_events: not a value of type int"),
    ],
)
def test_metadata_that_does_not_fit(
    entry: str, value: object, reason: str, small: Path, tmp_path: Path
) -> None:
    trace = Trace.FromString(small.read_bytes())
    behind = next(p for p in trace.packet if p.track_event.name == layout.METADATA)
    changed = trace.packet[2] if entry == "format" else behind
    annotations = changed.track_event.debug_annotations
    kept = [a for a in annotations if a.name != entry]
    del annotations[:]
    annotations.extend([*kept, *layout.entries({entry: value})])
    metadata = [p for p in trace.packet if p.track_event.name == layout.METADATA]
    size = next(
        a for a in trace.packet[-1].track_event.debug_annotations if a.name == "metadata_bytes"
    )
    size.int_value = len(layout.frame(*metadata))
    path = tmp_path / "t.pftrace"
    path.write_bytes(trace.SerializeToString())
    assert reason in refusal(path)


def foreign() -> bytes:
    packet = TracePacket(timestamp=5, trusted_packet_sequence_id=3)
    packet.clock_snapshot.primary_trace_clock = 6
    return layout.frame(packet, *1000 * [TracePacket(timestamp=6, trusted_packet_sequence_id=3)])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (foreign(), "a Perfetto trace, but not one by gilscope"),
        (b"\nNot a trace at all, but it begins like one.\n" * 3, "not a"),
        (b"hello\n", "offset 0: not a Perfetto trace"),
        (b"\0" * 5000, "offset 0: not a Perfetto trace"),
        (gzip.compress(b"hello\n", mtime=0), "offset 0: not a Perfetto trace"),
        (b"\x0a" + b"\xff" * 20, "longer than any"),
        (b"\x0a\xff\xff\xff\x1f" + b"x" * 100, "longer than any"),
        (b"\x0a\xff\xff\xff\x01" + b"x" * 100, "cut short"),
    ],
)
def test_other_files(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "other.pftrace"
    path.write_bytes(content)
    line = refusal(path)
    assert reason in line or (reason == "longer than any" and "not a Perfetto trace" in line)


def test_no_file_at_all(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "missing.pftrace")
    assert "is a directory" in refusal(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "is not a regular file" in refusal(tmp_path / "pipe")


def test_damaged_files_never_do_worse_than_refuse(tmp_path: Path) -> None:
    whole = tmp_path / "whole.pftrace"
    write_trace(rolled_story(9, 150, ((3, 2),), rare=5), whole)
    dice = random.Random(7)
    path = tmp_path / "damaged.pftrace"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(600):
        data = bytearray(whole.read_bytes())
        for _ in range(dice.randrange(1, 4)):
            at = dice.randrange(len(data))
            data[at : at + dice.randrange(3)] = dice.randbytes(dice.randrange(3))
        path.write_bytes(data)
        with suppress(TraceError):
            read_all(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_fuzzed_decoder_under_sanitizers(root: Path, tmp_path: Path) -> None:
    program = tmp_path / "fuzz_decode"
    sources = ("tests/c/fuzz_decode.c", "gilscope/perfetto/encode.c", "gilscope/perfetto/decode.c")
    subprocess.run(
        [*GCC, *SANITIZE, *sources, "-o", program],
        cwd=root,
        check=True,
    )
    for seed in ("1", "20261122"):
        done = subprocess.run([program, seed, "2500"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        events, _, refused, damaged = map(int, re.findall(r"\d+", done.stdout))
        assert events > 100_000
        assert damaged * 0.9 < refused < damaged


# ---- Writing ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("story", "reason"),
    [
        ("0 a gil.acquire\n1 b gil.acquire", "event 1 .gil.acquire of thread 'b'.: .*holds"),
        ("0 a gil.wait io\n1 a gil.wait io", "event 1 .*holds or waits"),
        ("0 a gil.wait io\n1 a gil.release", "event 1 .*a release by a thread that waits"),
        ("0 a gil.wait io\n1 a gil.acquire", "event 1 .*without waiting"),
        ("5 a gil.wait io\n4 a gil.request", "event 1 .*backwards"),
        ("0 a gil.wait io arg=4096", "event 0 .*too many"),
        ("0 a thread.end arg=3", "event 0 .*argument"),
        ("0 a gil.acquire\n1 a cond.wait object=0x10", "event 1 .*that holds the GIL"),
        ("0 a lock.wait object=0x10\n1 a gil.wait io", "event 1 .*waits for a lock"),
        ("0 a lock.wait object=0x10\n1 a lock.acquire object=0x20", "event 1 .*another lock"),
        ("0 a lock.wait object=0x10\n1 a cond.wake object=0x10", "event 1 .*another lock"),
        ("0 a cond.wait object=0x1f", "event 0 .*kind that is not known"),
        ("0 a cond.wait woken=2", "event 0 .*detail"),
        ("0 a cond.wake woken=2", "event 0 .*detail"),
        ("0 a lock.release woken=2", "event 0 .*detail"),
        ("\n".join(5 * ["0 a lock.wait native"]), "event 4 .*too many"),
        ("0 a atomic.enter", "event 0 .*impossible depth"),
        ("0 a atomic.enter depth=1\n1 a atomic.exit depth=2", "event 1 .*not the innermost"),
        ("0 a gil.wakeup arg=2", "event 0 .*not in the table"),
        ("0 b gil.acquire process=1\n1 c gil.wakeup process=2 gil=1 to=b", "another process"),
        ("0 a atomic.enter depth=1", "at the end thread 'a' "),
        ("0 a gil.acquire", "at the end thread 'a' still has something open"),
        ("0 a gil.wait io\n3 b gil.wait io process=1 gil=0", "does not have"),
    ],
)
def test_events_that_no_trace_can_hold(story: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "t.pftrace"
    with pytest.raises(ImpossibleStory, match=reason):
        write_trace(told(story), path)
    assert list(tmp_path.iterdir()) == []


def test_events_outside_of_their_tables(tmp_path: Path) -> None:
    for thread, gil, kind in ((7, 0, 1), (0, 7, 1), (0, 0, 9), (0, 0xFFFF, 40)):
        source = told("0 a thread.start\n0 a gil.request")
        source.events["thread"][1], source.events["gil"][1] = thread, gil
        source.events["kind"][1] = kind
        with pytest.raises(ImpossibleStory, match="event 1 "):
            write_trace(source, tmp_path / "t.pftrace")


class Failing(MemorySource):
    """Fails after its first batch."""

    error: BaseException = KeyboardInterrupt()

    def batches(self) -> Iterator[NDArray[np.void]]:
        yield self.events
        raise self.error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")])
def test_a_failure_leaves_what_was_there(error: BaseException, tmp_path: Path) -> None:
    path = tmp_path / "t.pftrace"
    path.write_text("what was there")
    story = told(SMALL)
    source = Failing("failing", story.metadata, story.events)
    source.error = error
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else GilscopeError
    with pytest.raises(expected):
        write_trace(source, path)
    assert [p.name for p in tmp_path.iterdir()] == ["t.pftrace"]
    assert path.read_text() == "what was there"


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing" / "t.pftrace", Path("/dev/full")):
        with pytest.raises(GilscopeError, match=rf"^{path}: the trace cannot be written: [^\n]*$"):
            write_trace(rolled_story(1, 50), path)


def test_devices_and_links_stay_what_they_are(tmp_path: Path) -> None:
    link = tmp_path / "link.pftrace"
    link.symlink_to(tmp_path / "target.pftrace")
    write_trace(told(SMALL), link)
    assert link.is_symlink()
    assert read_all(link) == 13
    assert write_trace(told(SMALL), Path("/dev/null")).events == 13
    assert Path("/dev/null").is_char_device()


def test_progress_counts_events(tmp_path: Path) -> None:
    source = rolled_story(2, 300)
    source.batch = 100
    seen: list[int] = []
    totals = write_trace(source, tmp_path / "t.pftrace", seen.append)
    assert seen == [*range(100, len(source.events), 100), len(source.events)]
    assert totals == Totals(events=len(source.events), clamped=0)


def test_totals_that_disagree(tmp_path: Path) -> None:
    path = tmp_path / "t.pftrace"
    write_trace(StoryBuilder().source(), path)
    packets = list(Trace.FromString(path.read_bytes()).packet)
    packets[-1].track_event.debug_annotations[0].int_value = 3
    path.write_bytes(layout.frame(*packets))
    assert refusal(path).endswith("0 events, but its end says 3")

"""Context switches as events: whose they are, what is missing, there and back."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.stories import MemorySource, StoryBuilder

from gilscope.analysis.summary import summarise
from gilscope.errors import ImpossibleStory, TraceError
from gilscope.perfetto.reader import open_trace
from gilscope.perfetto.writer import write_trace
from gilscope.recorder.switches import SWITCHES
from gilscope.trace.model import Trace
from gilscope.trace.schema import EventKind, Metadata, Thread
from gilscope.trace.switches import SETTLE_NS, Switches, merged
from gilscope.trace.text import lines

K = EventKind
IN, OUT, PREEMPTED, LOST = 1, 0, 2, 4
S = 1_000_000_000


class SwitchFile:
    """The file that the recorder writes."""

    def __init__(self, folder: Path, capacity: int = 1 << 12) -> None:
        self.folder, self.capacity, self.written, self.lost = folder, capacity, 0, 0
        self.data = bytearray(4096 + 16 * capacity)
        self.until_ns = 0

    def add(self, *rows: tuple[int, int, int, int]) -> None:
        """Time, tid, processor, flags."""
        for row in rows:
            at = 4096 + 16 * (self.written % self.capacity)
            struct.pack_into("<QIHH", self.data, at, *row)
            self.written += 1
        self.write()

    def write(self) -> None:
        head = (0x3148435449575331, self.capacity, self.written, self.until_ns, self.lost)
        struct.pack_into("<5Q", self.data, 0, *head)
        path = self.folder / SWITCHES
        with path.open("r+b" if path.exists() else "wb") as file:
            file.write(self.data)


def thread(number: int, tid: int, start_ns: int, end_ns: int) -> Thread:
    return Thread(number, 0, tid, f"t{number}", number == 0, start_ns, end_ns, 0)


def metadata_of(*threads: Thread) -> Metadata:
    source = StoryBuilder().source()
    return replace(source.metadata, threads=threads)


def told(events: np.ndarray) -> list[tuple[int, int, str, int]]:
    """Time, thread, on or off, the argument without the processor."""
    return [
        (time, who, "on" if kind == K.PROCESSOR_ON else "off", arg >> 16)
        for time, arg, who, _, kind, _ in events.tolist()
    ]


def test_a_number_is_the_thread_that_has_it_then(tmp_path: Path) -> None:
    file = SwitchFile(tmp_path)
    file.add(
        (90, 7, 0, IN),  # before its thread's page
        (150, 7, 0, OUT),
        (160, 7, 1, IN),
        (170, 7, 1, PREEMPTED),
        (300, 7, 0, IN),  # another thread of that number
        (310, 7, 0, OUT),
        (320, 9, 0, IN),  # of no thread that the trace has
    )
    metadata = metadata_of(thread(0, 7, 100, 200), thread(1, 7, 290, 400))
    events = Switches(tmp_path).rest(metadata)
    assert told(events) == [
        (100, 0, "on", 0),
        (150, 0, "off", 0),
        (160, 0, "on", 0),
        (170, 0, "off", 1),
        (290, 1, "off", 1),
        (300, 1, "on", 0),
        (310, 1, "off", 0),
    ]


def test_who_runs_at_its_end_is_not_known_to_run_on(tmp_path: Path) -> None:
    SwitchFile(tmp_path).add((150, 7, 3, OUT), (160, 7, 3, IN))
    events = Switches(tmp_path).rest(metadata_of(thread(0, 7, 100, 200)))
    assert told(events)[-1] == (200, 0, "off", 2)
    assert int(events[-1]["arg"]) & 0xFFFF == 3


def test_from_a_loss_on_nothing_is_known(tmp_path: Path) -> None:
    file = SwitchFile(tmp_path)
    file.lost = 5
    file.add((110, 7, 0, IN), (120, 8, 1, IN), (130, 5, 0, LOST), (140, 8, 1, OUT))
    switches = Switches(tmp_path)
    assert switches.lost == 5
    events = switches.rest(metadata_of(thread(0, 7, 100, 200), thread(1, 8, 100, 200)))
    assert (130, 0, "off", 2) in told(events)
    assert (130, 1, "off", 2) in told(events)
    assert told(events)[-2] == (140, 1, "off", 0)


def test_what_was_written_over_is_lost_and_counted(tmp_path: Path) -> None:
    file = SwitchFile(tmp_path, capacity=4)
    rows = [(100 + i, 7, 0, IN if i % 2 else OUT) for i in range(10)]
    file.add(*rows)
    switches = Switches(tmp_path)
    assert switches.lost == 6
    events = switches.rest(metadata_of(thread(0, 7, 50, 200)))
    assert switches.lost == 6
    assert [row[0] for row in told(events)][-5:] == [106, 107, 108, 109, 200]


def test_in_pieces_it_is_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    rows, time = [], 100
    for i in range(400):
        time += int(rng.integers(1, SETTLE_NS // 50))
        rows.append((time, 7 + i // 2 % 3, i % 2, OUT if i % 2 else IN))
    threads = [thread(number, 7 + number, 50, time + 10) for number in range(3)]
    whole = SwitchFile(tmp_path)
    whole.add(*rows)
    expected = Switches(tmp_path).rest(metadata_of(*threads))
    (tmp_path / "live").mkdir()
    file = SwitchFile(tmp_path / "live")
    file.write()
    switches, parts = Switches(tmp_path / "live"), []
    for first in range(0, 400, 37):
        file.until_ns = rows[first][0]
        file.add(*rows[first : first + 37])
        parts.append(switches.settled(threads))
    parts.append(switches.rest(metadata_of(*threads)))
    assert sum(len(part) > 0 for part in parts) > 3
    got = np.concatenate(parts)
    assert sorted(got.tolist()) == sorted(expected.tolist())
    for number in range(3):
        times = got["time_ns"][got["thread"] == number]
        assert (np.diff(times) >= 0).all()


def test_none_and_damaged_files(tmp_path: Path) -> None:
    none = Switches(tmp_path)
    assert not none.told
    assert len(none.rest(metadata_of())) == 0
    (tmp_path / SWITCHES).write_bytes(bytes(8192))
    with pytest.raises(TraceError):
        Switches(tmp_path)


def story() -> MemorySource:
    """`a` holds from 0 to 100 and is without a processor for 30 of them; `b` waits from 20 on."""
    builder = StoryBuilder()
    builder.process()
    a, b = builder.thread(name="a"), builder.thread(name="b")
    gil = builder.gil()
    builder.event(0, K.PROCESS_START, a)
    builder.event(0, K.PROCESSOR_ON, a, arg=1)
    builder.event(0, K.GIL_ACQUIRE, a, gil)
    builder.event(20, K.GIL_WAIT, b, gil, arg=1)
    builder.event(22, K.PROCESSOR_OFF, b, arg=0)
    builder.event(40, K.PROCESSOR_OFF, a, arg=1 | 1 << 16)
    builder.event(70, K.PROCESSOR_ON, a, arg=0)
    builder.event(100, K.GIL_RELEASE, a, gil, arg=1)
    builder.event(106, K.PROCESSOR_ON, b, arg=1)
    builder.event(110, K.GIL_ACQUIRE, b, gil, flags=1)
    builder.event(130, K.GIL_RELEASE, b, gil)
    builder.event(150, K.PROCESS_END, a)
    source = builder.source()
    source.metadata = replace(source.metadata, switches=True)
    return source


def test_states_of_holds_waits_and_wakeups() -> None:
    (process,) = summarise(Trace.from_source(story()))["processes"]
    a, b = process["threads"]
    assert a["held"] == {"running_ns": 70, "preempted_ns": 30, "off_ns": 0, "unknown_ns": 0}
    assert b["waiting"] == {"running_ns": 4, "preempted_ns": 0, "off_ns": 84, "unknown_ns": 2}
    assert b["wakeups"] == {"running_ns": 4, "preempted_ns": 0, "off_ns": 6, "unknown_ns": 0}
    for side in ("held", "waiting"):
        assert sum(b[side].values()) == b[f"{side}_ns"]
    outside = {key: ns for key, ns in a["outside"].items() if key.startswith(("run", "pre", "off"))}
    assert sum(outside.values()) + a["outside"]["unknown_ns"] == a["outside_ns"]


@pytest.mark.parametrize(("ready_ms", "told"), [(30, True), (20, False)])
def test_who_is_ready_and_has_no_processor_is_told(ready_ms: int, told: bool) -> None:
    """It shares no GIL: another process computes as well."""
    ms = 10_000_000  # of a program of a second
    builder = StoryBuilder()
    builder.process()
    a, gil = builder.thread(name="a"), builder.gil()
    builder.event(0, K.PROCESS_START, a)
    builder.event(0, K.PROCESSOR_ON, a)
    builder.event(0, K.GIL_ACQUIRE, a, gil)
    builder.event(40 * ms, K.PROCESSOR_OFF, a, arg=1 | 1 << 16)
    builder.event((40 + ready_ms) * ms, K.PROCESSOR_ON, a)
    builder.event(100 * ms, K.GIL_RELEASE, a, gil)
    builder.event(100 * ms, K.PROCESS_END, a)
    source = builder.source()
    source.metadata = replace(source.metadata, switches=True)
    found = summarise(Trace.from_source(source))["findings"][0]
    assert (found["kind"] == "no-processor") is told
    if told:
        assert found["text"].startswith(
            "`a` was ready to run for 300 ms, 30 % of its life, and had"
        )


def test_unknown_is_null() -> None:
    source = story()
    source.metadata = replace(source.metadata, switches=False)
    source.events = source.events[~np.isin(source.events["kind"], (28, 29))]
    summary = summarise(Trace.from_source(source))
    a = summary["processes"][0]["threads"][0]
    assert set(a["held"].values()) == {None}
    assert summary["kernel"]["lost_switches"] is None


def test_there_and_back(tmp_path: Path) -> None:
    source = story()
    write_trace(source, tmp_path / "t.pftrace")
    again = open_trace(tmp_path / "t.pftrace")
    np.testing.assert_array_equal(np.concatenate([*again.batches()]), source.events)
    assert "".join(lines(open_trace(tmp_path / "t.pftrace"))) == "".join(lines(source))


@pytest.mark.parametrize(
    ("time", "kind", "arg"), [(5, K.PROCESSOR_ON, 1 << 16), (5, K.PROCESSOR_OFF, 3 << 16)]
)
def test_what_cannot_be_is_refused(time: int, kind: EventKind, arg: int) -> None:
    builder = StoryBuilder()
    builder.process()
    builder.thread()
    builder.event(0, K.PROCESS_START, 0)
    builder.event(time, kind, 0, arg=arg)
    builder.event(9, K.PROCESS_END, 0)
    with pytest.raises(ImpossibleStory):
        Trace.from_source(builder.source())


def test_time_of_a_thread_does_not_run_backwards() -> None:
    builder = StoryBuilder()
    builder.process()
    builder.thread()
    builder.event(0, K.PROCESS_START, 0)
    builder.event(8, K.PROCESSOR_ON, 0)
    builder.event(7, K.PROCESSOR_OFF, 0)
    builder.event(9, K.PROCESS_END, 0)
    with pytest.raises(ImpossibleStory):
        Trace.from_source(builder.source())


def test_among_the_rings_events_they_stand_by_time() -> None:
    events = story().events
    own = np.isin(events["kind"], (28, 29))
    parts = [events[~own][:3], events[~own][3:]]
    got = np.concatenate([*merged(iter(parts), events[own])])
    assert len(got) == len(events)
    assert (np.diff(got["time_ns"]) >= 0).all()

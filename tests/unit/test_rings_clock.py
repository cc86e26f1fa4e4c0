"""Gaps in the clock: a machine that was suspended or paused while something was recorded."""

from __future__ import annotations

import struct
from pathlib import Path

from support.ring_file import START, RingFile, record

import gilscope
from gilscope.perfetto.reader import open_trace
from gilscope.perfetto.writer import write_trace
from gilscope.trace.model import Trace
from gilscope.trace.schema import EventKind
from gilscope.trace.text import lines

ACQUIRE, RELEASE = EventKind.GIL_ACQUIRE, EventKind.GIL_RELEASE
N_CLOCKS_OFFSET, CLOCKS_OFFSET = 192, 256
HOUR = 3600 * 10**9


def recorded(tmp_path: Path, clocks: list[tuple[int, int, int]], holds: list[int]) -> Trace:
    """One thread's holds: ticks of acquires and releases in turn, in ns after the start.

    `clocks` are snapshots: ticks, CLOCK_MONOTONIC and CLOCK_BOOTTIME, likewise.
    """
    rings = RingFile()
    struct.pack_into("<I", rings.data, N_CLOCKS_OFFSET, len(clocks))
    for i, (ticks, monotonic, boottime) in enumerate(clocks):
        fields = (START + ticks, START + monotonic, START + boottime, START + boottime)
        struct.pack_into("<QQQQ", rings.data, CLOCKS_OFFSET + 32 * i, *fields)
    records = [record((ACQUIRE, RELEASE)[i % 2], at, i) for i, at in enumerate(holds)]
    rings.thread(rings.process(pid=10), tid=10, records=records)
    with rings.open(tmp_path) as source:
        text = "".join(lines(source))
    with rings.open(tmp_path) as source:
        write_trace(source, tmp_path / "gap.pftrace")
    assert "".join(lines(open_trace(tmp_path / "gap.pftrace"))) == text
    return gilscope.read(tmp_path / "gap.pftrace")


def spans(trace: Trace) -> list[tuple[int, int]]:
    """Begin and end of each hold, in ns after the start."""
    return [
        (begin - START, end - START)
        for begin, end in zip(
            trace.holds["start_ns"].tolist(), trace.holds["end_ns"].tolist(), strict=True
        )
    ]


def test_a_counter_that_ran_on_while_the_clock_stood(tmp_path: Path) -> None:
    """Times are CLOCK_MONOTONIC's: an hour of sleep within a hold is no hour of holding."""
    asleep = [(0, 0, 0), (1_000, 1_000, 1_000)]
    awake = [(HOUR + n, n, HOUR + n) for n in (1_500, 2_500, 3_500)]
    holds = [100, 200, 1_200, HOUR + 1_400, HOUR + 2_000, HOUR + 2_300, HOUR + 3_600, HOUR + 3_700]
    trace = recorded(tmp_path, asleep + awake, holds)
    first, across, *after = spans(trace)
    assert first == (100, 200)
    assert 1_000 <= across[0] <= across[1] <= 1_500
    assert after == [(2_000, 2_300), (3_600, 3_700)]
    assert trace.totals.clamped == 0


def test_a_clock_that_ran_on_while_the_counter_stood(tmp_path: Path) -> None:
    """A paused virtual machine whose host does not count on: the pause is one long moment."""
    clocks = [
        (0, 0, 0),
        (1_000, 1_000, 1_000),
        (1_500, HOUR, HOUR),
        (2_500, HOUR + 1_000, HOUR + 1_000),
    ]
    trace = recorded(tmp_path, clocks, [100, 200, 1_200, 1_400, 2_000, 2_300])
    first, across, after = spans(trace)
    assert first == (100, 200)
    assert 1_000 <= across[0] <= across[1] <= HOUR
    assert after == (HOUR + 500, HOUR + 800)
    assert trace.totals.clamped == 0


def test_a_counter_that_began_anew(tmp_path: Path) -> None:
    """After a sleep that resets it, stamps say no more than the order, and are counted."""
    anew = 5 - START
    clocks = [(0, 0, 0), (1_000, 1_000, 1_000), (anew, 1_500, HOUR), (anew + 1_000, 2_500, HOUR)]
    trace = recorded(tmp_path, clocks, [100, 200, 900, anew + 20, anew + 120, anew + 220])
    assert spans(trace) == [(100, 200), (900, 900), (900, 900)]
    assert trace.totals.clamped == 3
    assert int(trace.thread_stats["acquires"][0]) == 3

"""The story checker: what is possible passes whole, what is not is refused."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.stories import MemorySource, StoryBuilder, possible_stories, rolled_story, told

from gilscope.errors import ImpossibleStory, TraceError
from gilscope.trace import story
from gilscope.trace.model import Trace
from gilscope.trace.schema import EventKind as K
from gilscope.trace.story import checked

RELEASES = (K.GIL_RELEASE, K.GIL_YIELD)
ENDED_LOST = 5  # of enum gs_ending


@given(possible_stories())
@settings(max_examples=200, deadline=None)
def test_possible_stories_pass_unchanged(source: MemorySource) -> None:
    passed = [batch.copy() for batch in checked(source)]
    assert b"".join(batch.tobytes() for batch in passed) == source.events.tobytes()


@given(possible_stories())
@settings(max_examples=200, deadline=None)
def test_holds_of_a_gil_never_overlap(source: MemorySource) -> None:
    trace = Trace.from_source(source)
    for gil in trace.metadata.gils:
        holds = trace.holds[trace.holds["gil"] == gil.id]
        assert (holds["start_ns"] <= holds["end_ns"]).all()
        assert (holds["end_ns"][:-1] <= holds["start_ns"][1:]).all()
    for thread in trace.metadata.threads:
        parts = [t[t["thread"] == thread.id] for t in (trace.holds, trace.waits)]
        spans = sorted((s, e) for part in parts for s, e in part[["start_ns", "end_ns"]].tolist())
        assert all(a[1] <= b[0] for a, b in pairwise(spans))
        stats = trace.thread_stats[thread.id]
        assert stats["held_ns"] == (parts[0]["end_ns"] - parts[0]["start_ns"]).sum()
        assert stats["waiting_ns"] == (parts[1]["end_ns"] - parts[1]["start_ns"]).sum()


@given(possible_stories())
@settings(max_examples=200, deadline=None)
def test_counts_are_the_events(source: MemorySource) -> None:
    trace = Trace.from_source(source)
    of = {kind: source.events[source.events["kind"] == kind] for kind in K}
    for kind, field in (
        (K.GIL_ACQUIRE, "acquires"),
        (K.GIL_RELEASE, "releases"),
        (K.GIL_YIELD, "yields"),
        (K.GIL_REQUEST, "requests"),
        (K.GIL_WAIT, "waits"),
    ):
        counted = np.bincount(of[kind]["thread"], minlength=len(trace.thread_stats))
        assert trace.thread_stats[field].tolist() == counted.tolist()
    assert len(trace.requests) == len(of[K.GIL_REQUEST])
    assert len(trace.holds) == len(of[K.GIL_ACQUIRE])
    assert (trace.holds["ending"] != 0).all()
    assert (trace.waits["ending"] != 0).all()
    assert int(trace.gil_stats["missing"].sum()) == int(of[K.GIL_LOST]["arg"].sum())
    assert len(trace.gaps) == len(of[K.GIL_LOST]) + len(
        np.unique(source.events["gil"][source.events["gil"] != 0xFFFF])
    )


@given(st.integers(0, 10_000), st.data())
@settings(max_examples=100, deadline=None)
def test_a_missing_acquire_is_noticed(seed: int, data: st.DataObject) -> None:
    """Once the state of a GIL is known, no acquire can be taken out unnoticed."""
    source = rolled_story(seed, 200, ((3, 1),), rare=0)
    acquires = np.flatnonzero(source.events["kind"] == K.GIL_ACQUIRE)[1:]
    assume(len(acquires))
    gone = data.draw(st.sampled_from(acquires.tolist()))
    after = source.events[gone + 1 :]
    assume(np.isin(after["kind"][after["thread"] == source.events["thread"][gone]], RELEASES).any())
    source.events = np.delete(source.events, gone)
    with pytest.raises(ImpossibleStory):
        Trace.from_source(source)


def test_what_came_before_the_impossible_is_still_passed_on() -> None:
    source = told("0 a process.start\n1 a gil.acquire\n2 b gil.acquire\n9 a process.end")
    got = []
    with pytest.raises(ImpossibleStory, match="offset 0x30: thread b"):
        got.extend(len(batch) for batch in checked(source))
    assert got == [2]


@pytest.mark.parametrize("state", ["gil.acquire", "gil.wait"])
def test_a_thread_that_lost_records_may_be_at_another_gil(state: str) -> None:
    """No later event of the GIL that it left has a number that tells so."""
    text = f"""
        0 a process.start
        1 a {state} gil=1
        5 a thread.lost arg=3
        7 a gil.acquire gil=0
        9 a gil.release gil=0
        20 a process.end"""
    trace = Trace.from_source(told(text))
    left = (trace.holds if state == "gil.acquire" else trace.waits)[0]
    assert (left["end_ns"] - left["start_ns"], left["ending"]) == (4, ENDED_LOST)
    assert trace.holds[-1]["end_ns"] - trace.holds[-1]["start_ns"] == 2
    gap = trace.gaps[trace.gaps["gil"] == 1][-1]
    assert gap["end_ns"] - gap["start_ns"] == 15
    with pytest.raises(ImpossibleStory, match=r"gil\.acquire of GIL 0 while"):
        Trace.from_source(told(text.replace("5 a thread.lost arg=3", "")))


def test_what_is_told_of_a_hold_whose_begin_was_lost_is_no_contradiction() -> None:
    text = """
        0 a process.start
        1 a gil.acquire gil=1
        2 a gil.release gil=1
        5 a thread.lost arg=1
        7 a hold.gc arg=2
        8 a gil.release gil=0
        20 a process.end"""
    assert Trace.from_source(told(text)).totals.events == 7
    with pytest.raises(ImpossibleStory, match="does not hold"):
        Trace.from_source(told(text.replace("5 a thread.lost arg=1", "")))


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("kind", 0, "kind 0"),
        ("kind", 15, "kind 15"),
        ("kind", 255, "kind 255"),
        ("thread", 1, "thread number 1, which is in no table"),
        ("thread", 2**32 - 1, "in no table"),
        ("gil", 1, "GIL 1, which is in no table"),
        ("gil", 0xFFFF, "in no table"),
        ("time_ns", -5, "at -5 ns, which is no time"),
        ("time_ns", 5, "at 5 ns, before"),
    ],
)
def test_nonsense_is_refused(field: str, value: int, words: str) -> None:
    source = told("0 a thread.start\n1 a gil.acquire\n2 a gil.release\n3 a process.end")
    source.events[field][2] = value
    with pytest.raises(ImpossibleStory, match=words):
        Trace.from_source(source)


def test_tables_that_name_no_process_are_refused() -> None:
    builder = StoryBuilder()
    builder.process()
    builder.thread()
    source = builder.source()
    object.__setattr__(source.metadata, "processes", ())
    with pytest.raises(TraceError, match="name a process"):
        Trace.from_source(source)


def test_arrays_outlive_the_trace() -> None:
    holds = Trace.from_source(rolled_story(1, 500)).holds
    copy = holds.copy()
    for seed in range(20):
        Trace.from_source(rolled_story(seed, 500))
    assert holds.tobytes() == copy.tobytes()


def test_a_thread_end_before_its_gils_last_event_ends_the_hold_there() -> None:
    """Thread and GIL are ordered apart; the hold must not end before an event of its GIL."""
    source = told("""
        0   a process.start
        10  b gil.acquire
        50  a gil.wait io
        40  b thread.end
        60  a gil.acquire waited
        90  a process.end
    """)
    trace = Trace.from_source(source)
    assert trace.holds["end_ns"][0] == source.metadata.start_ns + 50
    assert trace.gil_stats["held_ns"][0] == trace.thread_stats["held_ns"].sum() == 70


def test_row_sizes_are_the_librarys() -> None:
    told_story = story.tell(told("0 a process.start\n1 a process.end"))
    for which in range(10):
        told_story.array(which)  # raises TypeError where they differ


def test_many_threads_and_gils_take_no_longer_an_event() -> None:
    """Counts the work, not the time: 40 times as many lives must not be 1,600 times the rows."""
    builder = StoryBuilder()
    time = 0
    for _ in range(50):
        process = builder.process()
        main, gil = builder.thread(process), builder.gil(process)
        builder.event(time, K.PROCESS_START, main)
        for _ in range(100):
            thread = builder.thread(process)
            builder.event(time, K.THREAD_START, thread)
            builder.event(time + 1, K.GIL_ACQUIRE, thread, gil)
            builder.event(time + 2, K.GIL_RELEASE, thread, gil)
            builder.event(time + 3, K.THREAD_END, thread)
            time += 4
        builder.event(time, K.PROCESS_END, main)
    trace = Trace.from_source(builder.source())
    assert len(trace.holds) == 5_000
    assert trace.thread_stats["held_ns"].sum() == 5_000

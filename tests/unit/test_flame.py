"""The flame: all held time, by stack, what waiting it caused, what is known at its end alone."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from support.stories import MemorySource, possible_stories, rolled_story, told

from gilscope.analysis.caused import caused_ns
from gilscope.analysis.flame import NO_LEAF, flame_of
from gilscope.analysis.summary import summarise
from gilscope.export.collapsed import collapsed
from gilscope.export.frames import FREE, burnt
from gilscope.trace.model import Trace
from gilscope.trace.stacks import shortest_paths

STORY = """
    0   a process.start
    0   a gil.acquire
    10  b gil.wait io
    40  a stack arg=1 seen
    40  a gil.yield arg=1
    40  b gil.acquire waited
    50  b stack arg=1
    50  b gil.release
    60  a gil.acquire
    65  a stack arg=1
    65  a gil.release
    70  a gil.acquire
    73  a gil.release
    90  a process.end
"""


def test_a_frame_that_a_hold_let_go_at_is_marked() -> None:
    trace = Trace.from_source(told(STORY))
    flame = flame_of(trace)
    stacks = list(burnt(flame, trace.metadata))
    assert "".join(collapsed(stacks)) == (
        "a;(no stack recorded) 3\n"
        "a;main.py:30 <module>;main.py:17 serve 40\n"
        "a;main.py:30 <module>;main.py:17 serve (let go) 5\n"
        "b;main.py:30 <module>;main.py:17 serve (let go) 10\n"
    )
    assert "".join(collapsed(stacks, waiting=True)) == (
        "a;main.py:30 <module>;main.py:17 serve 30\n"
    )
    assert (flame.held_ns, flame.caused_ns, flame.free_ns) == (58, 30, 0)
    covered = [row for row in flame.rows if row.leaf != NO_LEAF]
    assert sum(row.held_ns for row in covered) == 55
    assert sum(row.held_ns for row in covered if not row.exact) == 15


def expect_adds_up(source: MemorySource) -> None:
    trace = Trace.from_source(source)
    summary = summarise(trace)
    rows = [row for process in summary["processes"] for row in process["blame"]]
    assert not any(row["others"] for row in rows)
    blamed: Counter[int] = Counter()
    for row in rows:
        if row["reason"] == "held" and row["holder"] is not None:
            blamed[row["holder"]] += row["wait_ns"]
    caused: Counter[int] = Counter()
    for thread, ns in zip(trace.holds["thread"].tolist(), caused_ns(trace).tolist(), strict=True):
        caused[thread] += ns
    assert +caused == +blamed
    flame = flame_of(trace)
    assert flame.held_ns == trace.thread_stats["held_ns"].sum()
    assert flame.caused_ns + flame.free_ns == trace.thread_stats["waiting_ns"].sum()
    stacks = list(burnt(flame, trace.metadata))
    assert sum(stack.held_ns for stack in stacks) == flame.held_ns
    assert sum(stack.caused_ns for stack in stacks) == flame.caused_ns + flame.free_ns
    assert sum(stack.frames[0].name == FREE for stack in stacks) == (flame.free_ns != 0)


@settings(deadline=None)
@given(possible_stories())
def test_caused_waiting_is_what_blame_says(source: MemorySource) -> None:
    expect_adds_up(source)


def test_caused_waiting_of_several_gils() -> None:
    expect_adds_up(rolled_story(7, 500, ((4, 1), (3, 2))))


def test_sums_that_leave_64_bits_come_back() -> None:
    """Times of a recording of weeks: 100 waits of 6e15 ns each add up to more than 2**59."""
    far = 6_000_000_000_000_000
    lines = ["0 a process.start"]
    for turn in range(2_000):
        at = far + 100 * turn
        lines += [
            f"{at} a gil.acquire",
            f"{at + 10} b gil.wait io",
            f"{at + 40} a gil.release",
            f"{at + 50} b gil.acquire waited",
            f"{at + 60} b gil.release",
        ]
    lines.append(f"{far + 1_000_000} a process.end")
    trace = Trace.from_source(told("\n".join(lines)))
    caused = caused_ns(trace)
    assert int(np.unique(trace.waits["end_ns"] - trace.waits["start_ns"])[0]) == 40
    assert caused[trace.holds["thread"] == trace.holds["thread"][0]].tolist() == [30] * 2_000
    assert not caused[trace.holds["thread"] != trace.holds["thread"][0]].any()


def test_paths_are_as_short_as_they_can_be() -> None:
    paths = ["/srv/shop/orders/views.py", "/srv/shop/users/views.py", "/srv/app.py", "app.py", ""]
    assert shortest_paths(paths) == {
        "/srv/shop/orders/views.py": "orders/views.py",
        "/srv/shop/users/views.py": "users/views.py",
        "/srv/app.py": "srv/app.py",
        "app.py": "app.py",
        "": "",
    }

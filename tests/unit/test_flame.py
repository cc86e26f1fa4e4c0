"""The flame: all held time, by stack, and what is known of a hold at its end alone."""

from __future__ import annotations

from support.stories import told

from gilscope.analysis.flame import collapsed, flame_of
from gilscope.trace.model import Trace

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
    flame = flame_of(Trace.from_source(told(STORY)))
    assert collapsed(flame) == (
        "a;(no stack recorded) 3\n"
        "a;main.py:30 <module>;main.py:17 serve 40\n"
        "a;main.py:30 <module>;main.py:17 serve (let go) 5\n"
        "b;main.py:30 <module>;main.py:17 serve (let go) 10\n"
    )
    assert (flame.total_ns, flame.covered_ns, flame.ended_ns) == (58, 55, 15)

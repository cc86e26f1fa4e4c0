"""Where `gilscope view` opens a trace."""

from __future__ import annotations

import pytest
from support.stories import START_NS, MemorySource, told

from gilscope.trace.model import Trace
from gilscope.viewers.perfetto_ui_focus import VISIBLE_WAITS, Focus, longest_wait

CONVOY = """
    0    hog    gil.acquire
    10   echo   gil.wait io arg=1
    500  echo   gil.request arg=1
    600  hog    gil.yield arg=1
    601  echo   gil.acquire waited
    602  hog    gil.wait cpu arg=1
    640  echo   gil.release arg=1
    641  hog    gil.acquire waited
    5000 hog    gil.release
"""


def focus(story: MemorySource) -> Focus:
    found = longest_wait(Trace.from_source(story))
    assert found is not None
    return found


def test_selects_the_hold_that_the_longest_waiter_waited_for() -> None:
    found = focus(told(CONVOY))
    assert (found.slice_start_ns, found.slice_length_ns) == (START_NS, 600)


def test_of_many_holds_in_a_wait_the_one_that_covers_most() -> None:
    story = told("""
        0    a  gil.acquire
        0    v  gil.wait io arg=1
        100  a  gil.release arg=1
        110  b  gil.acquire arg=1
        400  b  gil.release arg=1
        410  a  gil.acquire arg=1
        500  a  gil.release arg=1
        505  v  gil.acquire waited
        9999 v  gil.release
    """)
    found = focus(story)
    assert (found.slice_start_ns, found.slice_length_ns) == (START_NS + 110, 290)


def test_a_hold_too_long_to_be_shown_gives_way_to_the_waiters_own() -> None:
    story = told("""
        0      hog  gil.acquire
        99_000 echo gil.wait io arg=1
        99_500 hog  gil.yield arg=1
        99_501 echo gil.acquire waited
        99_520 echo gil.release
        99_530 hog  gil.acquire
        99_540 hog  gil.release
    """)
    found = focus(story)
    assert (found.slice_start_ns, found.slice_length_ns) == (START_NS + 99_501, 19)
    assert found.visible_end_ns - found.visible_start_ns == 501 * VISIBLE_WAITS


def test_each_gil_has_its_own_holders() -> None:
    story = told("""
        0    a  gil.acquire
        1    b  gil.acquire gil=1
        2    v  gil.wait io gil=1 arg=1
        90   b  gil.release gil=1 arg=1
        91   v  gil.acquire waited gil=1
        99   v  gil.release gil=1
        100  a  gil.release
    """)
    found = focus(story)
    assert (found.slice_start_ns, found.slice_length_ns) == (START_NS + 1, 89)


def test_a_hold_that_was_cut_short_by_a_loss_counts_up_to_there() -> None:
    story = told("""
        0    a  gil.acquire
        1    v  gil.wait io arg=1
        500  a  gil.lost arg=9
        510  a  gil.release arg=1
        520  v  gil.acquire waited
        900  v  gil.release
    """)
    found = focus(story)
    assert (found.slice_start_ns, found.slice_length_ns) == (START_NS, 500)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0 a process.start",
        "0 a gil.acquire \n 9 a gil.release",
        "0 a gil.wait io arg=1 \n 9 a process.end arg=1",
    ],
)
def test_nowhere_to_look(text: str) -> None:
    assert longest_wait(Trace.from_source(told(text))) is None


@pytest.mark.parametrize("before", [10, 100_000])
@pytest.mark.parametrize("after", [10, 100_000])
def test_the_ui_keeps_the_visible_stretch_when_it_scrolls_to_the_slice(
    before: int, after: int
) -> None:
    """Perfetto's focusHorizontalRange: it zooms in when recentring moves nothing."""
    begin, end = 0, before + 1000 + after
    found = focus(
        told(f"""
            {begin} early gil.acquire
            {begin + 1} early gil.release
            {before} hog gil.acquire
            {before + 10} v gil.wait io arg=1
            {before + 1000} hog gil.release arg=1
            {before + 1000} v gil.acquire waited
            {end} v gil.release
        """)
    )
    low, high = START_NS + begin, START_NS + end
    width = found.visible_end_ns - found.visible_start_ns
    assert low <= found.visible_start_ns < found.visible_end_ns <= high
    assert width == min(990 * VISIBLE_WAITS, high - low - 2)
    middle = found.slice_start_ns + found.slice_length_ns / 2
    recentred = min(max(low, middle - width / 2), high - width)
    assert recentred != found.visible_start_ns
    assert recentred <= found.slice_start_ns
    assert found.slice_start_ns + found.slice_length_ns <= recentred + width

"""The terminal view on consoles of fixed width."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support.golden import expect_golden
from support.stories import MemorySource, StoryBuilder, rolled_story, told

from gilscope.analysis.summary import summarise
from gilscope.trace.model import Trace
from gilscope.trace.schema import EventKind as K
from gilscope.viewers.terminal import render

CONVOY = Path(__file__).parents[1] / "golden" / "stories" / "convoy.story"
VIEWS = CONVOY.parent.parent


def shown(source: MemorySource, width: int = 80, top: int = 10, **options: Any) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width, highlight=False, **options)
    render(summarise(Trace.from_source(source)), console, top)
    return file.getvalue()


def convoy() -> MemorySource:
    return told(CONVOY.read_text(encoding="utf-8"))


def conditions() -> MemorySource:
    story = CONVOY.with_name("conditions.story")
    return told(story.read_text(encoding="utf-8"))


def nothing() -> MemorySource:
    return StoryBuilder().source()


def unused_gil() -> MemorySource:
    builder = StoryBuilder()
    builder.process()
    builder.gil()
    builder.event(0, K.PROCESS_START, builder.thread())
    return builder.source()


@cache
def crowd() -> MemorySource:
    builder = StoryBuilder()
    builder.process()
    gil = builder.gil()
    for number in range(3_000):
        thread = builder.thread()
        builder.event(10 * number, K.GIL_ACQUIRE, thread, gil)
        builder.event(10 * number + 5, K.GIL_RELEASE, thread, gil)
    return builder.source()


@pytest.mark.parametrize("width", [80, 200])
def test_convoy_looks_like_this(width: int) -> None:
    text = "".join(line.rstrip() + "\n" for line in shown(convoy(), width).splitlines())
    expect_golden(VIEWS / f"convoy-{width}.txt", text)


@pytest.mark.parametrize("width", [80, 200])
def test_conditions_locks_and_sections_look_like_this(width: int) -> None:
    text = "".join(line.rstrip() + "\n" for line in shown(conditions(), width).splitlines())
    expect_golden(VIEWS / f"conditions-{width}.txt", text)


@pytest.mark.parametrize("width", [1, 20, 40, 80, 129, 130, 200, 500])
@pytest.mark.parametrize(
    "source",
    [
        convoy,
        conditions,
        nothing,
        unused_gil,
        crowd,
        lambda: rolled_story(5, 3_000, ((9, 2), (3, 1))),
    ],
)
def test_no_line_is_too_long_and_nothing_escapes(
    source: Callable[[], MemorySource], width: int
) -> None:
    text = shown(source(), width)
    assert text.strip()
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= width


def test_the_verdict_is_first_with_its_number() -> None:
    first = shown(convoy(), 200).splitlines()[0]
    assert first.startswith("echo waited 5.01 ms (p99) for the GIL")


def test_a_wait_for_a_processor_is_not_told_as_one_for_a_thread() -> None:
    text = """
        0          a process.start
        0          b thread.start
        0          a gil.acquire
        1000000    b gil.wait io
        1200000    a gil.release
        {woken}    b gil.acquire waited
        9000000    a process.end
    """
    late = shown(told(text.format(woken=5_000_000)), 200)
    assert "b waited 4 ms; the GIL was free for 3.8 ms of that\n" in late
    assert "b waited 210 µs for a\n" in shown(told(text.format(woken=1_210_000)), 200)


def test_threads_that_held_the_gil_at_one_line_are_one_cause() -> None:
    text = """
        0   a process.start
        0   b thread.start
        0   c gil.acquire
        1   b gil.wait io
        40  c stack arg=1 seen
        40  c gil.release arg=1
        40  d gil.acquire
        60  d stack arg=1 seen
        60  d gil.release arg=1
        60  e gil.acquire
        70  e gil.release arg=1
        71  b gil.acquire waited
        90  a process.end
    """
    lines = shown(told(text), 200).splitlines()
    first = 2 + next(i for i, line in enumerate(lines) if line.startswith("who waited"))
    assert [line.split() for line in lines[first : first + 3]] == [
        ["b", "70", "ns", "c", "+1", "more", "84", "%", "in", "main.py:17", "serve"],
        ["e", "14", "%"],
        ["(waking", "up)", "1.4", "%"],
    ]


def test_colours_are_for_terminals() -> None:
    assert "\x1b[31m" in shown(convoy(), force_terminal=True, color_system="standard", _environ={})


def test_the_worst_thread_is_first_and_the_rest_is_counted() -> None:
    text = shown(crowd(), top=7)
    assert "and 2,993 more threads, which waited 0 ns in all" in text
    assert "and 1 more thread, which" in shown(convoy(), top=2)
    lines = shown(convoy()).splitlines()
    assert lines[next(i for i, line in enumerate(lines) if "worst first" in line) + 2].startswith(
        "echo"
    )


def test_an_empty_trace_says_so() -> None:
    assert shown(nothing()).startswith("The trace has 0 events.")


def test_names_are_shown_as_they_are() -> None:
    source = told(
        r"0 [red]:bomb: process.start"
        + "\n1 [red]:bomb: gil.acquire\n2 x\\x1b[2J gil.wait"
        + "\n5 [red]:bomb: process.end"
    )
    text = shown(source)
    assert "[red]:bomb:" in text
    assert r"x\x1b[2J" in text


def test_without_unicode_the_bars_are_ascii() -> None:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii", errors="backslashreplace")
    console = Console(file=file, width=80, highlight=False)
    render(summarise(Trace.from_source(convoy())), console)
    file.flush()
    text = raw.getvalue().decode("ascii")
    assert "## holds the GIL  == waits for it" in text
    assert r"\u25" not in text

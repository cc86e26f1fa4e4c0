"""The terminal view on consoles of fixed width."""

from __future__ import annotations

import copy
import io
import re
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console
from support.golden import expect_golden
from support.stories import MemorySource, StoryBuilder, rolled_story, told

from gilscope.analysis.names import names_of
from gilscope.analysis.summary import summarise
from gilscope.trace.model import Trace
from gilscope.trace.schema import EventKind as K
from gilscope.viewers.layout import shortened
from gilscope.viewers.terminal import render

CONVOY = Path(__file__).parents[1] / "golden" / "stories" / "convoy.story"
VIEWS = CONVOY.parent.parent
FIGURE = re.compile(r"[\d.,]+ (?:[nµm]?s\b|%)")


def shown(source: MemorySource, width: int = 80, top: int | None = 10, **options: Any) -> str:
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


def test_what_was_before_an_attach_is_unknown() -> None:
    builder = StoryBuilder()
    builder.process(attached=True)
    builder.gil()
    builder.event(0, K.PROCESS_START, builder.thread())
    source = builder.source()
    began_ns = source.metadata.start_ns + source.metadata.realtime_offset_ns
    (process,) = summarise(Trace.from_source(source))["processes"]
    assert process["attached_at_ns"] == began_ns
    (line,) = (line for line in shown(source).splitlines() if "attached" in line)
    assert re.fullmatch(r"attached at \d\d:\d\d:\d\d UTC; what was before is unknown *", line)
    assert "attached" not in shown(convoy())


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
    expect_golden(VIEWS / f"convoy-{width}.txt", shown(convoy(), width))


@pytest.mark.parametrize("width", [80, 200])
def test_conditions_locks_and_sections_look_like_this(width: int) -> None:
    expect_golden(VIEWS / f"conditions-{width}.txt", shown(conditions(), width))


# Workers that compute, and one that comes back from IO.
PAGE = """
    0        main process.start
    0        worker-1 thread.start
    0        worker-2 thread.start
    0        echo thread.start
    0        worker-1 gil.acquire
    10000    echo gil.wait io
    20000    worker-2 gil.wait io
    5000000  worker-1 stack arg=0 seen
    5000000  worker-1 gil.yield arg=3
    5000009  worker-2 gil.acquire waited
    5000020  worker-1 gil.wait cpu
    10000000 worker-2 stack arg=1 seen
    10000000 worker-2 gil.yield arg=3
    10000020 echo gil.acquire waited
    10000030 worker-2 gil.wait cpu
    10100000 echo gil.release arg=3
    10100009 worker-1 gil.acquire waited
    10200000 echo gil.wait io
    15000000 worker-1 stack arg=1 seen
    15000000 worker-1 gil.yield arg=3
    15000009 worker-2 gil.acquire waited
    15000020 worker-1 gil.wait cpu
    20000000 worker-2 gil.release arg=1
    20000009 echo gil.acquire waited
    20100000 echo gil.release arg=1
    20100009 worker-1 gil.acquire waited
    21000000 worker-1 gil.release
    22000000 main process.end
"""


def page() -> MemorySource:
    return told(PAGE)


@pytest.mark.parametrize("width", [80, 120, 200])
def test_a_page_looks_like_this(width: int) -> None:
    expect_golden(VIEWS / f"page-{width}.txt", shown(page(), width, None))


def test_a_page_in_ascii_looks_like_this() -> None:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii", errors="strict")
    render(summarise(Trace.from_source(page())), Console(file=file, width=80, highlight=False))
    file.flush()
    expect_golden(VIEWS / "page-ascii.txt", raw.getvalue().decode("ascii"))


def test_a_page_on_a_terminal_looks_like_this() -> None:
    """Lines are linked to their files; nobody's colours are dark or light ones."""
    options: dict[str, Any] = {"force_terminal": True, "color_system": "standard", "_environ": {}}
    text = re.sub(r"id=\d+", "id=1", shown(page(), 80, None, **options))
    expect_golden(VIEWS / "page-terminal.txt", text)
    assert "\x1b]8;id=1;file:///app/main.py\x1b\\" in text
    assert "\x1b[37m" not in text
    assert "\x1b[30m" not in text


@pytest.mark.parametrize(
    "shape", [((5, 1),), ((500, 1),), ((500, 9),), ((5, 1),) * 64], ids=lambda s: f"{len(s)}x{s[0]}"
)
def test_a_page_fits_on_a_screen(shape: tuple[tuple[int, int], ...]) -> None:
    text = shown(rolled_story(7, 20_000, shape), 80, None)
    assert 15 < len(text.splitlines()) <= 50


def test_like_threads_are_one_row_of_a_page() -> None:
    text = shown(page(), 120, None)
    assert "worker-* (2)  cpu" in text
    tables = text[text.index("thread   ") : text.index("the longest waits")]
    assert "worker-1" not in tables
    assert "worker-1  " in shown(page(), 120, 10)


def test_what_is_unknown_is_no_part_of_a_share() -> None:
    story = "0 a process.start\n0 a gil.acquire\n30 a gil.release\n{}100 a process.end"
    text = shown(told(story.format("40 a gil.lost arg=0\n")))
    assert "GIL: held 75 % of the time" in text
    assert "60 ns more are unknown" in text
    assert "?? unknown" in text
    row, *_ = (line for line in text.splitlines() if line.startswith("a "))
    assert row.split()[-8:-2] == ["75", "%", "0", "%", "25", "%"]  # then what it waited
    text = shown(told(story.format("")))
    assert "GIL: held 30 % of the time" in text
    assert "unknown" not in text


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


NAMES = {
    "pool": [f"ThreadPoolExecutor-{n // 4}_{n % 4}" for n in range(12)],
    "same": ["ThreadPoolExecutor-0_0"] * 12,
    "targets": [f"Thread-{n} (process_request_thread)" for n in range(6, 18)],
    "wide": [f"スレッドプール実行者 {n} の作業" for n in range(12)],
    "short": ["", *"abcdefghijk"],
}


@cache
def summary_with(names: str | None, source: Callable[[], MemorySource] = crowd) -> dict[str, Any]:
    """Of a story of three processes whose threads have these names, or of another story."""
    if names is None:
        return summarise(Trace.from_source(source()))
    story = rolled_story(5, 3_000, ((6, 2), (3, 1), (3, 1)))
    threads = zip(story.metadata.threads, NAMES[names], strict=True)
    renamed = tuple(replace(thread, name=name) for thread, name in threads)
    story.metadata = replace(story.metadata, threads=renamed)
    return summarise(Trace.from_source(story))


def lines_of(summary: dict[str, Any], width: int) -> list[str]:
    file = io.StringIO()
    render(summary, Console(file=file, width=width), 10)
    return file.getvalue().splitlines()


def test_processes_that_ran_no_python_are_told_apart() -> None:
    """As the shells are that pyenv starts it with."""
    summary = copy.deepcopy(summary_with("short"))
    assert " 3 processes" in "\n".join(lines_of(summary, 200))
    for process in summary["processes"][1:]:
        process["python"] = None
    assert " in 1 of 3 processes" in "\n".join(lines_of(summary, 200))


STORIES = [*((names, crowd) for names in NAMES), (None, convoy), (None, conditions), (None, crowd)]


@pytest.mark.parametrize(("names", "source"), STORIES)
def test_at_every_width_figures_have_their_units_and_headers_are_whole(
    names: str | None, source: Callable[[], MemorySource]
) -> None:
    """Each story at its share of the widths, so that together they have them all."""
    summary = summary_with(names, source)
    figures = Counter(FIGURE.findall("\n".join(lines_of(summary, 30))))  # no tables
    assert figures
    for width in range(60 + STORIES.index((names, source)), 201, len(STORIES)):
        lines = lines_of(summary, width)
        assert max(map(cell_len, lines)) <= width
        assert not [line for line in lines if line != line.rstrip()]
        assert not [line for line in lines if re.match(r"\s*(?:[nµm]?s|%)(?:\W|$)", line)]
        assert not figures - Counter(FIGURE.findall("\n".join(lines)))
        rules = [at for at, line in enumerate(lines) if set(line) == {"─"}]
        headers = " ".join(" ".join(lines[at - 2 : at]) for at in rules)
        assert "…" not in headers
        assert {"held", "waiting", "outside", "waited"} <= set(headers.split())


@pytest.mark.parametrize("names", NAMES)
@pytest.mark.parametrize("width", [60, 80, 140])
def test_each_thread_has_one_name_of_its_own(names: str, width: int) -> None:
    """However short, and the longer one beyond the tables is the same everywhere."""
    summary = summary_with(names)
    lines = lines_of(summary, width)
    first = 2 + next(at for at, line in enumerate(lines) if re.match("thread +kind", line))
    shown = [re.split(" +(?:io|cpu|mixed|idle) ", line)[0] for line in lines[first : first + 10]]
    assert len(set(shown)) == 10
    told = names_of(t for p in summary["processes"] for t in p["threads"])
    text = " ".join(line.strip() for line in lines)
    assert all(told[w["waiter"]] in text for w in summary["longest_waits"][:3])
    assert f"{told[summary['longest_waits'][0]['waiter']]}" in summary["findings"][0]["text"]


def test_names_are_cut_where_they_do_not_differ() -> None:
    pool = ["ThreadPoolExecutor-0_0 20316", "ThreadPoolExecutor-0_0 20317", "main"]
    assert list(shortened(pool, 16).values()) == ["ThreadP…_0 20316", "ThreadP…_0 20317", "main"]
    flask = [f"Thread-{n} (process_request_thread)" for n in (1, 11, 12)]
    told = ["Thread-1 (pro…", "Thread-11 (pr…", "Thread-12 (pr…"]
    assert list(shortened(flask, 14).values()) == told
    assert shortened(flask[1:2], 14) == {flask[1]: "Thread…thread)"}  # not Thread-1…
    assert shortened(["größenänderung"], 8, "~") == {"größenänderung": "grö~rung"}
    alike = ["a" * 20, "a" * 30]
    assert set(shortened(alike, 8).values()) == {"aaaaaaa…"}


def test_who_is_left_out_of_a_cause_is_always_counted() -> None:
    """A sum over many threads is not told as one of them."""
    summary = deepcopy(summary_with("targets"))
    site = {"file": "app.py", "line": 9, "function": "render", "library_line": None, "exact": True}
    site |= {"library": None, "short": "app.py", "gc": False}
    for row in (row for p in summary["processes"] for row in p["blame"]):
        row["holder_site"] = None if row["holder"] is None else site
    cause = re.compile(r"Thread-\d+ \(process_request_thread\) \+\d+ more in app.py:9 render")
    for width in range(60, 201, 10):
        assert cause.search(" ".join(line.strip() for line in lines_of(summary, width)))


def test_the_verdict_is_first_with_its_number() -> None:
    first = shown(convoy(), 200).splitlines()[0]
    assert first.startswith("echo waited 5.01 ms (p99 of 2 waits) for the GIL")


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
        ["b", "70", "ns", "84", "%", "c", "+1", "more", "in", "main.py:17", "serve"],
        ["14", "%", "e"],
        ["1.4", "%", "(waking", "up)"],
    ]


def test_a_program_in_the_command_is_not_printed_whole() -> None:
    program = "\nimport time\n" + "time.sleep(1)\n" * 50
    source = convoy()
    source.metadata = replace(source.metadata, command=("python", "-c", program, "x" * 99, "a\tb"))
    head = f"python -c import time… {'x' * 59}… a\\tb  9.2 ms, 21 events, "
    assert any(line.startswith(head) for line in shown(source, 200).splitlines())


def test_colours_are_for_terminals() -> None:
    assert "\x1b[31m" in shown(convoy(), force_terminal=True, color_system="standard", _environ={})


def test_the_worst_thread_is_first_and_the_rest_is_counted() -> None:
    text = shown(crowd(), top=7)
    assert "and 2,993 more threads, which waited 0 ns in all" in text
    assert "and 1 more thread, which" in shown(convoy(), top=2)
    lines = shown(convoy()).splitlines()
    first = 2 + next(i for i, line in enumerate(lines) if line.startswith("thread "))
    assert [line.split()[0] for line in lines[first : first + 3]] == ["echo", "spin", "MainThread"]


@pytest.mark.parametrize(
    ("code", "told"),
    [(0, ""), (3, "exit code 3"), (143, "exit code 143 (SIGTERM)"), (255, "exit code 255")],
)
def test_how_the_command_ended_is_told(code: int, told: str) -> None:
    summary = {**summarise(Trace.from_source(convoy())), "exit_code": code}
    (headline,) = (line for line in lines_of(summary, 200) if " events, " in line)
    assert headline.partition("exit code")[1:] == told.partition("exit code")[1:]


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


LOCKED = """
    0          main     process.start
    0          keeper   thread.start
    0          spin     thread.start
    1000       main     lock.wait sem-lock object=0x40
    2000       keeper   gil.acquire
    3000       spin     gil.wait cpu
    9000000    keeper   stack arg=2 seen
    9000000    keeper   gil.yield
    9000100    spin     gil.acquire waited
    9000200    spin     gil.release
    199999000  keeper   gil.acquire
    200000000  keeper   stack arg=2 waker
    200000000  keeper   lock.release sem-lock object=0x40
    200000500  keeper   gil.release
    200001000  main     lock.acquire sem-lock object=0x40
    200001000  main     stack arg=1 sync-wait
    200002000  main     gil.acquire
    200003000  main     gil.release
    200004000  main     process.end
"""


def test_where_a_lock_is_the_cause_its_table_comes_first() -> None:
    text = shown(told(LOCKED), 100, None)
    assert "for a lock" in text.splitlines()[0]
    assert "main waited 200 ms in main.py:17 serve while keeper had it, given back in" in text
    tables = ("\nlock ", "\nwho made others wait", "\nthread ")
    places = [text.index(header) for header in tables]
    assert places == sorted(places)

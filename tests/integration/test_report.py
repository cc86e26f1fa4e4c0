"""`gilscope report` in a real browser, and speedscope's own application with an export.

One browser for all: each test opens pages of its own in it.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from support.browser import chromium
from support.pages import ReportPage, package, served
from support.recorded import GILSCOPE, record
from support.stories import rolled_story

import gilscope
from gilscope.analysis.flame import flame_of
from gilscope.analysis.summary import summarise
from gilscope.analysis.units import duration
from gilscope.benchmarks.synthetic import SyntheticSource
from gilscope.export.frames import burnt
from gilscope.perfetto.writer import write_trace
from gilscope.safe_text import escaped

CHARTS = ("timeline", "lives", "waits-io", "waits-cpu", "blame")
MOST_BYTES = 3_000_000

HOSTILE = r"""
import sys, threading, time
names = [
    "\x1b[2J\x1b[31mred", "a\nb\tc\rd", "nul\0x", "\x9b31mC1", "\u202egnp.exe", "x" * 500,
    "\ud800lone", "`back`", "<script>window.broken = 1</script>", "<!--", "a;b 12;c",
    "</script><img src=x onerror='window.broken=1'>", "\u65e5\u672c\u8a9e", "{{7*7}}",
    "__proto__", "constructor", "toString", "\"'><b>",
]
SOURCE = '''
import time
def f():
    end = time.monotonic() + .08
    while time.monotonic() < end: pass
'''
def made(number, name):
    space = {}
    exec(compile(SOURCE, f"/srv/<b>dir/\x1b[2J/ev\nil{number}.py", "exec"), space)
    code = space["f"].__code__.replace(co_name=f"f<script>{number}")
    if sys.version_info >= (3, 11):
        code = code.replace(co_qualname=code.co_name)
    space["f"].__code__ = code
    return space["f"]
threads = [threading.Thread(target=made(n, name), name=name) for n, name in enumerate(names)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


@pytest.fixture(scope="module")
def page() -> Iterator[ReportPage]:
    with chromium("--use-angle=swiftshader", "--enable-unsafe-swiftshader") as driver:
        yield ReportPage(driver)


def report(trace: Path) -> Path:
    """The report of a trace, by the command."""
    output = trace.with_suffix(".html")
    done = subprocess.run(
        [*GILSCOPE, "report", trace, "-o", output],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return output


def expect_whole(page: ReportPage, path: Path) -> None:
    """All charts are drawn, each has a table, nothing is asked for, nobody complains."""
    assert page.complaints() == []
    assert page.requests() == {path.as_uri()}
    drawn = page.run("""
        return Object.fromEntries([...document.querySelectorAll("[data-chart]")].map((chart) =>
            [chart.dataset.chart, chart.querySelectorAll("svg .role-mark path").length]));
    """)
    assert set(drawn) <= set(CHARTS)
    assert {"timeline", "lives"} <= set(drawn)
    assert all(drawn.values()), drawn
    assert page.run("return document.querySelectorAll('#flame-graph g.frame').length") > 1
    bare = page.run("""
        return [...document.querySelectorAll("figure")].filter((figure) =>
            !figure.closest("section").querySelector("table tbody tr")).length;
    """)
    assert bare == 0
    assert page.inaccessible() == []


def test_hostile_names_stay_text(page: ReportPage, tmp_path: Path) -> None:
    program = tmp_path / "hostile.py"
    program.write_text(HOSTILE, encoding="utf-8")
    recording = record(tmp_path, sys.executable, program)
    assert recording.code == 0
    path = report(recording.path)
    for scheme in ("light", "dark"):
        page.open(path, scheme=scheme)
        expect_whole(page, path)
    assert page.run("return window.broken") is None
    scripts = "return [...document.scripts].filter((s) => s.type !== 'application/json').length"
    assert page.run(scripts) == 3
    assert page.run("return document.images.length") == 0
    rows = page.run("""
        const names = document.querySelectorAll("#threads-table tbody th");
        return [...names].map((name) => name.textContent);
    """)
    names = {escaped(thread.name) for thread in recording.metadata.threads}
    assert len(names) > 17
    assert {name for name in names if name not in rows} <= {"MainThread"}
    page.run("document.querySelector('input[value=waiting]').click()")
    tips = page.run(
        "return [...document.querySelectorAll('#flame-graph title')].map((t) => t.textContent)"
    )
    assert any("f<script>" in tip for tip in tips)


def test_pages_of_any_width_scheme_and_medium(page: ReportPage, tmp_path: Path) -> None:
    trace = tmp_path / "story.pftrace"
    write_trace(rolled_story(5, 3_000, ((4, 1), (3, 2))), trace)  # with locks, losses, sections
    path = report(trace)
    for width in (360, 1600):
        page.open(path, width=width)
        expect_whole(page, path)
        assert page.run("return document.documentElement.scrollWidth") <= width
    page.emulate(scheme="dark", media="print")
    colours = (
        "const style = getComputedStyle(document.body); return [style.backgroundColor, style.color]"
    )
    assert page.run(colours) == ["rgb(255, 255, 255)", "rgb(0, 0, 0)"]
    assert page.run("return getComputedStyle(document.querySelector('nav')).display") == "none"
    page.emulate(scheme="dark")
    assert page.run(colours)[0] == "rgb(13, 17, 23)"


def test_the_timeline_zooms_and_the_flame_is_searched(page: ReportPage, tmp_path: Path) -> None:
    trace = tmp_path / "many.pftrace"
    write_trace(SyntheticSource(60_000), trace)
    path = report(trace)
    page.open(path)
    summary = summarise(gilscope.read(trace))
    window = "return document.getElementById('window').textContent"
    assert page.run(window) == ""
    wait = summary["longest_waits"][0]
    page.driver.find_element(By.CSS_SELECTOR, "button.zoom").send_keys(Keys.ENTER)
    page.until(f"{window} !== ''")
    low, high = wait["at_ns"] - wait["wait_ns"], wait["at_ns"] + 2 * wait["wait_ns"]
    ends = page.run(window).split(" to ")
    assert [end.split()[1] for end in ends] == [duration(ns).split()[1] for ns in (low, high)]
    for found, ns in zip(ends, (low, high), strict=True):
        assert float(found.split()[0]) == pytest.approx(float(duration(ns).split()[0]), rel=0.02)
    marks = "return document.querySelectorAll('[data-chart=timeline] svg .role-mark path').length"
    page.until(marks)
    page.driver.find_element(By.CSS_SELECTOR, "button[data-move=all]").send_keys(Keys.SPACE)
    page.until(f"{window} === ''")
    search = page.driver.find_element(By.ID, "flame-search")
    search.send_keys("worker")
    details = "return document.getElementById('flame-details').textContent"
    page.until(f"{details}.startsWith('found: ')")
    holds = sum(t["held_ns"] for p in summary["processes"] for t in p["threads"])
    workers = sum(
        t["held_ns"]
        for p in summary["processes"]
        for t in p["threads"]
        if t["name"] != "MainThread"
    )
    share = float(page.run(details).split(", ")[1].removesuffix(" %"))
    assert share == pytest.approx(100 * workers / holds, rel=0.01)
    table = page.driver.find_element(By.CSS_SELECTOR, "#timeline summary")
    table.send_keys(Keys.ENTER)
    assert page.run("return document.querySelector('#timeline details').open")
    page.driver.find_element(By.ID, "thread-filter").send_keys("main")
    page.until("return document.getElementById('threads-table-count').textContent === ' 1 of 8'")


@pytest.mark.parametrize("shape", ["500 threads", "64 processes", "a million events"])
def test_large_ones_are_as_usable(page: ReportPage, tmp_path: Path, shape: str) -> None:
    trace = tmp_path / "large.pftrace"
    source = {
        "500 threads": lambda: rolled_story(1, 20_000, ((500, 1),), rare=0),
        "64 processes": lambda: rolled_story(2, 20_000, ((8, 1),) * 64, rare=0),
        "a million events": lambda: SyntheticSource(1_000_000),
    }[shape]()
    write_trace(source, trace)
    path = report(trace)
    trace.unlink()  # SQL has smaller ones
    assert path.stat().st_size < MOST_BYTES
    page.open(path)
    expect_whole(page, path)
    lanes = page.run(
        "return JSON.parse(document.getElementById('data-timeline').textContent).lanes"
    )
    assert 1 <= len(lanes) <= 8
    shown = page.run("return document.querySelectorAll('#threads-table tbody tr').length")
    assert shown == len(source.metadata.threads)


def told(ns: int) -> str:
    """A time as speedscope writes it."""
    seconds = ns * 1e-9
    for size, unit in ((1, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds / size >= 1:
            return f"{seconds / size:.2f}{unit}"
    return f"{seconds / 1e-9:.2f}ns"


def sandwich(page: ReportPage) -> Counter[tuple[str, str, str]]:
    """Total, own time and name of each row of speedscope's table."""
    rows: list[list[str]] = page.run("""
        return [...document.querySelectorAll("tr")].map((row) =>
            [...row.cells].map((cell) => cell.innerText.trim()));
    """)
    return Counter(
        (total.split()[0], own.split()[0], name)
        for total, own, name in (row for row in rows if len(row) == 3)
        if "(" in total
    )


def test_speedscope_shows_the_same_totals(page: ReportPage, tmp_path: Path) -> None:
    trace = tmp_path / "story.pftrace"
    write_trace(rolled_story(11, 2_000, ((4, 1), (3, 1))), trace)
    export = tmp_path / "story.speedscope.json"
    subprocess.run(
        [*GILSCOPE, "export", trace, "--format", "speedscope", "-o", export],
        check=True,
        capture_output=True,
    )
    read = gilscope.read(trace)
    flame = flame_of(read)
    page.emulate()
    with served(package("speedscope") / "dist" / "release", {"/export.json": export}) as address:
        page.driver.get(f"{address}/index.html#profileURL=/export.json")
        for number, weight in enumerate(("held_ns", "caused_ns"), 1):
            page.until(f"return document.body.innerText.includes('({number}/2)')")
            page.driver.find_element(By.TAG_NAME, "body").send_keys("3")  # the sandwich view
            page.until("return document.querySelectorAll('tr').length > 1")
            assert sandwich(page) == _expected(flame, read, weight)
            page.driver.find_element(By.TAG_NAME, "body").send_keys("n")  # the next profile


def _expected(flame: Any, trace: Any, weight: str) -> Counter[tuple[str, str, str]]:
    totals: Counter[Any] = Counter()
    own: Counter[Any] = Counter()
    for stack in burnt(flame, trace.metadata):
        ns = getattr(stack, weight)
        own[stack.frames[-1]] += ns
        for frame in set(stack.frames):
            totals[frame] += ns
    return Counter((told(ns), told(own[frame]), frame.name) for frame, ns in totals.items() if ns)

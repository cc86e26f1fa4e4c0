"""`gilscope view` as a user runs it, up to a real browser that shows the trace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from support import interpreters
from support.browser import PerfettoPage, perfetto_page
from support.recorded import GILSCOPE, record
from support.stack_programs import CULPRITS, lines_of
from support.stories import told

from gilscope.cli import main, view
from gilscope.perfetto.reader import open_trace
from gilscope.perfetto.writer import write_trace
from gilscope.trace.model import Trace
from gilscope.trace.schema import EventKind
from gilscope.trace.story import NEVER, OF_CONDITION
from gilscope.viewers import perfetto_ui

HOLDS, WAITS = "holds GIL", "waiting for GIL"
GREEN, RED, WHITE = "73c34d", "e33760", "ffffff"  # of HOLDS and WAITS, and no slice
CYAN, TEAL = "52b9c6", "3d8a9f"  # of waits for a condition and for a lock

# The page's stand-in: finds the trace's address in the page's and loads it as the page would.
BROWSER = """
import http.client, sys, urllib.parse, urllib.request
opened = urllib.parse.urlsplit(sys.argv[1])
connection = http.client.HTTPConnection(opened.netloc, timeout=60)
connection.request("GET", opened.path)
page = connection.getresponse().headers["Location"]
route = urllib.parse.parse_qs(urllib.parse.urlsplit(page).fragment.partition("?")[2])
request = urllib.request.Request(route["url"][0], headers={"Origin": "https://ui.perfetto.dev"})
with urllib.request.urlopen(request, timeout=60) as answer, open(sys.argv[2], "wb") as file:
    file.write(answer.read())
"""


def three_threads(turns: int) -> str:
    """Two threads that compute and one that comes back from IO, taking turns."""
    names = ("MainThread", "worker-1", "worker-2")
    lines = [
        "0 MainThread process.start",
        "10 MainThread gil.acquire",
        "300_000 worker-1 gil.wait io arg=1",
        "600_000 worker-2 gil.wait io arg=2",
    ]
    time = 10
    for turn in range(turns):
        holder, following = names[turn % 3], names[(turn + 1) % 3]
        is_io = turn % 3 == 2
        if not is_io:
            lines.append(f"{time + 5_000_000} {following} gil.request arg=2")
        time += 300_000 if is_io else 5_050_000
        lines += [
            f"{time} {holder} {'gil.release' if is_io else 'gil.yield'} arg=2",
            f"{time + 100_000} {following} gil.acquire waited arg=1",
            f"{time + 150_000} {holder} gil.wait {'io' if is_io else 'cpu'} arg=2",
        ]
        time += 100_000
    return "\n".join([*lines, f"{time + 1_000_000} MainThread process.end"])


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "three threads.pftrace"
    write_trace(told(three_threads(12)), path)
    return path


@contextmanager
def viewing(command: list[str], **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A running `gilscope view` that has said where the trace is; killed at the end, if need be."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def address(process: subprocess.Popen[str]) -> str:
    """The address that it prints."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("Address: "):
            return line.removeprefix("Address: ").strip()
    raise AssertionError(f"no address; {process.stderr and process.stderr.read()}")


# ---- on the command line ------------------------------------------------------------------------


def refused(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that view says about a file that it will not open."""
    assert main(["view", "--no-browser", str(path)]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("gilscope: ")
    assert err.count("\n") == 1
    assert str(path) in err
    return err


def test_refuses_what_is_no_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(tmp_path / "missing.pftrace", capsys)
    refused(tmp_path, capsys)
    text = tmp_path / "text.pftrace"
    text.write_text("no trace\n")
    refused(text, capsys)


def test_refuses_half_a_trace(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = trace.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 1):
        trace.write_bytes(whole[:size])
        refused(trace, capsys)


def test_gives_up_when_no_page_loads(
    trace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(perfetto_ui, "ONLINE_PORT", 0)
    monkeypatch.setattr(view, "LOAD_TIMEOUT_S", 0.0)
    assert main(["view", "--no-browser", str(trace)]) == 1
    out, err = capsys.readouterr()
    assert "Allow" in out
    assert "ssh -L" in out
    assert err.count("\n") == 1
    assert "drop the file" in err


def test_says_so_when_there_is_no_browser(
    trace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(perfetto_ui, "ONLINE_PORT", 0)
    monkeypatch.setattr(perfetto_ui, "open_browser", lambda url: False)
    monkeypatch.setattr(view, "LOAD_TIMEOUT_S", 0.0)
    main(["view", str(trace)])
    assert "open that address yourself" in capsys.readouterr().out


@pytest.mark.alone  # the port is the one that Perfetto's UI knows
def test_the_browser_gets_the_trace_and_view_ends(trace: Path, tmp_path: Path) -> None:
    script, copy = tmp_path / "browser.py", tmp_path / "copy"
    script.write_text(BROWSER)
    browser = f"{sys.executable} {script} %s {copy}"
    with viewing([*GILSCOPE, "view", str(trace)], BROWSER=browser) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert copy.read_bytes() == trace.read_bytes()
    assert "https://ui.perfetto.dev/#!/?url=http%3A%2F%2F127.0.0.1%3A9001%2F" in out
    assert "no longer served" in out


@pytest.mark.parametrize(("mode", "code"), [("--offline", 0), ("online", 130)])
def test_ctrl_c_ends_it_quietly(trace: Path, mode: str, code: int) -> None:
    program = (
        "import sys; from gilscope.cli import main; from gilscope.viewers import perfetto_ui; "
        "perfetto_ui.ONLINE_PORT = 0; sys.exit(main(sys.argv[1:]))"
    )
    options = [mode] if mode.startswith("-") else []
    command = [sys.executable, "-c", program, "view", "--no-browser", *options, str(trace)]
    with viewing(command) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "Ctrl-C" in line:
                break
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (code, "")


# ---- in the browser -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page() -> Iterator[PerfettoPage]:
    with perfetto_page() as started:
        yield started


def shown(page: PerfettoPage, path: Path) -> Trace:
    """Open the trace in the browser through `view --offline`; return what gilscope reads in it."""
    with viewing([*GILSCOPE, "view", "--offline", "--no-browser", str(path)]) as process:
        url = address(process)
        assert urlsplit(url).hostname == "127.0.0.1"
        page.open(url)
    return Trace.from_source(open_trace(path))


def assert_imported_whole(page: PerfettoPage, path: Path, trace: Trace) -> None:
    """Every hold, wait and count of waiters is in the page's engine, which has no complaint."""
    assert (
        page.query(
            "select name, value from stats where severity in ('error', 'data_loss') and value > 0"
        )
        == []
    )
    assert page.query("select count(*) from slice where name is null or dur < 0") == [[0]]
    on_threads = page.query(
        "select s.name, count(*) from slice s join thread_track t on s.track_id = t.id "
        f"where s.name in ('{HOLDS}', '{WAITS}') group by s.name order by s.name"
    )
    assert on_threads == [[HOLDS, len(trace.holds)], [WAITS, len(trace.waits)]]
    owned = page.query(
        "select count(*), sum(s.dur) from slice s join track t on s.track_id = t.id "
        "where t.name like 'GIL% owner'"
    )
    held_ns = int((trace.holds["end_ns"] - trace.holds["start_ns"]).sum())
    assert owned == [[len(trace.holds), held_ns]]
    kinds = np.concatenate([batch["kind"].copy() for batch in open_trace(path).batches()])
    counted = (kinds >= EventKind.GIL_WAIT) & (kinds <= EventKind.GIL_REQUEST)
    assert page.query(
        "select count(*) from counter c join counter_track t on c.track_id = t.id "
        "where t.name like 'GIL% waiters'"
    ) == [[int(counted.sum())]]


def assert_opened_at_the_longest_wait(page: PerfettoPage, trace: Trace) -> None:
    """All of the wait is seen, a hold beside it is selected, and flows lead there or on."""
    wait = trace.waits[np.argmax(trace.waits["end_ns"] - trace.waits["start_ns"])]
    selected = page.selected()
    assert selected["name"] == HOLDS
    assert selected["ts"] <= wait["end_ns"]
    assert selected["ts"] + selected["dur"] > wait["start_ns"]
    begin, end = page.visible_ns()
    assert begin <= wait["start_ns"]
    assert wait["end_ns"] <= end
    assert end - begin <= 11 * (wait["end_ns"] - wait["start_ns"])
    # A hold that nobody was woken by or woke, as a recording may have, has no flow to show.
    [[flows]] = page.query(
        "select count(*) from flow join slice on slice.id in (slice_in, slice_out) "
        f"where name = '{HOLDS}' and ts = {selected['ts']} and dur = {selected['dur']}"
    )
    drawn = page.run("return window.app.trace.flows.connectedFlows.length")
    assert (drawn > 0) == (flows > 0)


def test_story_looks_as_it_should(page: PerfettoPage, trace: Path, tmp_path: Path) -> None:
    link = tmp_path / "a link, naïve ☂ 100% #1?.pftrace"
    link.symlink_to(trace)
    model = shown(page, link)
    assert_imported_whole(page, link, model)
    assert_opened_at_the_longest_wait(page, model)

    png = tmp_path / "screenshot.png"
    page.screenshot(png)
    tracks = page.tracks()
    threads = [tracks[title] for title in ("MainThread 4242", "worker-1 4243", "worker-2 4244")]
    owner, waiters = tracks["GIL owner"], tracks["GIL waiters"]
    tops = [top for top, _, _ in (*threads, owner, waiters)]
    assert tops == sorted(set(tops))

    below_the_edge = 6  # of a slice, above its text
    lines = [page.colours(png, top + below_the_edge, *sides) for top, *sides in threads]
    owned = page.colours(png, owner[0] + below_the_edge, *owner[1:])
    columns = list(zip(*lines, strict=True))
    assert all(column.count(GREEN) <= 1 for column in columns), "two threads hold the GIL at once"
    for column, colour in zip(columns, owned, strict=True):
        if GREEN in column:
            assert colour != WHITE, "a thread holds the GIL that has no owner"
    begin, end = page.visible_ns()
    for thread, line in enumerate(lines):
        for colour, intervals in ((GREEN, model.holds), (RED, model.waits)):
            rows = intervals[intervals["thread"] == thread]
            seen = np.minimum(rows["end_ns"], end) - np.maximum(rows["start_ns"], begin)
            expected = seen.clip(0).sum() / (end - begin)
            assert line.count(colour) / len(line) == pytest.approx(expected, abs=0.05)
    assert RED in lines[2]
    assert len(set(page.colours(png, waiters[0] + 30, *waiters[1:]))) > 1


def test_many_threads_open_with_those_that_waited_longest(
    page: PerfettoPage, tmp_path: Path
) -> None:
    """Twelve threads, each waiting longer than the one before; and a process without a GIL."""
    lines = ["0 MainThread process.start", "1 MainThread gil.acquire", "2 MainThread gil.release"]
    time = 10_000
    for number in range(1, 12):
        lines.append(f"{time} worker-{number} gil.wait io arg=1")
        time += 100_000 * number
        lines.append(f"{time} worker-{number} gil.acquire waited")
        lines.append(f"{time + 50_000} worker-{number} gil.release")
        time += 60_000
    lines += [f"{time} other process.start process=1", f"{time + 9} other process.end"]
    lines.append(f"{time + 10} MainThread process.end")
    path = tmp_path / "many.pftrace"
    write_trace(told("\n".join(lines)), path)
    shown(page, path)
    pinned = page.run("return window.app.trace.workspace.pinnedTracks.map((t) => t.name)")
    names = dict.fromkeys(name.split()[0] for name in pinned)  # a thread's group has its name too
    assert list(names) == [f"worker-{n}" for n in range(11, 3, -1)]
    unfolded = page.run("""
        return window.app.trace.workspace.children
            .filter((group) => /^python/.test(group.name))
            .map((group) => [group.name, group.expanded]);
    """)
    assert [expanded for _, expanded in sorted(unfolded)] == [True, False]


def test_locks_conditions_and_sections_look_as_they_should(
    page: PerfettoPage, root: Path, tmp_path: Path
) -> None:
    path = tmp_path / "conditions.pftrace"
    source = told((root / "tests/golden/stories/conditions.story").read_text(encoding="utf-8"))
    start_ns = source.metadata.start_ns
    source.events["time_ns"] = start_ns + 1_000 * (source.events["time_ns"] - start_ns)
    object.__setattr__(source.metadata, "end_ns", start_ns + 180_000)
    write_trace(source, path)
    model = shown(page, path)
    names = ["atomic section", "waiting for condition", "waiting for lock", "woken"]
    listed = ", ".join(f"'{name}'" for name in names)
    counted = page.query(
        f"select name, count(*) from slice where name in ({listed}) group by 1 order by 1"
    )
    conditions = int((model.sync_waits["object"] >= OF_CONDITION).sum())
    woken = int((model.sync_waits["woken_ns"] != NEVER).sum())
    n_sections = int((source.events["kind"] == EventKind.ATOMIC_ENTER).sum())
    expected = n_sections, conditions, len(model.sync_waits) - conditions, woken
    assert counted == [list(row) for row in zip(names, expected, strict=True)]

    png = tmp_path / "screenshot.png"
    page.screenshot(png)
    tracks = page.tracks()
    threads = {name: tracks[name] for name in ("worker 4243", "other 4244")}
    colours = {
        name: set(page.colours(png, top + 6, *sides)) for name, (top, *sides) in threads.items()
    }
    assert CYAN in colours["worker 4243"]
    assert {CYAN, TEAL} <= colours["other 4244"]
    assert "atomic sections (4243)" in tracks


def test_recorded_example(page: PerfettoPage, root: Path, tmp_path: Path) -> None:
    path = tmp_path / "convoy.pftrace.gz"
    example = str(root / "examples" / "echo_server.py")
    subprocess.run(
        [*GILSCOPE, "record", "--no-summary", "-o", str(path), sys.executable, example],
        check=True,
        timeout=120,
        capture_output=True,
    )
    model = shown(page, path)
    assert len(model.waits) > 0
    assert_imported_whole(page, path, model)
    assert_opened_at_the_longest_wait(page, model)
    page.screenshot(tmp_path / "screenshot.png")
    assert [title for title in page.tracks() if title.startswith("echo ")], "not unfolded"


def test_a_click_tells_for_whom_and_where_a_thread_waited(
    page: PerfettoPage, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(CULPRITS)
    recording = record(tmp_path, interpreters.path(interpreters.DEBIAN), program)
    assert recording.code == 0, recording.err
    shown(page, recording.path)
    line = f"program.py:{lines_of(CULPRITS)['c_call']} c_call"

    def longest(above: str, name: str) -> list[str]:
        [[found]] = page.query(
            "select s.id from slice s join slice p on s.parent_id = p.id"
            f" where p.name = '{above}' and s.name = '{name}' order by s.dur desc limit 1"
        )
        return page.details(found)

    wait = longest(WAITS, f"for MainThread {line}")
    assert wait[wait.index("waited_for") + 1] == "MainThread"
    assert wait[wait.index("waited_for_line") + 1] == line
    assert wait[wait.index("line") + 1] == f"program.py:{lines_of(CULPRITS)['io']} io"
    hold = longest(HOLDS, line)
    assert hold[hold.index("kept_waiting") + 1] == "1"
    assert int(hold[hold.index("kept_waiting_ns") + 1]) > 0
    page.screenshot(tmp_path / "screenshot.png")

"""A part of a trace is a whole trace, and parts add up."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from support.stories import rolled_story, told

from gilscope.analysis.summary import summarise
from gilscope.cli import main
from gilscope.errors import UsageError
from gilscope.perfetto.reader import open_trace
from gilscope.perfetto.writer import write_trace
from gilscope.trace.cut import Cut
from gilscope.trace.model import Trace
from gilscope.trace.schema import EventSource, Metadata

STORIES = sorted((Path(__file__).parents[1] / "golden/stories").glob("*.story"))


def sources() -> list[EventSource]:
    return [
        *(told(story.read_text(encoding="utf-8")) for story in STORIES if story.stem != "empty"),
        rolled_story(3, 20_000, ((5, 2), (3, 1), (2, 3))),
    ]


def cut(source: EventSource, folder: Path, first: int, last: int) -> Trace:
    """The part, through a file."""
    path = folder / "part.pftrace"
    write_trace(Cut(source, first, last), path)
    return Trace.from_source(open_trace(path))


Times = dict[tuple[int, int, str], tuple[int, int]]


def times(trace: Trace) -> Times:
    """Held and waiting time of each thread, by pid, tid and name."""
    found: Times = {}
    stats = trace.thread_stats
    for thread, held, waiting in zip(
        trace.metadata.threads, stats["held_ns"].tolist(), stats["waiting_ns"].tolist(), strict=True
    ):
        key = (trace.metadata.processes[thread.process].pid, thread.tid, thread.name)
        before = found.get(key, (0, 0))
        found[key] = (before[0] + held, before[1] + waiting)
    return found


def added(parts: list[Times]) -> Times:
    total: Times = {}
    for part in parts:
        for key, (held, waiting) in part.items():
            before = total.get(key, (0, 0))
            total[key] = (before[0] + held, before[1] + waiting)
    return {key: value for key, value in total.items() if value != (0, 0)}


def edges(metadata: Metadata, n: int) -> list[int]:
    return np.linspace(metadata.start_ns, metadata.end_ns + 1, n + 1).astype(np.int64).tolist()


@pytest.mark.parametrize("number", range(len(sources())))
@pytest.mark.parametrize("n", [1, 2, 7])
def test_parts_add_up(number: int, n: int, tmp_path: Path) -> None:
    source = sources()[number]
    whole = Trace.from_source(source)
    at = edges(source.metadata, n)
    # What ends at the end of a process that outlives its last event is open in the whole, too.
    parts = [cut(source, tmp_path, first, last) for first, last in pairwise(at)]
    assert added([times(part) for part in parts]) == added([times(whole)])
    for part in parts:
        for process in summarise(part)["processes"]:
            waited = {t["id"]: t["waiting_ns"] for t in process["threads"]}
            for row in process["blame"]:
                waited[row["waiter"]] -= row["wait_ns"]
            assert set(waited.values()) <= {0}


def test_what_goes_on_at_the_cut_is_known(tmp_path: Path) -> None:
    source = told(
        """
        0 main process.start
        0 main thread.start
        0 other thread.start
        1 main gil.acquire
        2 other gil.wait cpu arg=1
        20 main gil.yield arg=1
        21 other gil.acquire waited
        30 other gil.release
        31 other lock.wait native object=0x10
        50 main gil.acquire
        60 main process.end
        """
    )
    start = source.metadata.start_ns
    part = cut(source, tmp_path, start + 10, start + 40)
    assert times(part) == {key: value for key, value in times(part).items() if key[2]}
    assert {key[2]: value for key, value in times(part).items()} == {
        "main": (10, 0),
        "other": (9, 11),
    }
    assert part.waits["cpu"].tolist() == [1]
    assert part.metadata.start_ns == start + 10
    (wait,) = part.sync_waits
    assert (wait["start_ns"], wait["end_ns"]) == (start + 31, start + 40)


def test_of_threads_everything_of_their_gil_stays(tmp_path: Path) -> None:
    source = rolled_story(3, 20_000, ((5, 2), (3, 1), (2, 3)))
    whole = Trace.from_source(source)
    name = source.metadata.threads[4].name  # of the first process, which alone has so many
    path = tmp_path / "part.pftrace"
    last = source.metadata.end_ns + 1
    write_trace(Cut(source, source.metadata.start_ns, last, [name]), path)
    part = Trace.from_source(open_trace(path))
    wanted = {key: value for key, value in times(whole).items() if key[2] == name}
    assert {key: value for key, value in times(part).items() if key[2] == name} == wanted
    assert len(part.metadata.threads) < len(whole.metadata.threads)
    with pytest.raises(UsageError, match="no thread is called nobody-\\*; there are"):
        Cut(source, 0, last, ["nobody-*"])


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace, part = tmp_path / "t.pftrace", tmp_path / "part.pftrace.gz"
    source = rolled_story(3, 2_000)
    write_trace(source, trace)
    length = (source.metadata.end_ns - source.metadata.start_ns) / 1e9
    assert main(["cut", str(trace), "-o", str(part), "--from", f"{length / 2:.9f}"]) == 0
    assert f"events in {part}" in capsys.readouterr().err
    half = open_trace(part).metadata
    assert half.start_ns == source.metadata.start_ns + round(length / 2 * 1e9)
    for arguments, reason in (
        (["-o", str(trace)], "into itself"),
        (["-o", str(part), "--from", "2", "--to", "1"], "not behind"),
        (["-o", str(part), "--from", "1000"], "it lasted"),
        (["-o", str(part), "--from", "-1"], "not a number of seconds"),
    ):
        assert main(["cut", str(trace), *arguments]) == 2
        assert reason in capsys.readouterr().err

"""What Perfetto's UI unfolds and pins at first."""

from __future__ import annotations

import re

from support.stories import StoryBuilder, told

from gilscope.trace.model import Trace
from gilscope.trace.schema import EventKind as K
from gilscope.viewers.perfetto_ui_start import MOST_PINNED, MOST_UNFOLDED, PINNED_FROM, commands


def crowd(processes: int, threads: int, hostile: str = "worker") -> Trace:
    """Each thread waits once, the later ones longer; of each process but the last, which has one
    thread and no GIL."""
    builder = StoryBuilder()
    for _ in range(processes):
        process = builder.process()
        gil = builder.gil(process)
        members = [builder.thread(process, f"{hostile}-{n}" if n else None) for n in range(threads)]
        first, *others = members
        builder.event(0, K.PROCESS_START, first)
        builder.event(1, K.GIL_ACQUIRE, first, gil)
        builder.event(5, K.GIL_RELEASE, first, gil)
        time = 10
        for thread in others:
            builder.event(time, K.GIL_WAIT, thread, gil)
            time += 10 * (thread + 1)
            builder.event(time, K.GIL_ACQUIRE, thread, gil, flags=1)
            builder.event(time + 1, K.GIL_RELEASE, thread, gil)
            time += 5
        builder.event(time, K.PROCESS_END, first)
    quiet = builder.process(pid=9)
    builder.event(0, K.PROCESS_START, builder.thread(quiet, "quiet"))
    builder.event(time, K.PROCESS_END, builder.threads[-1].id)
    builder.rows.sort(key=lambda row: row[0])
    return Trace.from_source(builder.source())


def args(trace: Trace, name: str) -> list[str]:
    return [c["args"][0] for c in commands(trace) if c["id"] == f"dev.perfetto.{name}"]


def test_processes_that_never_used_a_gil_stay_folded() -> None:
    (regex,) = args(crowd(2, 3), "ExpandTracksByRegex")
    assert re.search(regex, "python app.py 4242")
    assert re.search(regex, "python app.py 4342")
    assert not re.search(regex, "true 9")
    assert not re.search(regex, "python 14242")


def test_of_many_processes_those_that_waited_longest_are_unfolded() -> None:
    trace = crowd(MOST_UNFOLDED + 3, 2)
    (regex,) = args(trace, "ExpandTracksByRegex")
    pids = [p.pid for p in trace.metadata.processes[:-1]]
    assert [pid for pid in pids if re.search(regex, f"python {pid}")] == pids[3:]


def test_of_many_threads_those_that_waited_longest_are_pinned() -> None:
    trace = crowd(1, PINNED_FROM + 4)
    longest = sorted(
        trace.metadata.threads, key=lambda t: -int(trace.thread_stats["waiting_ns"][t.id])
    )[:MOST_PINNED]
    assert args(trace, "PinTracksByRegex") == [
        f"^{t.name.replace('-', '.')} {t.tid}$" for t in longest
    ]
    assert args(crowd(1, PINNED_FROM), "PinTracksByRegex") == []


def test_a_name_is_matched_as_javascript_reads_it() -> None:
    trace = crowd(1, PINNED_FROM + 1, hostile="(a|b)*\\ü日😀")
    regex = args(trace, "PinTracksByRegex")[0]
    assert regex == f"^.a.b...ü日...{PINNED_FROM} {4242 + PINNED_FROM}$"


def test_nothing_to_show() -> None:
    assert commands(Trace.from_source(told("0 a process.start\n9 a process.end"))) == []

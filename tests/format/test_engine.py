"""Perfetto's real engine imports what gilscope writes, without a single word of complaint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from support.engine_blame import expect_engine_agrees
from support.perfetto_engine import bad_stats, engine, query
from support.stories import MemorySource, possible_stories, rolled_story

from gilscope.analysis.summary import summarise
from gilscope.benchmarks.synthetic import SyntheticSource
from gilscope.perfetto.writer import write_trace
from gilscope.trace.model import Trace
from gilscope.trace.schema import EventKind, EventSource
from gilscope.trace.story import ACQUIRED, NEVER, OF_CONDITION

K = EventKind


def expected_counts(source: EventSource) -> dict[str, int]:
    """Slices by name, for stories in which each release has its acquire."""
    events = np.concatenate([batch.copy() for batch in source.batches()])
    kinds = events["kind"]
    counts = {
        int(kind): int(n) for kind, n in zip(*np.unique(kinds, return_counts=True), strict=True)
    }
    names = {
        "GIL wakeup": K.GIL_WAKEUP,
        "waiting for lock": K.LOCK_WAIT,
        "waiting for condition": K.COND_WAIT,
        "lock release": K.LOCK_RELEASE,
        "condition notify": K.COND_NOTIFY,
        "atomic section": K.ATOMIC_ENTER,
        "deferred yield": K.ATOMIC_DEFERRED,
        "events lost": K.THREAD_LOST,
    }
    return {
        **{name: counts.get(kind, 0) for name, kind in names.items()},
        "holds GIL": counts.get(K.GIL_ACQUIRE, 0),
        "waiting for GIL": counts.get(K.GIL_WAIT, 0),
        "forced yield": counts.get(K.GIL_YIELD, 0),
        "GIL drop request": counts.get(K.GIL_REQUEST, 0),
        "GIL events lost": counts.get(K.GIL_LOST, 0),
        "thread start": counts.get(K.THREAD_START, 0),
        "thread end": counts.get(K.THREAD_END, 0),
        "process start": counts.get(K.PROCESS_START, 0),
    }


def expected_flows(source: EventSource) -> int:
    """Holds that began with waiting, right after one that left waiters, no gap between; wakeups and
    waits for locks and conditions that had their effect."""
    left: dict[int, bool] = {}
    held: set[int] = set()  # by whom that is known
    flows = 0
    for batch in source.batches():
        for _, arg, _, gil, kind, flags in batch.tolist():
            if kind in (K.GIL_RELEASE, K.GIL_YIELD):
                left[gil] = arg > 0 and gil in held
                held.discard(gil)
            elif kind == K.GIL_ACQUIRE:
                flows += bool(flags and left.get(gil))
                left[gil] = False
                held.add(gil)
            elif kind == K.GIL_LOST:
                left[gil] = False
                held.discard(gil)
    trace = Trace.from_source(source)
    named = trace.waits[trace.waits["ending"] == ACQUIRED]["woken_ns"] != NEVER
    woken = trace.sync_waits["woken_ns"] != NEVER
    return flows + int(named.sum()) + int(woken.sum())


def check_import(tp: Any, source: EventSource) -> None:
    assert bad_stats(tp) == []
    slices = {
        row["name"]: row["n"]
        for row in query(
            tp,
            "select s.name as name, count(*) as n from slice s join track k"
            " on s.track_id = k.id where k.name is null or k.name not glob 'GIL*owner' group by 1",
        )
    }
    for name, count in expected_counts(source).items():
        assert slices.get(name, 0) == count, name
    one = query(
        tp,
        "select (select count(*) from slice where name is null or dur < 0) as bad,"
        " (select count(*) from flow) as flows,"
        " (select count(*) from thread where name is null and utid > 0) as unnamed,"
        " (select count(*) from counter where value is null) as empty,"
        " (select count(*) from counter) as counted",
    )[0]
    counting = (K.GIL_WAIT, K.GIL_ACQUIRE, K.GIL_RELEASE, K.GIL_YIELD, K.GIL_REQUEST)
    counted = sum(
        int(np.isin(batch["kind"], [int(kind) for kind in counting]).sum())
        for batch in source.batches()
    )
    assert one == {
        "bad": 0,
        "flows": expected_flows(source),
        "unnamed": 0,
        "empty": 0,
        "counted": counted,
    }


WAITED = """
    select t.upid, s.name = 'waiting for condition' as condition, sum(s.dur) as ns, count(*) as n
    from slice s join thread_track k on s.track_id = k.id join thread t using (utid)
    where s.name in ('waiting for lock', 'waiting for condition')
    group by 1, 2 order by 1, 2
"""
# From the notify or release to the end of the wait.
WOKEN = """
    select sum(woken.ts - waker.ts) as ns, count(*) as n
    from flow f join slice waker on f.slice_out = waker.id join slice woken on f.slice_in = woken.id
    where woken.name = 'woken'
"""
ATOMIC = """
    select sum(s.dur) as ns, count(*) as n from slice s join track k on s.track_id = k.id
    where s.name = 'atomic section' and s.depth = 0 and k.name = 'atomic sections'
"""
# The GIL meanwhile: holds of the thread that the section's track lies below.
ATOMIC_HELD = """
    with section as (
        select s.ts, s.ts + s.dur as end, k.utid
        from slice s join thread_track k on s.track_id = k.id
        where s.name = 'atomic section' and s.depth = 0
    ), hold as (
        select s.ts, s.ts + s.dur as end, k.utid
        from slice s join thread_track k on s.track_id = k.id where s.name = 'holds GIL'
    )
    select sum(min(section.end, hold.end) - max(section.ts, hold.ts)) as ns
    from section join hold using (utid)
    where hold.ts < section.end and hold.end > section.ts
"""


def check_sums(tp: Any, source: EventSource) -> None:
    """What the story makes of locks, conditions and sections, computed once more in SQL."""
    trace = Trace.from_source(source)
    waits, sections = trace.sync_waits, trace.sections
    process = np.array([t.process for t in trace.metadata.threads])[waits["thread"]]
    condition = waits["object"] >= OF_CONDITION
    expected = []
    for number in np.unique(process):
        for of_condition in (False, True):
            mine = waits[(process == number) & (condition == of_condition)]
            if len(mine):
                total = int((mine["end_ns"] - mine["start_ns"]).sum())
                expected.append((int(of_condition), total, len(mine)))
    rows = query(tp, WAITED)
    assert [(row["condition"], row["ns"], row["n"]) for row in rows] == expected
    woken = waits[waits["woken_ns"] != NEVER]
    latency = int((woken["end_ns"] - woken["woken_ns"]).sum())
    assert query(tp, WOKEN) == [{"ns": latency, "n": len(woken)}]
    length = int((sections["end_ns"] - sections["start_ns"]).sum())
    assert query(tp, ATOMIC) == [{"ns": length, "n": len(sections)}]
    assert query(tp, ATOMIC_HELD) == [{"ns": int(sections["held_ns"].sum())}]


HELD = """
    select t.upid, sum(s.dur) as held, count(*) as n
    from slice s join thread_track k on s.track_id = k.id join thread t using (utid)
    where s.name = 'holds GIL' group by t.upid order by t.upid
"""
OWNED = """
    select k.upid, sum(s.dur) as held, count(*) as n
    from slice s join process_track k on s.track_id = k.id
    where k.name glob 'GIL*owner' group by k.upid order by k.upid
"""


@pytest.mark.parametrize("name", ["t.pftrace", "t.pftrace.gz"])
def test_a_realistic_recording(name: str, tmp_path: Path) -> None:
    source = SyntheticSource(30_000, n_processes=2)
    write_trace(source, tmp_path / name)
    with engine(tmp_path / name) as tp:
        check_import(tp, source)
        held = query(tp, HELD)
        assert held == query(tp, OWNED)
        assert [row["n"] > 3_000 for row in held] == [True, True]
        threads = query(
            tp,
            "select pid, tid, thread.name as name, is_main_thread as main from thread"
            " join process using (upid) where pid > 0 order by tid limit 2",
        )
        assert threads == [
            {"pid": 4242, "tid": 4242, "name": "MainThread", "main": 1},
            {"pid": 4242, "tid": 4243, "name": "worker-1", "main": 0},
        ]
        processes = query(tp, "select name from process where pid > 0")
        assert processes == [{"name": "python3 server.py"}] * 2
        start = query(tp, "select min(ts) as ts from slice where name = 'process start'")
        assert start == [{"ts": source.metadata.start_ns}]
        names = query(tp, "select distinct category from slice where name = 'waiting for GIL'")
        assert sorted(row["category"] for row in names) == ["cpu", "io"]


def test_gaps_sudden_ends_and_sub_interpreters(tmp_path: Path) -> None:
    source: MemorySource = rolled_story(11, 30_000, ((4, 1), (3, 3), (2, 1)), rare=7)
    path = tmp_path / "t.pftrace"
    write_trace(source, path)
    assert (source.events["kind"] == K.GIL_LOST).sum() > 100
    with engine(path) as tp:
        check_import(tp, source)
        check_sums(tp, source)
        assert query(tp, HELD) == query(tp, OWNED)
        owners = query(
            tp, "select name, count(*) as n from track where name glob 'GIL*' group by 1"
        )
        assert {row["name"]: row["n"] for row in owners} == {
            "GIL owner": 3,
            "GIL waiters": 3,
            "GIL 2 owner": 1,
            "GIL 2 waiters": 1,
            "GIL 3 owner": 1,
            "GIL 3 waiters": 1,
        }
        lost = query(
            tp,
            "select sum(int_value) as n from slice join args using (arg_set_id)"
            " where key = 'debug.count' and slice.name = 'GIL events lost'",
        )
        counts = source.events["arg"][source.events["kind"] == K.GIL_LOST]
        assert lost == [{"n": int(counts.sum())}]


def test_a_million_packets(tmp_path: Path) -> None:
    source = SyntheticSource(510_000)
    path = tmp_path / "t.pftrace"
    write_trace(source, path)
    with engine(path) as tp:
        check_import(tp, source)
        packets = query(tp, "select sum(iif(dur > 0, 2, 1)) as n from slice")
        assert packets[0]["n"] > 1_000_000


@given(possible_stories())
@settings(max_examples=40, deadline=None)
def test_blame_of_any_story(tmp_path_factory: pytest.TempPathFactory, source: MemorySource) -> None:
    path = tmp_path_factory.getbasetemp() / "story.pftrace"
    write_trace(source, path)
    expect_engine_agrees(path, source.metadata, summarise(Trace.from_source(source)))

"""Blame, distributions and totals against a second implementation, on stories drawn at random."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.oracle import Oracle
from support.sql_blame import expect_sql_agrees
from support.stories import MemorySource, possible_stories, rolled_story, told

from gilscope.analysis import longest
from gilscope.analysis.intervals import distribution_of
from gilscope.analysis.summary import summarise
from gilscope.trace.model import Trace


def nearest_rank(values: list[int], percent: int) -> int:
    return sorted(values)[-(-len(values) * percent // 100) - 1]


def expect_distribution(row: dict[str, Any], values: list[int]) -> None:
    assert row["count"] == len(values)
    if not values:
        assert {v for k, v in row.items() if k != "count"} == {None}
        return
    assert row["sum"] == sum(values)
    assert row["mean"] == sum(values) // len(values)
    assert row["max"] == max(values)
    for percent in (50, 90, 99):
        assert row[f"p{percent}"] == nearest_rank(values, percent)


def life_of(trace: Trace, number: int) -> tuple[int, int]:
    row, stats = trace.metadata.threads[number], trace.thread_stats[number]
    return min(row.start_ns, int(stats["first_ns"])), max(row.end_ns, int(stats["last_ns"]))


def expect_same(source: MemorySource) -> None:
    oracle = Oracle(source)
    trace = Trace.from_source(source)
    summary = summarise(trace)
    blame_ns: dict[tuple[int, int | None, str], int] = {}
    many_holders = False
    for process in summary["processes"]:
        for row in process["blame"]:
            key = (row["waiter"], row["holder"], row["reason"])
            many_holders |= row["others"] > 0 and key[1:] == (None, "held")
            blame_ns[key] = blame_ns.get(key, 0) + row["wait_ns"]
        for gil in process["gils"]:
            mine = trace.holds[trace.holds["gil"] == gil["id"]]
            assert gil["held_ns"] == int((mine["end_ns"] - mine["start_ns"]).sum())
            assert gil["held_ns"] + gil["idle_ns"] + gil["unknown_ns"] == process["life_ns"]
            assert gil["idle_ns"] >= 0
            assert gil["unknown_ns"] == sum(end - start for start, end in oracle.gaps[gil["id"]])
            assert gil["contended_ns"] == oracle.contended[gil["id"]]
        for thread in process["threads"]:
            number = thread["id"]
            parts = ("held_ns", "waiting_ns", "outside_ns", "unknown_ns")
            assert sum(thread[part] for part in parts) == thread["life_ns"]
            assert min(thread[part] for part in parts) >= 0
            if len(process["gils"]) == 1:
                life = life_of(trace, number)
                assert thread["unknown_ns"] == oracle.unknown(number, thread["gil"], life)
            assert thread["waiting_ns"] == sum(oracle.waits[number])
            assert thread["held_ns"] == sum(oracle.holds[number])
            assert thread["waiting_ns"] == sum(
                ns for (waiter, _, _), ns in blame_ns.items() if waiter == number
            )
            expect_distribution(thread["wait_ns"], oracle.waits[number])
            expect_distribution(thread["hold_ns"], oracle.holds[number])
            expect_distribution(thread["wakeup_ns"], oracle.wakeups[number])
            io, cpu = thread["io_wait_ns"], thread["cpu_wait_ns"]
            assert io["count"] + cpu["count"] == thread["wait_ns"]["count"]
    assert many_holders or blame_ns == dict(oracle.blame_ns)
    expect_sql_agrees(trace, summary)


@given(possible_stories())
@settings(max_examples=300, deadline=None)
def test_blame_of_any_story_is_the_oracles(source: MemorySource) -> None:
    expect_same(source)


@pytest.mark.parametrize("seed", range(12))
def test_blame_of_long_stories_is_the_oracles(seed: int) -> None:
    shape = [((4, 1),), ((3, 2), (6, 1)), ((40, 1),)][seed % 3]
    expect_same(rolled_story(seed, 6_000, shape, rare=(0, 20, 300)[seed % 3]))


def test_the_parts_of_a_wait() -> None:
    source = told("""
        0    a process.start
        0    a thread.start
        0    a gil.acquire
        10   b thread.start
        10   c thread.start
        100  b gil.wait io
        150  c gil.wait io
        200  a gil.release           # b and c waited 100 and 50 for a
        210  b gil.acquire waited    # b woke up in 10; c was overtaken for 10
        240  b gil.release           # c waited 30 for b
        247  c gil.acquire waited    # c woke up in 7
        300  a process.end
    """)
    rows = summarise(Trace.from_source(source))["processes"][0]["blame"]
    got = {(r["waiter"], r["holder"], r["reason"]): (r["wait_ns"], r["waits"]) for r in rows}
    a, b, c = 0, 1, 2
    assert got == {
        (b, a, "held"): (100, 1),
        (b, None, "wakeup"): (10, 1),
        (c, a, "held"): (50, 1),
        (c, b, "held"): (30, 1),
        (c, None, "idle"): (10, 1),
        (c, None, "wakeup"): (7, 1),
    }


def test_a_wait_that_begins_in_a_gap_is_held_by_nobody_known() -> None:
    source = told("""
        0    a process.start
        20   b gil.wait io
        50   a gil.release           # it had held the GIL since nobody knows when
        58   b gil.acquire waited
        90   a process.end
    """)
    rows = summarise(Trace.from_source(source))["processes"][0]["blame"]
    got = {(r["holder"], r["reason"]): r["wait_ns"] for r in rows}
    assert got == {(None, "held"): 30, (None, "wakeup"): 8}


def test_sites_of_both_sides() -> None:
    source = told("""
        0    a process.start
        0    a thread.start
        0    a gil.acquire
        10   b thread.start
        100  b gil.wait io
        200  a stack arg=3 seen     # compile, called from match, called from main.py:17
        200  a gil.yield
        210  b stack arg=5 wait
        210  b gil.acquire waited
        240  b stack arg=4
        240  b gil.release
        300  a process.end
    """)
    trace = Trace.from_source(source)
    summary = summarise(trace)
    expect_sql_agrees(trace, summary)
    held, woken = summary["processes"][0]["blame"]
    assert (held["wait_ns"], woken["wait_ns"]) == (100, 10)
    assert held["holder_site"] == {
        "file": "/app/main.py",
        "line": 17,
        "function": "serve",
        "library_line": "re/_compiler.py:8 compile",
        "exact": True,
        "library": "re.match",
        "short": "main.py",
        "gc": False,
    }
    assert held["waiter_site"] == woken["waiter_site"]
    assert woken["waiter_site"]["function"] == "Werk.tue"
    assert woken["holder_site"] is None
    (longest,) = summary["longest_waits"]
    assert (longest["wait_ns"], longest["held_ns"], longest["holder"]) == (110, 100, 0)
    assert longest["holder_site"] == held["holder_site"]


def test_rows_of_many_threads_are_bounded_and_add_up() -> None:
    source = rolled_story(5, 60_000, ((300, 1),), rare=0)
    trace = Trace.from_source(source)
    summary = summarise(trace)
    rows = summary["processes"][0]["blame"]
    assert any(row["others"] for row in rows)
    assert len(rows) <= 300 * (2 * 64 + 1)
    for thread in summary["processes"][0]["threads"]:
        mine = [row["wait_ns"] for row in rows if row["waiter"] == thread["id"]]
        assert sum(mine) == thread["waiting_ns"]
    expect_sql_agrees(trace, summary)


def test_the_longest_waits_are_found_by_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    trace = Trace.from_source(rolled_story(9, 20_000))
    lengths = (trace.waits["end_ns"] - trace.waits["start_ns"]).tolist()
    expected = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    assert len(lengths) > 500
    for piece in (1, 7, 1 << 14):
        monkeypatch.setattr(longest, "_PIECE", piece)
        for most in (1, 10, 300):
            assert longest._longest(trace.waits, most) == expected[:most]


@given(st.lists(st.integers(-5, 5) | st.integers(0, 2**50), min_size=1, max_size=300))
def test_percentiles_are_values_of_nearest_rank(values: list[int]) -> None:
    row = distribution_of(np.array(values, np.int64))
    for percent in (50, 90, 99):
        assert row[f"p{percent}"] == nearest_rank(values, percent)
    assert row["count"] == len(values)


def test_percentiles_of_a_hundred_thousand_values() -> None:
    dice = np.random.default_rng(1)
    for values in (
        np.zeros(100_000, np.int64),
        np.arange(100_000, dtype=np.int64),
        np.arange(100_000, dtype=np.int64)[::-1] - 50_000,
        dice.integers(5_000_000, 5_000_900, 100_000),
        (10.0 ** dice.uniform(0, 18.9, 100_000)).astype(np.int64) // 100_000,
        2 ** dice.integers(0, 46, 100_000),
    ):
        expected = [nearest_rank(values.tolist(), percent) for percent in (50, 90, 99)]
        row = distribution_of(values)
        assert [row["p50"], row["p90"], row["p99"]] == expected

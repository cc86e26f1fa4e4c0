"""Conditions, locks and atomic sections in the summary, against a second implementation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from support.stories import MemorySource, possible_stories, rolled_story, told
from support.sync_oracle import SyncOracle
from test_blame import expect_distribution

from gilscope.analysis import lock_parts
from gilscope.analysis.summary import summarise
from gilscope.trace.model import Trace
from gilscope.trace.schema import SYNC_KIND_MASK, SYNC_OBJECT_MASK, SyncKind
from gilscope.trace.story import OF_CONDITION

CONDITIONS = Path(__file__).parents[1] / "golden" / "stories" / "conditions.story"


def named(about: int) -> tuple[str, str, str]:
    what = "condition" if about >= OF_CONDITION else "lock"
    return what, hex(about & SYNC_OBJECT_MASK), SyncKind(about & SYNC_KIND_MASK).label


def expect_same(source: MemorySource) -> None:
    oracle = SyncOracle(source)
    summary = summarise(Trace.from_source(source))
    for process in summary["processes"]:
        number = process["id"]
        expected = {named(a): of for (p, a), of in oracle.objects.items() if p == number}
        expected = {
            name: of
            for name, of in expected.items()
            # Ends whose begin nobody saw are no waits; a release is not counted.
            if of.waits or (of.notifies and name[0] == "condition")
        }
        rows = [*(process["conditions"] or ()), *(process["locks"] or ())]
        seen = {}
        for row in rows:
            name, at = row["object"].split(" at ")
            seen[name.split()[0], at, row["kind"]] = row
        assert len(seen) == len(rows) == len({row["object"] for row in rows})
        assert seen.keys() == expected.keys()
        for name, row in seen.items():
            of = expected[name]
            assert (row["waits"], row["timeouts"]) == (len(of.waits), of.timeouts)
            expect_distribution(row["wait_ns"], of.waits)
            if name[0] == "condition":
                assert row["notifies"] == of.notifies
                expect_distribution(row["wakeup_ns"], of.wakeups)
                expect_distribution(row["gil_ns"], of.back)
        expect_atomic(process["atomic"], oracle, number)


def expect_atomic(atomic: dict[str, Any] | None, oracle: SyncOracle, process: int) -> None:
    of = oracle.sections[process]
    if atomic is None:
        assert not of.lengths
        return
    assert atomic["sections"] == len(of.lengths)
    assert atomic["deferred_yields"] == of.deferred
    expect_distribution(atomic["length_ns"], of.lengths)
    expect_distribution(atomic["held_ns"], of.held)
    assert {row["thread"]: row["wait_ns"] for row in atomic["waiters"]} == +of.waiters
    spent = [row["wait_ns"] for row in atomic["waiters"]]
    assert spent == sorted(spent, reverse=True)


@given(possible_stories())
@settings(max_examples=200, deadline=None)
def test_small_stories(source: MemorySource) -> None:
    expect_same(source)


@pytest.mark.parametrize("rare", [0, 30])
def test_large_stories(rare: int) -> None:
    expect_same(rolled_story(rare + 1, 20_000, ((5, 2), (3, 1)), rare=rare))


def test_what_a_story_says() -> None:
    summary = summarise(Trace.from_source(told(CONDITIONS.read_text(encoding="utf-8"))))
    process = summary["processes"][0]
    native = next(row for row in process["conditions"] if row["kind"] == "native")
    assert native["object"] == "condition 1 at 0x7f0000001000"
    assert (native["waits"], native["timeouts"], native["notifies"]) == (2, 1, 1)
    assert native["wakeup_ns"]["max"] == 36 - 30
    assert native["gil_ns"]["max"] == 65 - 30
    lock = next(row for row in process["locks"] if row["kind"] == "thread-lock")
    assert (lock["waits"], lock["wait_ns"]["sum"]) == (1, 76 - 61)
    atomic = process["atomic"]
    assert (atomic["sections"], atomic["deferred_yields"]) == (3, 1)
    assert atomic["length_ns"]["max"] == 120 - 80
    assert atomic["held_ns"]["max"] == (95 - 80) + (120 - 110)
    names = {t["id"]: t["name"] for t in process["threads"]}
    assert [(names[w["thread"]], w["wait_ns"]) for w in atomic["waiters"]] == [("main", 95 - 80)]
    other = next(t for t in process["threads"] if t["name"] == "other")
    assert other["wakeup_ns"]["p50"] in {52 - 44, 141 - 136}  # told by a wakeup, and concluded


@pytest.mark.parametrize(("feed", "unseen"), [("interposed", True), ("built-in", False)])
def test_not_known_is_null_and_none_is_not(feed: str, unseen: bool) -> None:
    source = told("0 a process.start\n1 a gil.acquire\n2 a process.end")
    object.__setattr__(source.metadata.processes[0], "feed", feed)
    process = summarise(Trace.from_source(source))["processes"][0]
    if unseen:
        assert (process["conditions"], process["locks"], process["atomic"]) == (None, None, None)
        return
    assert (process["conditions"], process["locks"]) == ([], [])
    assert (process["atomic"]["sections"], process["atomic"]["held_ns"]["count"]) == (0, 0)


def test_the_kinds_stand_apart_at_one_address() -> None:
    source = told("""
        0 a process.start
        1 a cond.wait native object=0x10
        2 b cond.notify python object=0x10 woken=1
        3 a cond.wake native object=0x10
        4 a lock.wait native object=0x10
        9 a process.end
    """)
    process = summarise(Trace.from_source(source))["processes"][0]
    assert [(row["kind"], row["waits"], row["notifies"]) for row in process["conditions"]] == [
        ("native", 1, 0),
        ("python", 0, 1),
    ]
    assert process["conditions"][0]["wakeup_ns"]["count"] == 0
    assert [(row["kind"], row["wait_ns"]["sum"]) for row in process["locks"]] == [("native", 5)]


def test_a_condition_is_known_by_who_used_it_and_where() -> None:
    text = """
        0   main    process.start
        0   worker  thread.start
        5   main    gil.acquire
        10  worker  cond.wait native object=0x10
        20  main    cond.notify native object=0x10 woken=1
        22  worker  cond.wake native object=0x10
        23  worker  gil.wait io
        40  main    gil.release
        41  worker  stack arg=1 wait
        41  worker  gil.acquire waited
        50  main    cond.notify native object=0x20
        60  worker  process.end
    """
    summary = summarise(Trace.from_source(told(text)))
    first, second = summary["processes"][0]["conditions"]
    main, worker = (thread["id"] for thread in summary["processes"][0]["threads"])
    assert (first["waiter"], first["notifier"]) == (worker, main)
    assert first["waiter_site"]["function"] == "serve"
    assert (second["waiter"], second["notifier"], second["waiter_site"]) == (None, main, None)


QUEUE = """
    0    a process.start
    0    b thread.start
    0    c thread.start
    10   b lock.wait sem-lock object=0x40
    20   c lock.wait sem-lock object=0x40
    100  a lock.release sem-lock object=0x40
    101  b lock.acquire sem-lock object=0x40
    103  b lock.release sem-lock object=0x40
    104  c lock.acquire sem-lock object=0x40
    110  c lock.wait sem-lock object=0x40
    150  a process.end
"""


def test_a_wait_in_a_queue_is_due_to_who_had_the_lock() -> None:
    """And not to the thread that stood before it and ended the wait."""
    process = summarise(Trace.from_source(told(QUEUE)))["processes"][0]
    (row,) = process["locks"]
    names = {thread["id"]: thread["name"] for thread in process["threads"]}
    blame = {
        (names[part["waiter"]], names.get(part["holder"])): (part["wait_ns"], part["waits"])
        for part in row["blame"]
    }
    assert blame == {
        ("b", "a"): (91, 1),
        ("c", "a"): (80, 1),
        ("c", "b"): (4, 1),
        ("c", None): (40, 1),
    }
    assert sum(ns for ns, _ in blame.values()) == row["wait_ns"]["sum"]


@pytest.mark.parametrize(
    ("most", "a_wait", "parts"), [(3, 1, [2, 3]), (2, 1, [1, 1]), (2, 2, [2, 3])]
)
def test_where_very_many_queue_a_wait_is_due_to_who_ended_it(
    monkeypatch: pytest.MonkeyPatch, most: int, a_wait: int, parts: list[int]
) -> None:
    """The parts would be as many as the square of those that wait. Many waits alone are cut."""
    trace = Trace.from_source(told(QUEUE))
    with monkeypatch.context() as patch:
        patch.setattr(lock_parts, "MOST_PARTS", most)
        patch.setattr(lock_parts, "MOST_A_WAIT", a_wait)
        (made,) = lock_parts.Releases(trace).cut(np.arange(2))
    longer = made.ns > 0
    assert [int(((made.wait == wait) & longer).sum()) for wait in range(2)] == parts
    assert [int(made.ns[made.wait == wait].sum()) for wait in range(2)] == [91, 84]
    ended = [int(made.notify[made.wait == wait][-1]) for wait in range(2)]
    assert ended == trace.sync_waits["notify"][:2].tolist()


def test_an_owner_that_waits_for_the_gil_is_told_apart() -> None:
    text = QUEUE.replace(
        "100  a lock.release",
        "0    d thread.start\n    0    d gil.acquire\n    30   a gil.wait io\n"
        "    90   d gil.release\n    95   a gil.acquire waited\n    99   a gil.release\n"
        "    100  a lock.release",
    )
    process = summarise(Trace.from_source(told(text)))["processes"][0]
    names = {thread["id"]: thread["name"] for thread in process["threads"]}
    waited = {names[p["waiter"]]: p["gil_ns"] for p in process["locks"][0]["blame"] if p["gil_ns"]}
    assert waited == {"b": 65, "c": 65}

"""Blame of locks and conditions a second time: in SQL, over the waits of a trace.

In SQLite, with the sites and who had the lock in each part of a wait; in Perfetto's engine the
waiting of each thread, over the slices that it imports.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from support.perfetto_engine import engine, query
from support.sql_sites import fill_stacks, text_of

from gilscope.perfetto.tracks import Numbers
from gilscope.trace.model import Trace
from gilscope.trace.schema import SYNC_KIND_MASK, SyncKind
from gilscope.trace.story import NOBODY, OF_CONDITION

if TYPE_CHECKING:
    from numpy.typing import NDArray

Key = tuple[int, int | None, str | None, str | None]  # waiter, who had it, both sites

WAIT = """CREATE TABLE wait (id INTEGER PRIMARY KEY, thread INT, process INT, object INT,
                             of_condition INT, whole INT, start INT, end INT, notify INT)"""
RELEASE = """CREATE TABLE release (id INTEGER PRIMARY KEY, thread INT, process INT, object INT,
                                   time INT)"""
INDEX = "CREATE INDEX of_object ON release (process, object, time, id)"
SUMS = "SELECT of_condition, thread, SUM(end - start), COUNT(*) FROM wait GROUP BY 1, 2"
# A wait is cut at each release of its lock up to the one that ended it; what is left is behind it.
ROWS = """
WITH mark AS (
    SELECT w.id, r.id AS by, r.time AS till, 0 AS is_last
    FROM wait w JOIN release r USING (process, object) LEFT JOIN release n ON n.id = w.notify
    WHERE NOT whole AND r.time > start AND CASE WHEN n.id IS NULL THEN r.time <= end
        ELSE r.time < n.time OR (r.time = n.time AND r.id <= n.id) END
    UNION ALL SELECT id, notify, end, 1 FROM wait
), part AS (
    SELECT w.*, by, is_last, till - LAG(till, 1, start) OVER
        (PARTITION BY w.id ORDER BY is_last, till, by) AS ns
    FROM mark JOIN wait w USING (id)
)
SELECT of_condition, p.thread, r.thread, ws.text, hs.text, SUM(ns), COUNT(DISTINCT p.id)
FROM part p LEFT JOIN release r ON r.id = by
LEFT JOIN site_of ws ON ws.of_wait AND ws.interval = p.id
LEFT JOIN site_of hs ON NOT hs.of_wait AND hs.interval = by
WHERE ns > 0 OR (is_last AND (by IS NOT NULL OR start = end))
GROUP BY 1, 2, 3, 4, 5
"""
SLICES = """
SELECT s.name = 'waiting for condition' AS of_condition, t.tid, SUM(s.dur) AS ns, COUNT(*) AS n
FROM slice s JOIN thread_track k ON s.track_id = k.id JOIN thread t USING (utid)
WHERE s.name IN ('waiting for lock', 'waiting for condition') GROUP BY 1, 2
"""
KINDS = (("locks", False), ("conditions", True))


def expect_locks(trace: Trace, summary: dict[str, Any], *, rows: bool = True) -> None:
    """The rows add up to the waits of each thread; with `rows` each part of them is SQL's."""
    with sqlite3.connect(":memory:") as db:
        _fill(db, trace)
        _expect_sums(summary, {r[:2]: r[2:] for r in db.execute(SUMS)})
        if not rows:
            return
        fill_stacks(db, trace.metadata.stacks, trace.sync_stacks)
        of_kind: dict[bool, dict[Key, tuple[int, int]]] = defaultdict(dict)
        for of_condition, *key, ns, n in db.execute(ROWS):
            of_kind[bool(of_condition)][tuple(key)] = ns, n  # type: ignore[index]
    for kind, of_condition in KINDS:
        _expect_parts(summary, kind, of_kind[of_condition])


def expect_engine_has_locks(path: Path, trace: Trace, summary: dict[str, Any]) -> None:
    """The waiting of each thread is what the engine's slices add up to.

    Where a wait for a lock begins in the very nanosecond in which its thread begins to wait for the
    GIL, as in stories that were made up, the engine takes them for one another.
    """
    metadata = trace.metadata
    if _begins(trace.sync_waits) & _begins(trace.waits):
        return
    numbers = Numbers()
    numbers.grow(metadata)
    thread_of = {tid: thread.id for tid, thread in zip(numbers.tids, metadata.threads, strict=True)}
    with engine(path) as tp:
        rows = query(tp, SLICES)
    _expect_sums(
        summary, {(r["of_condition"], thread_of[r["tid"]]): (r["ns"], r["n"]) for r in rows}
    )


def _begins(rows: NDArray[np.void]) -> set[tuple[int, int]]:
    return set(zip(rows["thread"].tolist(), rows["start_ns"].tolist(), strict=True))


def _fill(db: sqlite3.Connection, trace: Trace) -> None:
    waits, told = trace.sync_waits, trace.notifies
    process_of = [thread.process for thread in trace.metadata.threads]
    db.execute(WAIT)
    kinds = waits["object"] & np.uint64(SYNC_KIND_MASK)
    of_condition = waits["object"] >= OF_CONDITION
    rows = zip(
        range(len(waits)),
        waits["thread"].tolist(),
        [process_of[thread] for thread in waits["thread"].tolist()],
        waits["object"].view("<i8").tolist(),
        of_condition.astype(int).tolist(),
        (of_condition | (kinds == SyncKind.PARKED)).astype(int).tolist(),
        waits["start_ns"].tolist(),
        waits["end_ns"].tolist(),
        [None if n == NOBODY else n for n in waits["notify"].tolist()],
        strict=True,
    )
    db.executemany("INSERT INTO wait VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    db.execute(RELEASE)
    rows_of_releases = zip(
        range(len(told)),
        told["thread"].tolist(),
        [process_of[thread] for thread in told["thread"].tolist()],
        told["object"].view("<i8").tolist(),
        told["time_ns"].tolist(),
        strict=True,
    )
    db.executemany("INSERT INTO release VALUES (?, ?, ?, ?, ?)", rows_of_releases)
    db.execute(INDEX)


def _expect_sums(summary: dict[str, Any], expected: dict[Any, Any]) -> None:
    for process in summary["processes"]:
        for kind, of_condition in KINDS:
            spent, waits = Counter[int](), 0
            for row in process[kind] or ():
                parts = row["blame"]
                assert sum(part["wait_ns"] for part in parts) == (row["wait_ns"]["sum"] or 0)
                assert all(part["waits"] <= row["waits"] or part["others"] for part in parts)
                for part in parts:
                    spent[part["waiter"]] += part["wait_ns"]
                waits += row["waits"]
            number_of = {thread["id"] for thread in process["threads"]}
            mine = {n: its for (of, n), its in expected.items() if of == of_condition}
            assert waits == sum(n for number, (_, n) in mine.items() if number in number_of)
            for number in number_of:
                assert spent[number] == mine.get(number, (0, 0))[0]
        for thread in process["threads"]:
            outside = thread["outside"]
            both = sum(expected.get((of, thread["id"]), (0, 0))[0] for of in (0, 1))
            assert outside["lock_ns"] + outside["condition_ns"] == both
            assert (thread["lock_wait_ns"]["sum"] or 0) == outside["lock_ns"]


def _expect_parts(summary: dict[str, Any], kind: str, expected: dict[Key, tuple[int, int]]) -> None:
    """Parts of equal keys in several rows are SQL's together; sums of others are what is left."""
    found: dict[Key, list[int]] = defaultdict(lambda: [0, 0])
    left: Counter[int] = Counter()
    for process in summary["processes"]:
        for row in process[kind] or ():
            for part in row["blame"]:
                if part["others"]:
                    left[part["waiter"]] += part["wait_ns"]
                    continue
                sites = text_of(part["waiter_site"]), text_of(part["holder_site"])
                key = (part["waiter"], part["holder"], *sites)
                found[key][0] += part["wait_ns"]
                found[key][1] += part["waits"]
    rest: Counter[int] = Counter()
    for key, (ns, n) in expected.items():
        mine = found.pop(key, [0, 0])
        assert mine[0] <= ns
        assert mine[1] <= n
        if mine != [ns, n]:
            rest[key[0]] += ns - mine[0]
    assert not found
    assert +rest == +left

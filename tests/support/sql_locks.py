"""Blame of locks and conditions a second time: in SQL, over the waits of a trace.

In SQLite, with the sites and who ended each wait; in Perfetto's engine the waiting of each thread,
over the slices that it imports.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.perfetto_engine import engine, query
from support.sql_sites import fill_stacks, text_of

from gilscope.perfetto.tracks import Numbers
from gilscope.trace.model import Trace
from gilscope.trace.story import NOBODY, OF_CONDITION

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Key = tuple[int, int | None, str | None, str | None]  # waiter, who ended it, both sites

WAIT = """CREATE TABLE wait (id INTEGER PRIMARY KEY, thread INT, of_condition INT, ns INT,
                             waker INT, notify INT)"""
SUMS = "SELECT of_condition, thread, SUM(ns), COUNT(*) FROM wait GROUP BY 1, 2"
ROWS = """
SELECT of_condition, thread, waker, ws.text, hs.text, SUM(ns), COUNT(*)
FROM wait w LEFT JOIN site_of ws ON ws.of_wait AND ws.interval = w.id
LEFT JOIN site_of hs ON NOT hs.of_wait AND hs.interval = w.notify
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
    waits = trace.sync_waits
    db.execute(WAIT)
    rows = zip(
        range(len(waits)),
        waits["thread"].tolist(),
        (waits["object"] >= OF_CONDITION).astype(int).tolist(),
        (waits["end_ns"] - waits["start_ns"]).tolist(),
        *([None if n == NOBODY else n for n in waits[f].tolist()] for f in ("waker", "notify")),
        strict=True,
    )
    db.executemany("INSERT INTO wait VALUES (?, ?, ?, ?, ?, ?)", rows)


def _expect_sums(summary: dict[str, Any], expected: dict[Any, Any]) -> None:
    for process in summary["processes"]:
        for kind, of_condition in KINDS:
            spent, waits = Counter[int](), Counter[int]()
            for row in process[kind] or ():
                parts = row["blame"]
                assert sum(part["wait_ns"] for part in parts) == (row["wait_ns"]["sum"] or 0)
                assert sum(part["waits"] for part in parts) == row["waits"]
                for part in parts:
                    spent[part["waiter"]] += part["wait_ns"]
                    waits[part["waiter"]] += part["waits"]
            for thread in process["threads"]:
                number = thread["id"]
                wanted = expected.get((int(of_condition), number), (0, 0))
                assert (spent[number], waits[number]) == tuple(wanted)
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

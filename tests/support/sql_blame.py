"""Blame a second time: in SQL, over the intervals of a trace.

The same statements run in SQLite, over the intervals as gilscope reads them and with their sites,
and (support.engine_blame) in Perfetto's engine, over the slices that it imports.

What a wait was spent on comes from sums over time: no part of a wait is looked for, so a crowd
costs what its events cost. Who held the GIL meanwhile takes a row for each hold that a wait
overlaps; of a trace with more than MANY of them the sums by reason are compared alone.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from typing import Any

from support.sql_sites import fill_stacks, text_of

from gilscope.trace.model import Trace
from gilscope.trace.story import ACQUIRED, NO_GAP

MANY = 50_000
REASONS = ("held", "wakeup", "idle")
Key = tuple[int, int | None, str, str | None, str | None]  # waiter, holder, reason, both sites
Rows = dict[Key, tuple[int, int]]  # wait_ns, waits
Sums = dict[int, tuple[int, ...]]  # of a waiter, by REASONS

# What has to be there: holds and waits with ids in the order of their begins, times from the
# trace's start. `gap_end` is null where a wait did not begin in a gap.
HOLD = "CREATE TABLE hold (id INTEGER PRIMARY KEY, gil INT, thread INT, s INT, e INT)"
WAIT = """CREATE TABLE wait (id INTEGER PRIMARY KEY, gil INT, thread INT, s INT, e INT,
                             acquired INT, gap_end INT)"""

CUT = (
    # `n` counts a GIL's holds; `before` is where the last one ended. A thread that waited begins
    # its hold where the wait ends: the first one that it begins there.
    """
    CREATE TABLE turn AS
    SELECT *, ROW_NUMBER() OVER own AS n, LAG(e) OVER own AS before,
           ROW_NUMBER() OVER (PARTITION BY gil, thread, s ORDER BY id) = 1 AS first
    FROM hold WINDOW own AS (PARTITION BY gil ORDER BY id)
    """,
    "CREATE INDEX turn_by_number ON turn (gil, n)",
    "CREATE INDEX turn_by_start ON turn (gil, thread, s)",
    # Held up to t is the sum of t - s over the holds that have begun, less that of t - e over those
    # that have ended.
    """
    CREATE TABLE level AS
    WITH edge AS (
        SELECT gil, s AS at, 1 AS begun, 0 AS ended, NULL AS wait FROM hold
        UNION ALL SELECT gil, e, 0, 1, NULL FROM hold
        UNION ALL SELECT gil, s, 0, 0, id FROM wait
        UNION ALL SELECT gil, e, 0, 0, id FROM wait)
    SELECT wait, SUM(begun) OVER past AS begun, SUM(ended) OVER past AS ended,
           at * SUM(begun - ended) OVER past - SUM(at * (begun - ended)) OVER past AS held
    FROM edge WINDOW past AS (PARTITION BY gil ORDER BY at)
    """,
    """
    CREATE TABLE during AS
    SELECT wait, MAX(held) - MIN(held) AS held, MIN(ended) + 1 AS first, MAX(begun) AS last
    FROM level WHERE wait IS NOT NULL GROUP BY wait
    """,
    """
    CREATE TABLE cut AS
    WITH known AS (SELECT *, COALESCE(MIN(gap_end, e), s) AS known_from FROM wait)
    SELECT w.id, w.gil, w.thread, w.s, w.e, d.held, d.first, d.last, w.known_from - w.s AS unknown,
           CASE WHEN w.acquired THEN w.e - MAX(w.known_from, COALESCE(own.before, w.s))
                ELSE 0 END AS wakeup
    FROM known w JOIN during d ON d.wait = w.id
    LEFT JOIN turn own ON own.gil = w.gil AND own.thread = w.thread AND own.s = w.e AND own.first
    """,
)

SUMS = """
    SELECT thread, SUM(held + unknown) AS held, SUM(wakeup) AS wakeup,
           SUM(e - s - held - unknown - wakeup) AS idle, SUM(last - first + 1) AS overlaps
    FROM cut GROUP BY thread
"""

PARTS = """
    CREATE TABLE part AS
    SELECT c.id AS wait, 'held' AS reason, t.id AS hold, MIN(c.e, t.e) - MAX(c.s, t.s) AS ns
    FROM cut c JOIN turn t ON t.gil = c.gil AND t.n BETWEEN c.first AND c.last
    UNION ALL SELECT id, 'held', NULL, unknown FROM cut
    UNION ALL SELECT id, 'wakeup', NULL, wakeup FROM cut
    UNION ALL SELECT id, 'idle', NULL, e - s - held - unknown - wakeup FROM cut
"""

ROWS = """
SELECT w.thread, h.thread, reason, ws.text, hs.text, SUM(ns), COUNT(DISTINCT w.id)
FROM part JOIN wait w ON w.id = part.wait LEFT JOIN hold h ON h.id = part.hold
LEFT JOIN site_of ws ON ws.of_wait AND ws.interval = w.id
LEFT JOIN site_of hs ON NOT hs.of_wait AND hs.interval = h.id
WHERE ns != 0 GROUP BY 1, 2, 3, 4, 5
"""


def expect_sql_agrees(trace: Trace, summary: dict[str, Any]) -> None:
    """Each row of blame is SQL's, and a sum of others is the sum of the rest."""
    with sqlite3.connect(":memory:") as db:
        _fill(db, trace)
        for statement in CUT:
            db.execute(statement)
        sums = db.execute(SUMS).fetchall()
        expect_sums(summary, {row[0]: row[1:4] for row in sums})
        _expect_unknown(db, trace, summary)
        if sum(row[4] for row in sums) > MANY:
            return
        fill_stacks(db, trace.metadata.stacks, trace.stacks, trace.collected)
        db.execute(PARTS)
        rows = {tuple(row[:5]): (row[5], row[6]) for row in db.execute(ROWS)}
    _expect_rows(summary, rows)


def expect_waiting(trace: Trace, summary: dict[str, Any]) -> None:
    """The rows of each thread add up to the waiting that SQL adds up, whatever they are for."""
    with sqlite3.connect(":memory:") as db:
        _fill_waits(db, trace)
        waiting = dict(db.execute("SELECT thread, SUM(e - s) FROM wait GROUP BY thread"))
    for process in summary["processes"]:
        sums = Counter[int]()
        for row in process["blame"]:
            sums[row["waiter"]] += row["wait_ns"]
        for thread in process["threads"]:
            ns = waiting.get(thread["id"], 0)
            assert sums[thread["id"]] == thread["waiting_ns"] == ns


def _fill(db: sqlite3.Connection, trace: Trace) -> None:
    holds, base = trace.holds, trace.metadata.start_ns
    db.execute(HOLD)
    rows = zip(
        range(len(holds)),
        *(holds[f].tolist() for f in ("gil", "thread")),
        *((holds[f] - base).tolist() for f in ("start_ns", "end_ns")),
        strict=True,
    )
    db.executemany("INSERT INTO hold VALUES (?, ?, ?, ?, ?)", rows)
    _fill_waits(db, trace)


def _fill_waits(db: sqlite3.Connection, trace: Trace) -> None:
    waits, gaps, base = trace.waits, trace.gaps, trace.metadata.start_ns
    db.execute(WAIT)
    ends = (gaps["end_ns"] - base).tolist()
    starts = (waits["start_ns"] - base).tolist()
    gap_ends = [
        None if gap == NO_GAP else max(ends[gap], start)
        for gap, start in zip(waits["gap"].tolist(), starts, strict=True)
    ]
    rows = zip(
        range(len(waits)),
        *(waits[f].tolist() for f in ("gil", "thread")),
        starts,
        (waits["end_ns"] - base).tolist(),
        (waits["ending"] == ACQUIRED).astype(int).tolist(),
        gap_ends,
        strict=True,
    )
    db.executemany("INSERT INTO wait VALUES (?, ?, ?, ?, ?, ?, ?)", rows)


def _expect_unknown(db: sqlite3.Connection, trace: Trace, summary: dict[str, Any]) -> None:
    """A GIL's gaps, its holds and what is left are its process's life."""
    gaps = trace.gaps
    db.execute("CREATE TABLE gap (gil INT, lost INT, ns INT)")
    lengths = (gaps["end_ns"] - gaps["start_ns"]).tolist()
    rows = zip(gaps["gil"].tolist(), gaps["lost"].tolist(), lengths, strict=True)
    db.executemany("INSERT INTO gap VALUES (?, ?, ?)", rows)
    unknown = dict(db.execute("SELECT gil, SUM(ns) FROM gap WHERE lost GROUP BY gil"))
    held = dict(db.execute("SELECT gil, SUM(e - s) FROM hold GROUP BY gil"))
    for process in summary["processes"]:
        for gil in process["gils"] if process["threads"] else ():
            assert gil["unknown_ns"] == unknown.get(gil["id"], 0)
            assert gil["held_ns"] == held.get(gil["id"], 0)
            assert gil["held_ns"] + gil["unknown_ns"] + gil["idle_ns"] == process["life_ns"]


# ---- what a summary says, beside it ---------------------------------------------------------


def expect_sums(summary: dict[str, Any], expected: Sums) -> None:
    """The rows of each thread add up to what SQL has for each reason, and all to its waiting."""
    for process in summary["processes"]:
        found: dict[int, dict[str, int]] = defaultdict(lambda: dict.fromkeys(REASONS, 0))
        for row in process["blame"]:
            found[row["waiter"]][row["reason"]] += row["wait_ns"]
        for thread in process["threads"]:
            sums = tuple(found[thread["id"]].values())
            assert sums == tuple(expected.get(thread["id"], (0, 0, 0)))
            assert sum(sums) == thread["waiting_ns"]


def _expect_rows(summary: dict[str, Any], expected: Rows) -> None:
    """Each row is SQL's; one that is a sum of others is the sum of SQL's that are left."""
    rows: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for process in summary["processes"]:
        for row in process["blame"]:
            rows[row["waiter"]].append(row)
    wanted: dict[int, Rows] = defaultdict(dict)
    for key, value in expected.items():
        wanted[key[0]][key] = value
    assert rows.keys() == wanted.keys()
    for waiter, mine in wanted.items():
        for row in (row for row in rows[waiter] if not row["others"]):
            key = (waiter, row["holder"], row["reason"])
            key += (text_of(row["waiter_site"]), text_of(row["holder_site"]))
            assert mine.pop(key) == (row["wait_ns"], row["waits"])
        many_ns = 0
        for row in (row for row in rows[waiter] if row["others"]):
            if row["holder"] is None and row["reason"] == "held":
                many_ns += row["wait_ns"]  # of many holders: what is left in the end
                continue
            of = [k for k in mine if k[1:3] == (row["holder"], row["reason"])]
            assert len(of) == row["others"]
            assert sum(mine.pop(key)[0] for key in of) == row["wait_ns"]
        assert sum(ns for ns, _ in mine.values()) == many_ns

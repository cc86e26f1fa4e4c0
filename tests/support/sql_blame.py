"""Blame with its sites a second time: in SQL, over the intervals of a trace."""

from __future__ import annotations

import sqlite3
from typing import Any

from gilscope.trace.model import Trace
from gilscope.trace.story import ACQUIRED, NO_GAP

Key = tuple[int, int | None, str, str | None, str | None]  # waiter, holder, reason, both sites

TABLES = """
CREATE TABLE hold (id INTEGER PRIMARY KEY, gil INT, thread INT, s INT, e INT);
CREATE TABLE wait (id INTEGER PRIMARY KEY, gil INT, thread INT, s INT, e INT, acquired INT,
                   gap_end INT);
CREATE TABLE stack (id INTEGER PRIMARY KEY, parent INT, place TEXT, short TEXT, library INT);
CREATE TABLE at (of_wait INT, interval INT, leaf INT, exact INT, PRIMARY KEY (of_wait, interval));
CREATE INDEX hold_by_start ON hold (gil, s, e);
"""

# Along the parents of each leaf, the first frame that is not the library's.
SITES = """
CREATE TABLE site AS
WITH RECURSIVE up (leaf, node, depth) AS (
    SELECT DISTINCT leaf, leaf, 0 FROM at
    UNION ALL SELECT leaf, parent, depth + 1 FROM up JOIN stack ON stack.id = node
              WHERE parent IS NOT NULL),
own (leaf, depth) AS (
    SELECT leaf, COALESCE(MIN(CASE WHEN NOT library THEN depth END), 0)
    FROM up JOIN stack ON stack.id = node GROUP BY leaf)
SELECT own.leaf, stack.place || '|' || CASE WHEN own.depth THEN leafs.short ELSE '' END AS text
FROM own JOIN up ON up.leaf = own.leaf AND up.depth = own.depth
JOIN stack ON stack.id = up.node JOIN stack AS leafs ON leafs.id = own.leaf;
CREATE TABLE site_of AS
SELECT of_wait, interval, text || CASE WHEN exact THEN '|exact' ELSE '' END AS text
FROM at JOIN site USING (leaf);
CREATE UNIQUE INDEX site_of_interval ON site_of (of_wait, interval);
"""

PARTS = """
CREATE TABLE held AS
SELECT w.id AS wait, h.id AS hold, MIN(w.e, h.e) - MAX(w.s, h.s) AS ns, MIN(w.e, h.e) AS until
FROM wait w JOIN hold h ON h.gil = w.gil AND h.thread != w.thread AND h.s <= w.e
     AND h.s >= COALESCE((SELECT MAX(s) FROM hold WHERE gil = w.gil AND s <= w.s), 0)
WHERE h.e >= w.s;
CREATE INDEX held_by_wait ON held (wait);
CREATE TABLE cut AS
SELECT w.*, COALESCE(MIN(gap_end, e), s) - s AS unknown,
       COALESCE((SELECT SUM(ns) FROM held WHERE wait = w.id), 0) AS held,
       MAX(COALESCE(MIN(gap_end, e), s),
           COALESCE((SELECT MAX(until) FROM held WHERE wait = w.id), s)) AS free_from,
       gap_end IS NULL OR gap_end < e OR EXISTS (SELECT 1 FROM held WHERE wait = w.id) AS told
FROM wait w;
CREATE TABLE part AS
SELECT wait, ns, 'held' AS reason, hold FROM held WHERE ns > 0
UNION ALL SELECT id, unknown, 'held', NULL FROM cut
UNION ALL SELECT id, e - free_from, 'wakeup', NULL FROM cut WHERE acquired AND told
UNION ALL SELECT id, e - s - unknown - held
                 - CASE WHEN acquired AND told THEN e - free_from ELSE 0 END, 'idle', NULL FROM cut;
"""

ROWS = """
SELECT w.thread, h.thread, reason, ws.text, hs.text, SUM(ns), COUNT(DISTINCT w.id)
FROM part JOIN wait w ON w.id = part.wait LEFT JOIN hold h ON h.id = part.hold
LEFT JOIN site_of ws ON ws.of_wait AND ws.interval = w.id
LEFT JOIN site_of hs ON NOT hs.of_wait AND hs.interval = h.id
WHERE ns != 0 GROUP BY 1, 2, 3, 4, 5
"""


def sql_blame(trace: Trace) -> dict[Key, tuple[int, int]]:
    """wait_ns and waits of each row."""
    holds, waits, gaps = trace.holds, trace.waits, trace.gaps
    base = trace.metadata.start_ns
    with sqlite3.connect(":memory:") as db:
        db.executescript(TABLES)
        rows = zip(
            range(len(holds)),
            *(holds[f].tolist() for f in ("gil", "thread")),
            *((holds[f] - base).tolist() for f in ("start_ns", "end_ns")),
            strict=True,
        )
        db.executemany("INSERT INTO hold VALUES (?, ?, ?, ?, ?)", rows)
        ends = (gaps["end_ns"] - base).tolist()
        gap_ends = [
            None if gap == NO_GAP else max(ends[gap], start)
            for gap, start in zip(
                waits["gap"].tolist(), (waits["start_ns"] - base).tolist(), strict=True
            )
        ]
        rows = zip(
            range(len(waits)),
            *(waits[f].tolist() for f in ("gil", "thread")),
            *((waits[f] - base).tolist() for f in ("start_ns", "end_ns")),
            (waits["ending"] == ACQUIRED).astype(int).tolist(),
            gap_ends,
            strict=True,
        )
        db.executemany("INSERT INTO wait VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        db.executemany(
            "INSERT INTO stack VALUES (?, ?, ?, ?, ?)",
            [
                (s.id, s.parent, f"{s.file}|{s.line}|{s.function}", _short(s), s.library)
                for s in trace.metadata.stacks
            ],
        )
        db.executemany(
            "INSERT INTO at VALUES (?, ?, ?, ?)",
            [
                (of_wait, interval, leaf, of_wait or seen)
                for interval, leaf, of_wait, seen, _ in trace.stacks.tolist()
            ],
        )
        db.executescript(SITES + PARTS)
        return {tuple(row[:5]): (row[5], row[6]) for row in db.execute(ROWS)}


def _short(stack: Any) -> str:
    folders = stack.file.split("/")[-2:]
    return f"{'/'.join(folders) or '?'}:{stack.line} {stack.function}"


def json_blame(summary: dict[str, Any]) -> dict[Key, tuple[int, int]]:
    """The same of a summary in which no row is a sum of others."""
    found = {}
    for process in summary["processes"]:
        for row in process["blame"]:
            key = (row["waiter"], row["holder"], row["reason"])
            key += (_text(row["waiter_site"]), _text(row["holder_site"]))
            assert key not in found
            found[key] = (row["wait_ns"], row["waits"])
    return found


def _text(site: dict[str, Any] | None) -> str | None:
    if site is None:
        return None
    place = f"{site['file']}|{site['line']}|{site['function']}|{site['library_line'] or ''}"
    return place + ("|exact" if site["exact"] else "")


def expect_sql_agrees(trace: Trace, summary: dict[str, Any]) -> None:
    """Each row of blame is SQL's, and a sum of others is the sum of the rest."""
    expected = sql_blame(trace)
    rows = [row for process in summary["processes"] for row in process["blame"]]
    if not any(row["others"] for row in rows):
        assert json_blame(summary) == expected
        return
    for waiter in {row["waiter"] for row in rows}:
        mine = {key: value for key, value in expected.items() if key[0] == waiter}
        for row in (row for row in rows if row["waiter"] == waiter and not row["others"]):
            key = (waiter, row["holder"], row["reason"])
            key += (_text(row["waiter_site"]), _text(row["holder_site"]))
            assert mine.pop(key) == (row["wait_ns"], row["waits"])
        many_ns = 0
        for row in (row for row in rows if row["waiter"] == waiter and row["others"]):
            if row["holder"] is None and row["reason"] == "held":
                many_ns += row["wait_ns"]  # of many holders: what is left in the end
                continue
            of = [k for k in mine if k[1:3] == (row["holder"], row["reason"])]
            assert len(of) == row["others"]
            assert sum(mine.pop(key)[0] for key in of) == row["wait_ns"]
        assert sum(ns for ns, _ in mine.values()) == many_ns

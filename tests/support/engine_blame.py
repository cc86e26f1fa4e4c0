"""Blame a third time: in Perfetto's engine, over the slices that it imports from a trace's file.

No interval of gilscope's own is used: holds and waits are slices, gaps and what ended them are
instants. Which GIL a wait was for is not told there, so of a process with several only the sums
without reason are compared; support.sql_blame has the rest of those.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from support.perfetto_engine import engine, query
from support.sql_blame import CUT, MANY, PARTS, REASONS, SUMS, expect_sums

from gilscope.perfetto.tracks import Numbers
from gilscope.trace.schema import Metadata

Key = tuple[int, int | None, str]  # waiter, holder, reason

SLICES = (
    """
    CREATE TABLE told AS
    SELECT s.id, t.upid AS gil, t.utid AS thread, s.ts - (SELECT MIN(ts) FROM slice) AS s, s.dur,
           s.name = 'holds GIL' AS holds, s.name = 'waiting for GIL' AS waits,
           s.name = 'GIL events lost' AS lost, s.category = 'waited' AS waited
    FROM slice s JOIN thread_track k ON s.track_id = k.id JOIN thread t USING (utid)
    WHERE s.name IN ('holds GIL', 'waiting for GIL', 'GIL events lost', 'GIL release',
                     'forced yield')
    """,
    "CREATE TABLE hold AS SELECT id, gil, thread, s, s + dur AS e FROM told WHERE holds",
    # In a gap is what comes behind a loss, or the beginning, with nothing between that tells who
    # has the GIL; the next that tells it ends the gap.
    """
    CREATE TABLE known AS
    SELECT *, MAX(CASE WHEN lost THEN id END) OVER past AS last_lost,
           MAX(CASE WHEN NOT lost AND NOT waits THEN id END) OVER past AS last_known,
           MIN(CASE WHEN NOT lost AND NOT waits THEN s END) OVER future AS known_at
    FROM told WINDOW past AS (PARTITION BY gil ORDER BY id),
                     future AS (PARTITION BY gil ORDER BY id DESC)
    """,
    # A wait ends in the next hold of its thread, unless records were lost between.
    """
    CREATE TABLE wait AS
    WITH followed AS (
        SELECT *, LEAD(holds AND waited) OVER next AS held, LEAD(s) OVER next AS held_at,
               LEAD(last_lost) OVER next AS lost_then
        FROM known WHERE holds OR waits WINDOW next AS (PARTITION BY thread ORDER BY id))
    SELECT id, gil, thread, s, s + dur AS e,
           COALESCE(held AND held_at = s + dur AND COALESCE(lost_then < id, 1), 0) AS acquired,
           CASE WHEN last_known > COALESCE(last_lost, -1) THEN NULL
                ELSE COALESCE(known_at, s + dur) END AS gap_end
    FROM followed WHERE waits
    """,
)

# From each loss to what ends its gap: the next that tells who has the GIL, the next loss, the end.
UNKNOWN = """
    WITH over AS (
        SELECT t.upid AS gil, MAX(s.ts) - (SELECT MIN(ts) FROM slice) AS at
        FROM slice s JOIN thread_track k ON s.track_id = k.id JOIN thread t USING (utid)
        WHERE s.name IN ('process end', 'process end, unclean') GROUP BY t.upid),
    next AS (
        SELECT gil, s, lost, LEAD(s) OVER (PARTITION BY gil ORDER BY id) AS until
        FROM told WHERE NOT waits)
    SELECT p.pid, SUM(COALESCE(until, at) - s) AS ns
    FROM next JOIN over USING (gil) JOIN process p ON p.upid = gil WHERE lost GROUP BY p.pid
"""

NAMED_SUMS = f"""
    SELECT tid, held, wakeup, idle, overlaps FROM ({SUMS}) s JOIN thread t ON t.utid = s.thread
"""

ROWS = """
    SELECT t.tid AS waiter, o.tid AS holder, reason, SUM(ns) AS ns
    FROM part JOIN wait w ON w.id = part.wait LEFT JOIN hold h ON h.id = part.hold
    JOIN thread t ON t.utid = w.thread LEFT JOIN thread o ON o.utid = h.thread
    WHERE ns != 0 GROUP BY 1, 2, 3
"""


def expect_engine_agrees(path: Path, metadata: Metadata, summary: dict[str, Any]) -> None:
    """Blame by thread and reason is what the engine's SQL makes of the trace's slices."""
    numbers = Numbers()
    numbers.grow(metadata)
    pids, tids = numbers.pids, numbers.tids
    thread_of = {tid: thread.id for tid, thread in zip(tids, metadata.threads, strict=True)}
    gils = [gil.process for gil in metadata.gils]
    simple = [p for p in summary["processes"] if gils.count(p["id"]) == 1]
    with engine(path) as tp:
        for statement in (*SLICES, *CUT):
            query(tp, statement)
        sums = query(tp, NAMED_SUMS)
        by_thread = {thread_of[row["tid"]]: tuple(row[r] for r in REASONS) for row in sums}
        for process in summary["processes"]:
            for thread in process["threads"]:
                assert sum(by_thread.get(thread["id"], (0,))) == thread["waiting_ns"]
        expect_sums({"processes": simple}, by_thread)
        unknown = {row["pid"]: row["ns"] for row in query(tp, UNKNOWN)}
        for process in simple:
            (gil,) = process["gils"]
            if process["threads"]:
                assert gil["unknown_ns"] == unknown.get(pids[process["id"]], 0)
        if sum(row["overlaps"] for row in sums) > MANY:
            return
        query(tp, PARTS)
        rows = query(tp, ROWS)
    expected = Counter[Key]()
    for row in rows:
        holder = None if row["holder"] is None else thread_of[row["holder"]]
        expected[thread_of[row["waiter"]], holder, row["reason"]] = row["ns"]
    _expect_holders(simple, expected)


def _expect_holders(processes: list[dict[str, Any]], expected: Counter[Key]) -> None:
    """By holder and reason; what a row says of many holders is what is left in the end."""
    for process in processes:
        mine = {t["id"] for t in process["threads"]}
        left = Counter({key: ns for key, ns in expected.items() if key[0] in mine})
        many_ns = Counter[int]()
        for row in process["blame"]:
            if row["others"] and row["holder"] is None and row["reason"] == "held":
                many_ns[row["waiter"]] += row["wait_ns"]
            else:
                left[row["waiter"], row["holder"], row["reason"]] -= row["wait_ns"]
        assert min(left.values(), default=0) >= 0
        for (waiter, _, _), ns in left.items():
            many_ns[waiter] -= ns
        assert not any(many_ns.values())

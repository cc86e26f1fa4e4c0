"""Exports hold what the summary says, and are what their readers want. Names in them stay text."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from support.gecko_schema import expect_profile
from support.stories import MemorySource, possible_stories, rolled_story, told

from gilscope.analysis.flame import flame_of
from gilscope.analysis.summary import summarise
from gilscope.export import gecko as form
from gilscope.export.frames import burnt
from gilscope.export.gecko import gecko
from gilscope.export.parquet import write_parquet
from gilscope.export.parquet_schema import TABLES, markdown
from gilscope.export.speedscope import speedscope
from gilscope.perfetto.writer import write_trace
from gilscope.trace.model import Trace

STORY = rolled_story(3, 3_000, ((4, 1), (3, 2)))
HOSTILE = "\\x1b[2J\\u202e<script>alert(1)</script>;\\n"
HOSTILE_STORY = f"""
    0   {HOSTILE} process.start
    0   {HOSTILE} gil.acquire
    10  b gil.wait io
    40  {HOSTILE} stack arg=1 seen
    40  {HOSTILE} gil.yield arg=1
    40  b gil.acquire waited
    50  b gil.release
    90  {HOSTILE} process.end
"""


def gilscope(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gilscope", "export", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    write_trace(STORY, tmp_path / "story.pftrace")
    return tmp_path / "story.pftrace"


class Tables:
    """The files of a folder, asked by SQL; a table is named by its file."""

    def __init__(self, folder: Path) -> None:
        self._db = duckdb.connect()
        for name in TABLES:
            self._db.execute(f"CREATE VIEW {name} AS SELECT * FROM '{folder / name}.parquet'")

    def __call__(self, sql: str) -> list[tuple[Any, ...]]:
        return self._db.execute(sql).fetchall()


def expect_tables_agree(folder: Path, summary: dict[str, Any]) -> None:
    """Every sum over holds, waits, locks and blame is the summary's, to the nanosecond."""
    sql = Tables(folder)
    threads = [thread for process in summary["processes"] for thread in process["threads"]]
    sums = sql("""
        SELECT id,
            coalesce((SELECT sum(held_ns) FROM holds WHERE thread = id), 0),
            coalesce((SELECT sum(wait_ns) FROM waits WHERE thread = id), 0),
            coalesce((SELECT sum(wait_ns) FROM waits WHERE thread = id AND kind = 'io'), 0),
            coalesce((SELECT sum(wait_ns) FROM blame WHERE waiter = id), 0),
            (SELECT max(wait_ns) FROM waits WHERE thread = id),
            (SELECT quantile_disc(held_ns, 0.99) FROM holds WHERE thread = id),
            life_ns, held_ns, waiting_ns, outside_ns, unknown_ns, acquires, name, class
        FROM threads ORDER BY id
    """)
    assert sums == [
        (
            t["id"],
            t["held_ns"],
            t["waiting_ns"],
            t["io_wait_ns"]["sum"] or 0,
            t["waiting_ns"],
            t["wait_ns"]["max"],
            t["hold_ns"]["p99"],
            *(t[f"{part}_ns"] for part in ("life", "held", "waiting", "outside", "unknown")),
            *(t["acquires"], t["name"], t["class"]),
        )
        for t in sorted(threads, key=lambda t: t["id"])
    ]
    gils = [gil for process in summary["processes"] for gil in process["gils"]]
    assert sql("""
        SELECT id, coalesce((SELECT sum(held_ns) FROM holds WHERE gil = id), 0),
            held_ns, idle_ns, unknown_ns, contended_ns FROM gils ORDER BY id
    """) == [
        (gil["id"], gil["held_ns"], *(gil[f"{p}_ns"] for p in ("held", "idle", "unknown")),
         gil["contended_ns"])
        for gil in sorted(gils, key=lambda gil: gil["id"])
    ]  # fmt: skip
    objects = {
        (process["id"], what, int(row["object"].split(" at ")[1], 16), row["kind"]): (
            row["waits"],
            row["wait_ns"]["sum"] or 0,
            row["timeouts"],
        )
        for process in summary["processes"]
        for what, rows in (("lock", process["locks"]), ("condition", process["conditions"]))
        for row in rows or ()
        if row["waits"]
    }
    found = sql("""
        SELECT process, what, object, kind, count(*), sum(wait_ns),
            count(*) FILTER (ending = 'timed-out')
        FROM locks JOIN threads ON threads.id = thread GROUP BY ALL
    """)
    assert {tuple(row[:4]): tuple(row[4:]) for row in found} == objects
    for process in summary["processes"]:
        sections = sql(f"""
            SELECT count(*), coalesce(sum(sections.held_ns), 0), coalesce(sum(deferred_yields), 0)
            FROM sections JOIN threads ON threads.id = thread WHERE process = {process["id"]}
        """)[0]
        atomic = process["atomic"] or {"sections": 0, "held_ns": {"sum": 0}, "deferred_yields": 0}
        expected = (atomic["sections"], atomic["held_ns"]["sum"] or 0, atomic["deferred_yields"])
        assert sections == expected


def test_sums_over_the_tables_are_the_summarys(trace: Path, tmp_path: Path) -> None:
    done = gilscope(trace, "--format", "parquet", "-o", tmp_path / "tables")
    assert (done.returncode, done.stderr) == (0, "")
    expect_tables_agree(tmp_path / "tables", summarise(Trace.from_source(STORY)))


@settings(max_examples=15, deadline=None)
@given(possible_stories())
def test_tables_of_any_story(
    tmp_path_factory: pytest.TempPathFactory, source: MemorySource
) -> None:
    folder = tmp_path_factory.mktemp("tables")
    write_parquet(Trace.from_source(source), folder)
    expect_tables_agree(folder, summarise(Trace.from_source(source)))


def test_the_documented_schema_is_the_written_one(root: Path, tmp_path: Path) -> None:
    text = (root / "docs" / "export.md").read_text(encoding="utf-8")
    assert markdown() in text, "make docs"
    write_parquet(Trace.from_source(told(HOSTILE_STORY)), tmp_path)
    sql = Tables(tmp_path)
    for name, columns in TABLES.items():
        described = sql(f"DESCRIBE {name}")
        types = {"text": "VARCHAR", "string": "VARCHAR", "bool": "BOOLEAN", "int64": "BIGINT"}
        types |= {"int32": "INTEGER", "uint32": "UINTEGER", "uint64": "UBIGINT"}
        assert [row[:2] for row in described] == [(c.name, types[c.type]) for c in columns]
    names = [row[0] for row in sql("SELECT name FROM threads ORDER BY id")]
    assert names == ["\\x1b[2J\\u202e<script>alert(1)</script>;\\n", "b"]


def test_a_folder_with_other_files_is_left_alone(trace: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    done = gilscope(trace, "--format", "parquet", "-o", folder)
    assert done.returncode == 2
    assert "has other files in it (notes.txt)" in done.stderr
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    done = gilscope(trace, "--format", "parquet", "-o", folder / "notes.txt")
    assert (done.returncode, "is no folder" in done.stderr) == (2, True)
    done = gilscope(trace, "--format", "parquet")
    assert (done.returncode, "-o DIR" in done.stderr) == (2, True)
    done = gilscope(trace, "--format", "gecko", "--weight", "waiting")
    assert (done.returncode, "--format collapsed" in done.stderr) == (2, True)
    for _ in range(2):  # its own tables are written again
        assert gilscope(trace, "--format", "parquet", "-o", tmp_path / "again").returncode == 0


def expect_gecko_agrees(trace: Trace) -> None:
    profile = gecko(trace)
    expect_profile(json.loads(json.dumps(profile)))
    tids = {f"{thread.tid}.{thread.id}": thread.id for thread in trace.metadata.threads}
    assert sorted(tids[thread["tid"]] for thread in profile["threads"]) == sorted(tids.values())
    waiting = [int(trace.thread_stats["waiting_ns"][tids[t["tid"]]]) for t in profile["threads"]]
    assert waiting == sorted(waiting, reverse=True)
    for thread in profile["threads"]:
        held = int(trace.thread_stats["held_ns"][tids[thread["tid"]]])
        assert round(sum(thread["samples"]["weight"]) * 1e6) == held


@settings(deadline=None)
@given(possible_stories())
def test_a_firefox_profile_of_any_story(source: MemorySource) -> None:
    expect_gecko_agrees(Trace.from_source(source))


def test_a_firefox_profile_says_what_it_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(form, "MOST_MARKERS", 100)
    monkeypatch.setattr(form, "SLOTS", 50)
    trace = Trace.from_source(STORY)
    expect_gecko_agrees(trace)
    profile = gecko(trace)
    kept = sum(thread["markers"]["length"] for thread in profile["threads"])
    assert 0 < kept <= 100
    count = len(trace.holds) + len(trace.waits) + len(trace.sync_waits)
    (entry,) = (e for e in profile["meta"]["extra"][0]["entries"] if e["label"] == "Left out")
    assert entry["value"].startswith(f"{count - kept:,} intervals")
    shortest = min(
        end - start
        for thread in profile["threads"]
        for start, end in zip(
            thread["markers"]["startTime"], thread["markers"]["endTime"], strict=True
        )
    )
    lengths = sorted(
        end - start
        for rows in (trace.holds, trace.waits, trace.sync_waits)
        for start, end in zip(rows["start_ns"].tolist(), rows["end_ns"].tolist(), strict=True)
    )
    assert round(shortest * 1e6) == lengths[-kept]


@pytest.mark.parametrize("text", ["collapsed", "speedscope", "gecko"])
def test_names_stay_text(tmp_path: Path, text: str) -> None:
    trace = tmp_path / "story.pftrace"
    write_trace(told(HOSTILE_STORY), trace)
    done = gilscope(trace, "--format", text)
    assert done.returncode == 0
    assert all(c.isprintable() for c in done.stdout.replace("\n", ""))
    assert done.stdout.isascii()
    assert "<script>" in done.stdout


def test_speedscope_has_both_weights() -> None:
    trace = Trace.from_source(STORY)
    flame = flame_of(trace)
    file = speedscope(burnt(flame, trace.metadata), "story")
    held, waiting = file["profiles"]
    stats = trace.thread_stats
    assert sum(held["weights"]) == held["endValue"] == int(stats["held_ns"].sum())
    assert sum(waiting["weights"]) == waiting["endValue"] == int(stats["waiting_ns"].sum())
    assert {len(held["samples"])} == {len(held["weights"])}
    frames = file["shared"]["frames"]
    assert {n for sample in held["samples"] for n in sample} <= set(range(len(frames)))

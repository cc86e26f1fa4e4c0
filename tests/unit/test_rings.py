"""The ring reader against ring files made by hand."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from support.ring_file import (
    CHUNK_UNITS,
    FIRST_UNIT,
    RECORDS_AT,
    RECORDS_IN_PAGE,
    START,
    UNIT,
    RingFile,
    record,
)

import gilscope
from gilscope.errors import GilscopeError, TraceError
from gilscope.perfetto.writer import write_trace
from gilscope.recorder import session
from gilscope.recorder.notes import Notes
from gilscope.trace import ring_pages
from gilscope.trace import rings as reader
from gilscope.trace.following import Following
from gilscope.trace.model import Trace
from gilscope.trace.rings import RingSource, open_rings
from gilscope.trace.schema import EventKind
from gilscope.trace.story import checked

K = EventKind
WAIT, ACQUIRE, RELEASE = EventKind.GIL_WAIT, EventKind.GIL_ACQUIRE, EventKind.GIL_RELEASE
BEGIN, END = EventKind.THREAD_START, EventKind.THREAD_END
Row = tuple[str, int, int, int]  # kind, thread, ns after the start, arg


def story(source: RingSource) -> list[Row]:
    """All events, checked to be possible."""
    rows: list[Row] = []
    for batch in checked(source):
        rows += [
            (EventKind(e["kind"]).label, int(e["thread"]), int(e["time_ns"]) - START, int(e["arg"]))
            for e in batch
        ]
    return rows


def cycles(first: int, n: int, at: int = 0, step: int = 10) -> list[bytes]:
    """`n` holds, their numbers beginning at `first`."""
    return [record((ACQUIRE, RELEASE)[i % 2], at + i * step, first + i) for i in range(2 * n)]


# ---- what Python hard-codes of the C structs ----------------------------------------------------

ASK = """
#include <stddef.h>
#include <stdio.h>
#include "gilscope/probe/event_abi.h"
#define SAY(type, field) printf("%s.%s %zu\\n", #type, #field, offsetof(struct gs_##type, field))
int main(void) {
    SAY(file_header, abi_version); SAY(file_header, clock_source); SAY(file_header, root_pid);
    SAY(file_header, stop); SAY(file_header, created_ns); SAY(file_header, limit_units);
    SAY(file_header, kept_from); SAY(file_header, kept_until); SAY(file_header, lost_unattached);
    SAY(file_header, lost_processes); SAY(file_header, unfollowed); SAY(file_header, n_clocks);
    SAY(file_header, clocks); SAY(file_header, unfollowed_name);
    SAY(process_page, pid); SAY(process_page, parent);
    SAY(process_page, interpreter); SAY(process_page, n_gils); SAY(process_page, start);
    SAY(process_page, end_ticks); SAY(process_page, python); SAY(process_page, feed);
    SAY(process_page, switch_interval_us);
    SAY(process_page, lost_stacks);
    SAY(process_page, command_bytes); SAY(process_page, command); SAY(thread_page, tid);
    SAY(thread_page, is_main); SAY(thread_page, start_ticks); SAY(thread_page, end_ticks);
    SAY(thread_page, lost); SAY(thread_page, name); SAY(thread_page, records);
    SAY(thread_page, counters.short_sleeps);
    SAY(event_chunk, records); SAY(chunk_header, ordinal);
    SAY(clock_snapshot, ticks); SAY(clock_snapshot, monotonic_ns); SAY(clock_snapshot, boottime_ns);
    SAY(clock_snapshot, realtime_ns);
    printf("unit %u\\nchunk %u\\nfirst %u\\nname %u\\n", GS_UNIT_BYTES, GS_CHUNK_UNITS,
           GS_FIRST_UNIT, GS_NAME_BYTES);
    return 0;
}
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler is not None
    folder = tmp_path_factory.mktemp("abi")
    (folder / "ask.c").write_text(ASK)
    root = Path(__file__).parents[2]
    subprocess.run(
        [compiler, "-std=c11", "-I", root, folder / "ask.c", "-o", folder / "ask"], check=True
    )
    answer = subprocess.run([folder / "ask"], check=True, capture_output=True, text=True)
    return {name: int(n) for name, n in (line.split() for line in answer.stdout.splitlines())}


def marked(compiled: dict[str, int], struct_name: str, fields: str) -> bytes:
    """A page whose fields hold 1, 2, … in the order named, at the compiler's offsets."""
    page = bytearray(UNIT)
    for number, field in enumerate(fields.split(), 1):
        page[compiled[f"{struct_name}.{field}"]] = number
    return bytes(page)


def number(field: int | bytes) -> int:
    return field[0] if isinstance(field, bytes) else field


@pytest.mark.parametrize(
    ("layout", "struct_name", "fields", "seen"),
    [
        (ring_pages._HEADER, "file_header", "abi_version clock_source root_pid stop",
         [0, 1, 2, 0, 3, 0, 4]),
        (ring_pages._SNAPSHOT, "clock_snapshot", "ticks monotonic_ns boottime_ns realtime_ns",
         [1, 2, 3, 4]),
        (ring_pages._PROCESS_PAGE, "process_page", "pid parent interpreter n_gils start end_ticks "
         "python switch_interval_us feed lost_stacks command_bytes", list(range(12))),
        (ring_pages._THREAD_PAGE, "thread_page", "tid is_main start_ticks end_ticks lost name",
         [1, 2, 3, 4, 5, 6]),
    ],
)  # fmt: skip
def test_layouts_are_the_compilers(
    compiled: dict[str, int], layout: struct.Struct, struct_name: str, fields: str, seen: list[int]
) -> None:
    page = marked(compiled, struct_name, fields)
    assert [number(field) for field in layout.unpack_from(page)] == seen


def test_offsets_are_the_compilers(compiled: dict[str, int]) -> None:
    def of(*fields: str) -> tuple[int, ...]:
        return tuple(compiled[field] for field in fields)

    assert compiled["file_header.lost_unattached"] == ring_pages._LOST_OFFSET
    lost = ring_pages._LOST_OFFSET
    assert of("file_header.lost_processes", "file_header.unfollowed") == (lost + 8, lost + 16)
    assert compiled["file_header.clocks"] == ring_pages._CLOCKS_OFFSET
    assert compiled["file_header.unfollowed_name"] == ring_pages._PROGRAM_OFFSET
    assert compiled["process_page.command"] == ring_pages._PROCESS_PAGE.size
    short_sleeps = compiled["thread_page.counters.short_sleeps"]
    assert short_sleeps == ring_pages._SHORT_SLEEPS_OFFSET
    assert ring_pages.UNIT == session.UNIT == UNIT == compiled["unit"]
    assert compiled["chunk"] == CHUNK_UNITS
    assert compiled["file_header.root_pid"] == session._ROOT_PID_OFFSET
    assert compiled["file_header.stop"] == session._STOP_OFFSET
    assert compiled["file_header.kept_from"] == session._KEPT_FROM_OFFSET
    assert compiled["file_header.kept_until"] == ring_pages._UNTIL_OFFSET
    assert compiled["first"] == session.FIRST_UNIT
    assert compiled["chunk_header.ordinal"] == session._ORDINAL_OFFSET
    # living_processes reads pid, parent, interpreter and then the start's realtime_ns, end_ticks.
    assert of("process_page.pid", "process_page.interpreter") == (16, 24)
    realtime = compiled["process_page.start"] + compiled["clock_snapshot.realtime_ns"]
    assert (realtime, compiled["process_page.end_ticks"]) == (56, 64)
    assert compiled["thread_page.records"] + 16 * RECORDS_IN_PAGE == UNIT


# ---- stories ------------------------------------------------------------------------------------


def test_one_thread(tmp_path: Path) -> None:
    rings = RingFile()
    process = rings.process(10, start=1, end=90)
    records = [record(BEGIN, 5), *cycles(0, 2, at=10), record(END, 60)]
    rings.thread(process, 10, records, name="Füße".encode(), is_main=True, end=60)
    with rings.open(tmp_path) as source:
        assert story(source) == [
            ("process.start", 0, 1, 0),
            ("thread.start", 0, 5, 0),
            ("gil.acquire", 0, 10, 0),
            ("gil.release", 0, 20, 0),
            ("gil.acquire", 0, 30, 0),
            ("gil.release", 0, 40, 0),
            ("thread.end", 0, 60, 0),
            ("process.end", 0, 90, 0),
        ]
        assert source.totals == reader.Totals(events=8, clamped=0)
        process_row, thread = source.metadata.processes[0], source.metadata.threads[0]
        assert (process_row.command, process_row.python) == (("python", "a"), "3.13.0")
        assert (process_row.start_ns, process_row.end_ns) == (START + 1, START + 90)
        assert (thread.name, thread.end_ns, thread.is_main) == ("Füße", START + 60, True)
        assert (source.metadata.boottime_offset_ns, source.metadata.realtime_offset_ns) == (7, 9)


@pytest.mark.parametrize(
    ("told_us", "interval_ns"), [((0, 700, 900), 700_000), ((0,), None), ((1 << 63,), None)]
)
def test_the_switch_interval_is_the_first_that_was_told(
    tmp_path: Path, told_us: tuple[int, ...], interval_ns: int | None
) -> None:
    rings = RingFile()
    for pid, interval_us in enumerate(told_us, 10):
        rings.process(pid, start=pid, end=90, interval_us=interval_us)
    with rings.open(tmp_path) as source:
        assert source.metadata.policy.switch_interval_ns == interval_ns


def test_the_sequence_orders_what_two_cores_stamped_the_wrong_way_round(tmp_path: Path) -> None:
    rings = RingFile()
    process = rings.process(10, end=90)
    rings.thread(process, 10, [record(ACQUIRE, 10, 0), record(RELEASE, 21, 1)])
    rings.thread(process, 11, [record(ACQUIRE, 20, 2), record(RELEASE, 30, 3)])
    with rings.open(tmp_path) as source:
        assert [row[1:3] for row in story(source)[1:-1]] == [(0, 10), (0, 21), (1, 21), (1, 30)]
        assert source.totals.clamped == 1


def test_pages_and_chunks_of_one_thread_are_one_after_the_other(tmp_path: Path) -> None:
    rings = RingFile()
    n = RECORDS_IN_PAGE // 2
    first = (CHUNK_UNITS * UNIT - 16) // 16 // 2
    process = rings.process(10, end=10_000_000)
    thread = rings.thread(process, 10, cycles(0, n))
    rings.take(CHUNK_UNITS)  # taken by a thread that died before it could publish it
    rings.chunk(thread, 1, cycles(2 * n, first, at=100_000))
    rings.chunk(thread, 2, cycles(2 * (n + first), 3, at=1_000_000))
    with rings.open(tmp_path) as source:
        rows = story(source)
    assert len(rows) == 2 * (n + first + 3) + 2
    assert not any(row[0] == "gil.lost" for row in rows)


def test_a_chunk_that_is_gone_is_a_gap_that_says_how_many(tmp_path: Path) -> None:
    rings = RingFile()
    n = RECORDS_IN_PAGE // 2
    process = rings.process(10, end=10_000_000)
    thread = rings.thread(process, 10, cycles(0, n), lost=4093)
    again = [told(K.THREAD_LOST, 499_990, 4093), *cycles(2 * n + 4093, 1, at=500_000)]
    rings.chunk(thread, 2, again)
    with rings.open(tmp_path) as source:
        rows = story(source)
        assert source.metadata.lost_events == 4093
    last = 10 * (2 * n - 1)
    assert rows[-6:] == [
        ("gil.release", 0, last, 0),
        ("gil.lost", 0, last, 4093),
        ("thread.lost", 0, last, 4093),
        ("gil.acquire", 0, 500_000, 0),
        ("gil.release", 0, 500_010, 0),
        ("process.end", 0, 10_000_000, 0),
    ]


def holes(rings: RingFile, process: int) -> int:
    """A thread that holds the GIL and then loses its next 90 records; returns its unit."""
    n = RECORDS_IN_PAGE // 2
    wait = record(WAIT, 5_000, 2 * n - 2, arg=1)
    kept = [*cycles(0, n - 1), wait, record(ACQUIRE, 6_000, 2 * n - 1, flags=1)]
    return rings.thread(process, 10, kept, is_main=True, lost=90)


def test_a_hole_begins_behind_the_last_event_that_is_known(tmp_path: Path) -> None:
    """Not where another thread, which sat in a wait of its own meanwhile, shows it."""
    rings = RingFile()
    process = rings.process(10, end=900_000)
    thread = holes(rings, process)
    rings.chunk(thread, 1, [told(K.THREAD_LOST, 700_000, 90), record(END, 700_000)])
    own = [told(K.COND_WAIT, 10, 0x1001), told(K.COND_WAKE, 400_000, 0x1001)]
    n = RECORDS_IN_PAGE + 90
    own += [record(ACQUIRE, 500_000, n), record(RELEASE, 600_000, n + 1)]
    rings.thread(process, 11, own)
    with rings.open(tmp_path) as source:
        rows = story(source)
    with rings.open(tmp_path) as source:
        trace = Trace.from_source(source)
    assert rows[rows.index(("gil.acquire", 0, 6_000, 0)) :] == [
        ("gil.acquire", 0, 6_000, 0),
        ("gil.lost", 0, 6_000, 90),
        ("thread.lost", 0, 6_000, 90),
        ("cond.wake", 1, 400_000, 0x1001),
        ("gil.acquire", 1, 500_000, 0),
        ("gil.release", 1, 600_000, 0),
        ("thread.end", 0, 700_000, 0),
        ("process.end", 0, 900_000, 0),
    ]
    assert trace.gil_stats["unknown_ns"].tolist() == [494_000]
    assert trace.gil_stats["held_ns"] == (RECORDS_IN_PAGE // 2 - 1) * 10 + 100_000


@pytest.mark.parametrize("told_at_last", [False, True])
def test_what_is_lost_at_the_end_is_a_gap_to_the_end(tmp_path: Path, told_at_last: bool) -> None:
    """Whether its thread never wrote again, or wrote only what is of no GIL."""
    rings = RingFile()
    process = rings.process(10, end=900_000)
    thread = holes(rings, process)
    if told_at_last:
        rings.chunk(thread, 1, [told(K.THREAD_LOST, 700_000, 90), record(END, 700_000)])
    with rings.open(tmp_path) as source:
        rows = story(source)
    with rings.open(tmp_path) as source:
        trace = Trace.from_source(source)
    tail = [
        ("gil.acquire", 0, 6_000, 0),
        ("gil.lost", 0, 6_000, 0),
        ("thread.lost", 0, 6_000, 90),
        ("thread.end", 0, 700_000, 0),
        ("process.end", 0, 900_000, 0),
    ]
    assert rows[rows.index(tail[0]) :] == (tail if told_at_last else [*tail[:3], tail[4]])
    assert trace.gil_stats["unknown_ns"].tolist() == [894_000]


@pytest.mark.parametrize("live", [False, True], ids=["at the end", "live"])
def test_a_gil_that_was_left_without_a_word_ends_open(tmp_path: Path, live: bool) -> None:
    """Its thread is seen at another GIL next; no later number of the first one shows the loss."""
    rings = RingFile()
    process = rings.process(10, n_gils=2, end=900_000)
    kept = cycles(0, RECORDS_IN_PAGE // 2 - 1)
    kept += [record(WAIT, 5_000, len(kept), arg=1), record(ACQUIRE, 6_000, len(kept) + 1, flags=1)]
    thread = rings.thread(process, 10, kept, is_main=True, lost=90)
    elsewhere = [record(ACQUIRE, 700_010, 0, gil=1), record(RELEASE, 700_020, 1, gil=1)]
    rings.chunk(thread, 1, [told(K.THREAD_LOST, 700_000, 90), *elsewhere])
    if live:
        folder = rings.write(tmp_path)
        notes = Notes.read(folder)
        with Following(folder, notes) as source:
            source.poll()
            source.finish(notes)
            trace = Trace.from_source(source)
    else:
        with rings.open(tmp_path) as source_at_end:
            trace = Trace.from_source(source_at_end)
    first, second = (trace.holds[trace.holds["gil"] == gil] for gil in (0, 1))
    assert first["end_ns"][-1] == START + 6_000
    assert (second["end_ns"] - second["start_ns"]).tolist() == [10]
    assert trace.gil_stats["unknown_ns"][0] == 894_000


def stopped(rings: RingFile, folder: Path) -> RingSource:
    """Opened as the rings of a recording that met its limit."""
    return rings.open(folder, Notes(("python",), "0", exit_code=0, stopped="max-size"))


def test_from_the_stop_on_nothing_is_known(tmp_path: Path) -> None:
    """Of all that lived on; what had ended before is whole."""
    rings = RingFile()
    over = rings.process(9, end=80)
    rings.thread(over, 9, [*cycles(0, 2, at=20), record(END, 70)], is_main=True, end=70)
    process = rings.process(10, n_gils=2, end=1_000)
    rings.thread(process, 10, [record(ACQUIRE, 50, 0), told(K.ATOMIC_ENTER, 60, 1)], is_main=True)
    rings.thread(process, 11, [record(WAIT, 100, 1, arg=1)])
    rings.thread(process, 12, [record(BEGIN, 30), record(END, 40)], end=40)
    with stopped(rings, tmp_path) as source:
        rows = story(source)
        assert source.metadata.stopped_ns == START + 100
    assert sorted(row for row in rows if row[0].endswith(".lost")) == [
        ("gil.lost", 1, 100, 0),
        ("gil.lost", 2, 100, 0),
        ("thread.lost", 1, 100, 0),
        ("thread.lost", 2, 100, 0),
    ]
    # Of the GIL that was not used yet, in the main thread's name.
    assert rows[-2:] == [("gil.lost", 1, 100, 0), ("process.end", 1, 1_000, 0)]
    with stopped(rings, tmp_path) as source:
        trace = Trace.from_source(source)
    assert trace.gil_stats["held_ns"].tolist() == [20, 50, 0]
    assert trace.gil_stats["unknown_ns"].tolist() == [0, 900, 900]
    assert trace.thread_stats["waiting_ns"].tolist() == [0, 0, 0, 0]
    assert [end - START for end in trace.sections["end_ns"]] == [100]


def test_a_torn_record_and_what_was_never_written_end_a_thread(tmp_path: Path) -> None:
    rings = RingFile()
    process = rings.process(10)
    torn = struct.pack("<QQ", 0, 2 << 24)  # its payload is there, its stamp is not
    rings.thread(process, 10, [record(ACQUIRE, 10, 0), record(RELEASE, 20, 1), torn])
    notes = Notes(("python",), "0", root_pid=10, root_end_ns=START + 70, exit_code=137)
    with rings.open(tmp_path, notes) as source:
        assert story(source)[1:] == [
            ("gil.acquire", 0, 10, 0),
            ("gil.release", 0, 20, 0),
            ("process.end", 0, 70, 1),
        ]


def test_a_killed_process_leaves_nothing_open(tmp_path: Path) -> None:
    rings = RingFile()
    process = rings.process(10)
    rings.thread(process, 10, [record(ACQUIRE, 10, 0)])
    rings.thread(process, 11, [record(WAIT, 15, 1, arg=1)])
    with rings.open(tmp_path) as source:
        assert story(source)[-1] == ("process.end", 0, 15, 1)
        assert [t.end_ns for t in source.metadata.threads] == [START + 15, START + 15]


def test_an_exec_ends_the_image_before_it(tmp_path: Path) -> None:
    rings = RingFile()
    first = rings.process(10)
    rings.thread(first, 10, [record(ACQUIRE, 10, 0)], is_main=True)
    second = rings.process(10, start=40, end=80)
    rings.thread(second, 10, cycles(0, 1, at=50), is_main=True)
    with rings.open(tmp_path) as source:
        rows = story(source)
        assert [p.end_ns - START for p in source.metadata.processes] == [40, 80]
    assert ("process.end", 0, 40, 0) in rows
    assert ("process.end", 1, 80, 0) in rows


def test_what_never_was_python_and_became_another_program_is_left_out(tmp_path: Path) -> None:
    rings = RingFile()
    shell = rings.process(9, n_gils=0, start=1)  # goes on
    env = rings.process(10, n_gils=0, start=10)
    python = rings.process(10, start=20)
    rings.thread(python, 10, cycles(0, 1, at=30), is_main=True)
    rings.process(11, n_gils=0, parent=env, start=40, end=50)
    child = rings.process(12, parent=python, start=60, end=90)
    rings.thread(child, 12, cycles(0, 1, at=70), is_main=True)
    with rings.open(tmp_path) as source:
        rows = story(source)
        processes, threads = source.metadata.processes, source.metadata.threads
    assert shell == FIRST_UNIT
    assert [(p.id, p.pid, p.parent) for p in processes] == [
        (0, 9, None), (1, 10, None), (2, 11, None), (3, 12, 1)
    ]  # fmt: skip
    assert [t.process for t in threads] == [1, 3]
    assert [g.process for g in source.metadata.gils] == [1, 3]
    assert [row for row in rows if row[0] == "process.end"] == [
        ("process.end", 0, 40, 1),
        ("process.end", 1, 90, 0),
    ]


def test_a_fork_is_a_process_with_a_gil_of_its_own(tmp_path: Path) -> None:
    rings = RingFile()
    parent = rings.process(10, end=90)
    rings.thread(parent, 10, cycles(0, 1, at=10), is_main=True)
    child = rings.process(20, parent=parent, start=30, end=60)
    rings.thread(child, 20, cycles(0, 1, at=40), is_main=True)
    with rings.open(tmp_path) as source:
        story(source)
        assert [p.parent for p in source.metadata.processes] == [None, 0]
        assert [g.process for g in source.metadata.gils] == [0, 1]


def test_gils_are_numbered_across_processes_and_go_on_without_each_other(tmp_path: Path) -> None:
    rings = RingFile()
    first = rings.process(10, n_gils=2, end=90)
    second = rings.process(11, n_gils=1, end=95)
    rings.thread(first, 10, [record(ACQUIRE, 10, 0, gil=1), record(RELEASE, 20, 1, gil=1)])
    rings.thread(first, 12, [record(ACQUIRE, 12, 7, gil=0)])  # 0 to 6 are lost
    rings.thread(second, 11, [record(ACQUIRE, 11, 0), record(RELEASE, 13, 1)])
    with rings.open(tmp_path) as source:
        gils = [(EventKind(e["kind"]).label, int(e["gil"])) for b in checked(source) for e in b]
        assert len(source.metadata.gils) == 3
    assert gils.count(("gil.lost", 0)) == 1
    assert [g for kind, g in gils if kind == "gil.release"] == [2, 1]


def test_a_file_without_events_is_valid(tmp_path: Path) -> None:
    with RingFile().open(tmp_path) as source:
        assert story(source) == []
        assert source.metadata.processes == ()


# ---- where a recorder took back what was old ----------------------------------------------------

MARGIN = 1 << 16  # GS_CUT_MARGIN


def cut_at(rings: RingFile, at: int) -> None:
    """What is older than this was taken back; readers leave out a margin more."""
    struct.pack_into("<Q", rings.data, session._KEPT_FROM_OFFSET, START + at - MARGIN)


def test_what_is_older_than_the_cut_is_left_out_and_open_at_the_beginning(tmp_path: Path) -> None:
    rings = RingFile()
    process = rings.process(10)
    old = [record(BEGIN, 1), *cycles(0, 2, at=10), record(WAIT, 60, 90, flags=0, arg=1)]
    waits = rings.thread(process, 10, old, is_main=True)
    rings.chunk(waits, 7, [record(ACQUIRE, 250_000, 103, flags=1)])  # 1 to 6 are gone
    holds = rings.thread(process, 11, [record(BEGIN, 2), record(ACQUIRE, 70, 91)])
    rings.chunk(holds, 2, [record(RELEASE, 210_000, 102)])
    comes = [record(BEGIN, 220_000), record(ACQUIRE, 260_000, 105), record(RELEASE, 270_000, 106)]
    rings.thread(process, 12, comes, start=219_000)
    rings.thread(process, 13, [record(BEGIN, 3), record(END, 50)], end=50)  # it was over before
    rings.chunk(waits, 8, [record(RELEASE, 251_000, 104)])
    cut_at(rings, 200_000)
    with rings.open(tmp_path) as source:
        rows = story(source)
        metadata = source.metadata
    assert rows[:4] == [
        ("process.start", 0, 200_000, 0),
        ("thread.start", 0, 200_000, 0),
        ("thread.start", 1, 200_000, 0),
        ("gil.lost", 0, 200_000, 0),
    ]
    assert [row[:3] for row in rows[4:-1]] == [
        ("gil.release", 1, 210_000), ("thread.start", 2, 220_000), ("gil.acquire", 0, 250_000),
        ("gil.release", 0, 251_000), ("gil.acquire", 2, 260_000), ("gil.release", 2, 270_000),
    ]  # fmt: skip
    assert [t.tid for t in metadata.threads] == [10, 11, 12]
    assert [t.start_ns - START for t in metadata.threads] == [200_000, 200_000, 219_000]
    assert metadata.lost_events == 0
    assert metadata.start_ns - START == metadata.kept_from_ns - START == 200_000


def test_clocks_that_disagree_at_the_cut_make_no_hole(tmp_path: Path) -> None:
    """A record of a lower number with a later stamp than one that is left out is left out too."""
    rings = RingFile()
    process = rings.process(10)
    rings.thread(process, 10, [record(ACQUIRE, 100_005, 50), record(RELEASE, 120_000, 53)])
    rings.thread(process, 11, [record(WAIT, 99_999, 51), record(WAIT, 100_001, 52)][:1])
    rings.thread(process, 12, [record(WAIT, 100_010, 52, arg=1)])
    cut_at(rings, 100_000)
    with rings.open(tmp_path) as source:
        assert [row[0] for row in story(source)] == [
            "process.start", *["thread.start"] * 3, "gil.lost", "gil.wait", "gil.release",
            "process.end",
        ]  # fmt: skip
        assert source.totals.clamped == 0


def test_wakeups_of_threads_that_are_gone_are_of_nobody(tmp_path: Path) -> None:
    rings = RingFile()
    process = rings.process(10)
    rings.thread(process, 10, [record(K.GIL_WAKEUP, 210_000, 5, arg=7)])
    cut_at(rings, 200_000)
    with rings.open(tmp_path) as source:
        assert ("gil.wakeup", 0, 210_000, 0) in story(source)


def test_processes_that_were_over_before_the_cut_are_left_out(tmp_path: Path) -> None:
    rings = RingFile()
    parent = rings.process(10, end=100)
    rings.thread(parent, 10, [record(BEGIN, 1), record(END, 90)], end=90)
    child = rings.process(11, parent=parent, start=50)
    rings.thread(child, 11, cycles(0, 1, at=300_000), start=50)
    cut_at(rings, 200_000)
    with rings.open(tmp_path) as source:
        story(source)
        assert [(p.pid, p.parent) for p in source.metadata.processes] == [(11, None)]


def test_a_copy_ends_where_it_was_begun(tmp_path: Path) -> None:
    rings = RingFile()
    process = rings.process(10)
    rings.thread(process, 10, cycles(0, 3, at=100, step=100))
    struct.pack_into("<Q", rings.data, ring_pages._UNTIL_OFFSET, START + 350)
    with rings.open(tmp_path) as source:
        rows = story(source)
        assert source.metadata.stopped == "snapshot"
        assert source.metadata.stopped_ns == START + 350
    assert rows[1:] == [
        ("gil.acquire", 0, 100, 0), ("gil.release", 0, 200, 0), ("gil.acquire", 0, 300, 0),
        ("thread.lost", 0, 350, 0), ("gil.lost", 0, 350, 0), ("process.end", 0, 351, 0),
    ]  # fmt: skip


def test_pages_may_stand_in_any_order(tmp_path: Path) -> None:
    """Rooms are used again: what is owned may stand before its owner, a child before its parent."""
    rings = RingFile()
    process = rings.process(10)
    thread = rings.thread(process, 10, cycles(0, RECORDS_IN_PAGE // 2))
    rings.chunk(thread, 1, cycles(RECORDS_IN_PAGE, 1, at=10_000))
    data = rings.data
    at = [FIRST_UNIT * UNIT, (FIRST_UNIT + 1) * UNIT]
    first, second = (bytes(data[a : a + UNIT]) for a in at)
    data[at[0] : at[0] + UNIT], data[at[1] : at[1] + UNIT] = second, first
    struct.pack_into("<I", data, at[0] + 8, FIRST_UNIT + 1)
    struct.pack_into("<I", data, (FIRST_UNIT + 2) * UNIT + 8, FIRST_UNIT)
    with rings.open(tmp_path) as source:
        assert len(story(source)) == RECORDS_IN_PAGE + 2 + 2


# ---- what cannot be -----------------------------------------------------------------------------


def refusal(rings: RingFile, folder: Path) -> str:
    with pytest.raises(TraceError) as refused, rings.open(folder) as source:
        story(source)
    assert str(folder / "rings") in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("late", [False, True])
def test_a_number_that_comes_twice(tmp_path: Path, late: bool) -> None:
    """Whether the two records meet, or the second comes when the first has gone."""
    rings = RingFile()
    process = rings.process(10, end=90)
    rings.thread(process, 10, [record(ACQUIRE, 10, 0), record(RELEASE, 20, 1)])
    twice = record(WAIT, 22, 1)
    records = [record(BEGIN, 21), twice] if late else [twice]
    unit = rings.thread(process, 11, records)
    told = refusal(rings, tmp_path)
    assert "sequence number 1 comes twice" in told
    places = {
        unit * UNIT + RECORDS_AT + 16 * (len(records) - 1),
        (unit - 1) * UNIT + RECORDS_AT + 16,
    }
    assert int(told.split("offset 0x")[1].split(":")[0], 16) in places


@pytest.mark.parametrize(
    ("at", "value", "why"),
    [
        (0, 5, "not a ring file"),
        (8, 99, "another version"),
        (192, 0, "no clock snapshot"),
        (FIRST_UNIT * UNIT, 77, "not a page or chunk"),
        (FIRST_UNIT * UNIT + 4, 0, "a chunk of 0 units"),
        (FIRST_UNIT * UNIT + 4, 250, "a chunk of 250 units"),
        ((FIRST_UNIT + 1) * UNIT + 8, 55, "a thread of no process"),
        ((FIRST_UNIT + 2) * UNIT + 8, 55, "a chunk of no thread"),
        ((FIRST_UNIT + 2) * UNIT, 0x53534731, "not a page or chunk"),
    ],
)
def test_damage_is_named_with_its_place(tmp_path: Path, at: int, value: int, why: str) -> None:
    rings = RingFile()
    thread = rings.thread(rings.process(10), 10, cycles(0, 1))
    rings.chunk(thread, 1, cycles(2, 1, at=50))
    struct.pack_into("<I", rings.data, at, value)
    told = refusal(rings, tmp_path)
    assert why in told
    if at >= UNIT:
        assert f"offset 0x{at // UNIT * UNIT:x}" in told


@pytest.mark.parametrize("value", [0, 1, 1 << 31, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_a_damaged_word_ends_in_an_error_or_in_a_trace(tmp_path: Path, value: int) -> None:
    """Any of the words that Python reads: of the header, a process page and a thread page."""
    rings = RingFile()
    process = rings.process(10, end=900)
    thread = rings.thread(process, 10, [record(BEGIN, 1), *cycles(0, 2, at=2)])
    whole = bytes(rings.data)
    words = [*range(0, 288, 8), *range(process * UNIT, process * UNIT + 192, 8)]
    words += range(thread * UNIT, thread * UNIT + 72, 8)
    traces = 0
    for at in words:
        rings.data[:] = whole
        struct.pack_into("<Q", rings.data, at, value)
        trace = tmp_path / "out.pftrace"
        trace.unlink(missing_ok=True)
        try:
            with rings.open(tmp_path) as source:
                write_trace(source, trace)
        except GilscopeError:
            continue
        traces += 1
        gilscope.read(trace)
    assert traces > 30


def test_an_unknown_kind_and_an_unknown_gil(tmp_path: Path) -> None:
    for bad, why in (
        (struct.pack("<QQ", START << 6 | 63, 0), "unknown kind 63"),
        (record(ACQUIRE, 10, 0, gil=3), "GIL 3 of 1"),
    ):
        rings = RingFile()
        unit = rings.thread(rings.process(10), 10, [record(BEGIN, 1), bad])
        assert f"offset 0x{unit * UNIT + RECORDS_AT + 16:x}: {why}" in refusal(rings, tmp_path)


def test_two_holders_are_impossible(tmp_path: Path) -> None:
    rings = RingFile()
    process = rings.process(10, end=90)
    rings.thread(process, 10, [record(ACQUIRE, 10, 0)])
    rings.thread(process, 11, [record(ACQUIRE, 12, 1)])
    refusal(rings, tmp_path)


def test_no_rings_and_broken_notes(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"no rings of a recording|File name too long"):
        open_rings(tmp_path / ("x" * 300))
    with pytest.raises(TraceError, match="no rings of a recording"):
        open_rings(tmp_path)
    RingFile().write(tmp_path)
    (tmp_path / "recording.json").write_text("{")
    with pytest.raises(TraceError, match=r"recording\.json"):
        open_rings(tmp_path)
    (tmp_path / "recording.json").unlink()
    with pytest.raises(TraceError, match=r"recording\.json"):
        open_rings(tmp_path)


def test_a_file_cut_short_holds_what_is_left(tmp_path: Path) -> None:
    rings = RingFile()
    process = rings.process(10)
    thread = rings.thread(process, 10, cycles(0, RECORDS_IN_PAGE // 2))
    rings.chunk(thread, 1, cycles(RECORDS_IN_PAGE, 1, at=10_000))
    folder = rings.write(tmp_path)
    whole = (folder / "rings").read_bytes()
    (folder / "rings").write_bytes(whole[: (FIRST_UNIT + 2) * UNIT])
    with open_rings(folder) as source:
        assert len(story(source)) == RECORDS_IN_PAGE + 2
    (folder / "rings").write_bytes(whole[: UNIT - 1])
    with pytest.raises(TraceError, match="not a ring file"):
        open_rings(folder)


def test_locks_conditions_sections_and_wakeups(tmp_path: Path) -> None:
    rings = RingFile()
    process = rings.process(10, end=99)
    about = 0x7F0000001002
    rings.thread(
        process,
        10,
        [
            record(ACQUIRE, 1, 0),
            told(K.COND_NOTIFY, 12, about | 1 << 48),
            record(RELEASE, 14, 2),
            record(K.GIL_WAKEUP, 15, 3, arg=2),
            record(K.GIL_WAKEUP, 16, 4),
        ],
        number=1,
    )
    rings.thread(
        process,
        11,
        [
            told(K.COND_WAIT, 2, about),
            told(K.COND_WAKE, 12, about),
            record(K.GIL_WAIT, 13, 1, arg=1),
            record(ACQUIRE, 20, 5, flags=1),
            told(K.ATOMIC_ENTER, 21, 1),
            told(K.ATOMIC_DEFERRED, 22, 1),
            told(K.ATOMIC_EXIT, 23, 1),
            told(K.THREAD_LOST, 24, 5),
        ],
        number=2,
    )
    with rings.open(tmp_path) as source:
        events = [row[1:] for batch in source.batches() for row in batch.tolist()]
    assert [(K(kind).label, arg, thread) for arg, thread, _, kind, _ in events] == [
        ("process.start", 0, 0),
        ("gil.acquire", 0, 0),
        ("cond.wait", about, 1),
        ("cond.notify", about | 1 << 48, 0),
        ("cond.wake", about, 1),
        ("gil.wait", 1, 1),
        ("gil.release", 0, 0),
        ("gil.wakeup", 2, 0),  # 1 + the id of the thread with number 2
        ("gil.wakeup", 0, 0),
        ("gil.acquire", 0, 1),
        ("atomic.enter", 1, 1),
        ("atomic.deferred", 1, 1),
        ("atomic.exit", 1, 1),
        ("thread.lost", 5, 1),
        ("process.end", 0, 0),
    ]


@pytest.mark.parametrize(
    ("number", "woken", "words"),
    [(1, 2, "a wakeup of thread number 2"), (0, 1, "a wakeup of thread number 1"), (9, 0, "twice")],
)
def test_numbers_that_name_no_thread_are_refused(
    tmp_path: Path, number: int, woken: int, words: str
) -> None:
    rings = RingFile()
    process = rings.process(10, end=99)
    rings.thread(process, 10, [record(K.GIL_WAKEUP, 15, 0, arg=woken)], number=number)
    rings.thread(process, 11, number=9 if number == 9 else 0)
    with pytest.raises(TraceError, match=words), rings.open(tmp_path) as source:
        story(source)


def told(kind: K, at: int, argument: int) -> bytes:
    """A record of an event without GIL."""
    return struct.pack("<QQ", (START + at) << 6 | kind, argument)

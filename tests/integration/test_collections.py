"""Garbage collections, against the program's own stamps of them, on every interpreter."""

from __future__ import annotations

import json
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest
from support import gc_stamps, interpreters
from support.perfetto_engine import engine, query
from support.recorded import Recording, record

from gilscope.analysis.summary import summarise
from gilscope.trace.model import Trace

# A server in which automatic collections strike. It ends with its collector off and the GIL given
# back, so that every hold with a collection has been told.
SERVER = (
    gc_stamps.PRELUDE
    + """
cache = [{"row": [i, (i,)], "t": {}} for i in range(120_000)]

def worker():
    keep = []
    while not over.is_set():
        for i in range(800):
            keep.append({"request": i, "headers": [str(i)]})
        if len(keep) > 30_000:
            del keep[:]
        time.sleep(0.001)

over = threading.Event()
threads = [threading.Thread(target=worker, name=f"worker-{i}") for i in range(3)]
for thread in threads:
    thread.start()
before = len(told())
while len(long := [e - b for b, e in told()[before:] if e - b > 5_000_000]) < 4 or sum(long) < 4e8:
    time.sleep(0.02)
over.set()
for thread in threads:
    thread.join()
gc.disable()
gc.callbacks.clear()
print(json.dumps({"told": told(), "in_all": sum(s["collections"] for s in gc.get_stats())}))
sys.stdout.flush()
time.sleep(0.01)
os._exit(0)
"""
)

# Python code that nobody waits for, in holds of many young collections each.
ALONE = (
    gc_stamps.PRELUDE
    + """
for turn in range(6):
    rows = []
    until = time.monotonic() + 0.03
    while time.monotonic() < until:
        rows.append([])
    time.sleep(0.001)
gc.disable()
print(json.dumps({"told": told(), "in_all": sum(s["collections"] for s in gc.get_stats())}))
sys.stdout.flush()
time.sleep(0.01)
os._exit(0)
"""
)

CLOSE = 0.01  # of a length: the callback itself is in the program's stamps
CALL_NS = 100_000  # and so much of each, on a busy machine


class Run(NamedTuple):
    """A recorded program and what it told of itself."""

    recording: Recording
    trace: Trace
    summary: dict[str, Any]
    told: np.ndarray[Any, Any]  # begin and end of each collection
    in_all: int


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    @cache
    def made(source: str, name: str) -> Run:
        folder = tmp_path_factory.mktemp("collections")
        program = folder / "program.py"
        program.write_text(source)
        library = gc_stamps.build(folder)
        recording = record(folder, interpreters.path(name), program, library)
        assert recording.code == 0, recording.err
        told = json.loads(recording.out)
        trace = recording.trace
        stamps = np.array(told["told"], np.int64).reshape(-1, 2)
        return Run(recording, trace, summarise(trace), stamps, told["in_all"])

    return made


def _by_hold(made: Run) -> list[tuple[Any, np.ndarray[Any, Any]]]:
    """Each told hold since the first stamp, and the stamps of the collections that ended in it."""
    holds, first = made.trace.holds, made.told[0, 0]
    rows = []
    for row in made.trace.collected:
        hold = holds[row["hold"]]
        if hold["start_ns"] > first:
            begun, ended = made.told[:, 0], made.told[:, 1]
            inside = (begun >= hold["start_ns"]) & (ended <= hold["end_ns"])
            rows.append((row, made.told[inside]))
    return rows


@pytest.mark.alone  # its bounds hold where the program has a processor
@pytest.mark.parametrize("name", interpreters.names())
def test_number_and_length_of_a_server(run: Any, name: str) -> None:
    made = run(SERVER, name)
    assert made.trace.metadata.processes[0].collections == (
        "told" if name == interpreters.PLUS else "counted"
    )
    rows = _by_hold(made)
    assert len(rows) >= 4
    for row, inside in rows:
        took = int((inside[:, 1] - inside[:, 0]).sum())
        assert row["count"] == len(inside)
        assert row["least_ns"] <= took
        assert took <= row["most_ns"] * (1 + CLOSE) + CALL_NS * len(inside)
    long = [(row, inside) for row, inside in rows if row["least_ns"] > 1_000_000]
    assert len(long) >= 4


@pytest.mark.alone  # a microsecond a callback, where nobody takes the processor inside of it
@pytest.mark.parametrize("source", [SERVER, ALONE], ids=["server", "alone"])
def test_python_plus_tells_them_exactly(run: Any, source: str) -> None:
    made = run(source, interpreters.PLUS)
    (process,) = made.summary["processes"]
    assert process["gc"]["collections"] == made.in_all
    assert process["gc"]["held_ns"] == process["gc"]["held_least_ns"]
    rows = _by_hold(made)
    assert len(rows) >= 4
    took = sum(int((inside[:, 1] - inside[:, 0]).sum()) for _, inside in rows)
    calls_ns = 3_000 * sum(len(inside) for _, inside in rows)  # of the callback
    told = sum(int(row["least_ns"]) for row, _ in rows)
    assert told == pytest.approx(took, rel=CLOSE, abs=calls_ns)
    assert all(row["count"] == len(inside) for row, inside in rows)


@pytest.mark.parametrize("name", [n for n in interpreters.names() if n != interpreters.PLUS])
def test_where_nobody_looks_they_are_counted_and_cost_no_event_each(run: Any, name: str) -> None:
    made = run(ALONE, name)
    rows = _by_hold(made)
    assert sum(len(inside) for _, inside in rows) > len(rows)
    for row, inside in rows:
        assert row["count"] == len(inside)
        assert row["most_ns"] >= (inside[:, 1] - inside[:, 0]).sum() * (1 - CLOSE)
    holds = made.trace.holds[made.trace.collected["hold"]]
    assert ((holds["end_ns"] - holds["start_ns"]) >= 999_000).all()
    (process,) = made.summary["processes"]
    assert process["gc"]["held_ns"] is None
    assert process["gc"]["collections"] <= made.in_all


@pytest.mark.parametrize("name", interpreters.names())
def test_who_waited_for_them_is_told(run: Any, name: str) -> None:
    made = run(SERVER, name)
    lines = {text.strip(): n for n, text in enumerate(SERVER.splitlines(), 1)}
    allocates = lines['keep.append({"request": i, "headers": [str(i)]})']
    (process,) = made.summary["processes"]
    blamed = [row for row in process["blame"] if (row["holder_site"] or {}).get("gc")]
    waited = sum(row["wait_ns"] for row in blamed)
    here = [row for row in blamed if abs(row["holder_site"]["line"] - allocates) <= 1]
    assert sum(row["wait_ns"] for row in here) > 0.5 * waited > 0
    (finding,) = (found for found in made.summary["findings"] if found["kind"] == "gc")
    assert "collected garbage" in finding["text"]
    with engine(made.recording.path) as tp:
        shown = query(tp, "select count(*) as n from slice where name like 'gc in program.py:%'")
    assert shown[0]["n"] >= 4

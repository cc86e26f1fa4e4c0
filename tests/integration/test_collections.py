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
in_all = sum(s["collections"] for s in gc.get_stats())
print(json.dumps({"told": told(), "calls": calls(), "in_all": in_all}))
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
in_all = sum(s["collections"] for s in gc.get_stats())
print(json.dumps({"told": told(), "calls": calls(), "in_all": in_all}))
sys.stdout.flush()
time.sleep(0.01)
os._exit(0)
"""
)

CLOSE = 0.01  # of a length
CALLS = 2.5  # between the program's stamps and the collection: half of each call, and its arguments


class Run(NamedTuple):
    """A recorded program and what it told of itself."""

    recording: Recording
    trace: Trace
    summary: dict[str, Any]
    told: np.ndarray[Any, Any]  # begin and end of each collection
    calls_ns: np.ndarray[Any, Any]  # what the program's own calls around each took
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
        calls_ns = np.array(told["calls"], np.int64)
        return Run(recording, trace, summarise(trace), stamps, calls_ns, told["in_all"])

    return made


class Hold(NamedTuple):
    """What was told of a hold, beside the program's stamps of the collections that ended in it."""

    told: Any
    count: int
    took_ns: int
    calls_ns: int

    @property
    def around_ns(self) -> int:
        """What the program's stamps hold beside the collections."""
        return self.took_ns - int(self.told["least_ns"])


def _by_hold(made: Run) -> list[Hold]:
    """Each hold with a collection since the first stamp."""
    begun, ended = made.told[:, 0], made.told[:, 1]
    rows = []
    for row in made.trace.collected:
        hold = made.trace.holds[row["hold"]]
        if hold["start_ns"] > begun[0]:
            inside = (begun >= hold["start_ns"]) & (ended <= hold["end_ns"])
            took = int((ended - begun)[inside].sum())
            rows.append(Hold(row, int(inside.sum()), took, int(made.calls_ns[inside].sum())))
    return rows


def _is_kept(name: str) -> bool:
    """Whether it is known when each began and ended."""
    return name == interpreters.PLUS or interpreters.version(name) >= (3, 15)


@pytest.mark.parametrize("name", interpreters.names())
def test_number_and_length_of_a_server(run: Any, name: str) -> None:
    made = run(SERVER, name)
    kept = _is_kept(name)
    told = "told" if name == interpreters.PLUS else "counted"
    assert made.trace.metadata.processes[0].collections == told
    rows = _by_hold(made)
    assert len(rows) >= 4
    for row in rows:
        assert row.told["count"] == row.count
        # A stock interpreter's flag is set while it calls back, too.
        assert row.told["least_ns"] <= row.took_ns + CALLS * row.calls_ns
        assert kept or row.took_ns <= row.told["most_ns"]
    assert sum(row.told["least_ns"] > 1_000_000 for row in rows) >= 4
    exact = [row for row in rows if row.told["least_ns"] == row.told["most_ns"]]
    assert kept == (len(exact) > len(rows) / 2)


@pytest.mark.parametrize("source", [SERVER, ALONE], ids=["server", "alone"])
def test_python_plus_tells_them_exactly(run: Any, source: str) -> None:
    made = run(source, interpreters.PLUS)
    (process,) = made.summary["processes"]
    assert process["gc"]["collections"] == made.in_all
    assert process["gc"]["held_ns"] == process["gc"]["held_least_ns"]
    rows = _by_hold(made)
    assert len(rows) >= 4
    assert all(row.told["count"] == row.count for row in rows)
    # The processor may be taken away between a stamp and the collection, but not in every second.
    assert min(row.around_ns for row in rows) >= 0
    assert np.median([row.around_ns / row.calls_ns for row in rows]) < CALLS
    long = [row.around_ns / row.took_ns for row in rows if row.took_ns > 5_000_000]
    assert source == ALONE or np.median(long) < CLOSE


@pytest.mark.parametrize("name", [n for n in interpreters.names() if n != interpreters.PLUS])
def test_where_nobody_looks_they_are_counted_and_cost_no_event_each(run: Any, name: str) -> None:
    made = run(ALONE, name)
    rows = _by_hold(made)
    assert sum(row.count for row in rows) > len(rows)
    for row in rows:
        assert row.told["count"] == row.count
        assert row.told["most_ns"] >= row.took_ns
    holds = made.trace.holds[made.trace.collected["hold"]]
    assert ((holds["end_ns"] - holds["start_ns"]) >= 999_000).all()
    (process,) = made.summary["processes"]
    assert process["gc"]["held_ns"] is None  # 3.15 keeps fewer than there are in such a hold
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

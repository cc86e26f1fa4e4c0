"""Conditions of every make, their locks, and atomic sections: recorded, all is told."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import interpreters
from support.recorded import GILSCOPE, TIMEOUT_S, Recording, record

from gilscope.analysis.summary import summarise
from gilscope.perfetto.reader import open_trace
from gilscope.trace.schema import SYNC_KIND_MASK, SyncKind
from gilscope.trace.text import lines

PYTHONS = [name for name in interpreters.names() if name not in ("3.9", interpreters.DEBIAN)]
ROUNDS, CROWD, SECTIONS = 30, 5, 20

# No thread is made to yield (the switch interval is an hour), so whoever sees that another is past
# a point knows that it blocks behind it.
PROGRAM = f"""
import queue, sys, threading, time
from gilscope import Condition, atomic, locks

sys.setswitchinterval(3600)
kinds = {{"native": Condition, "atomic": locks.Condition}}
if hasattr(threading, "_PyCondition"):
    kinds["python"] = threading._PyCondition
    assert threading.Condition is not threading._PyCondition

def play(condition):
    come = queue.SimpleQueue()  # rests on no Condition

    def wait(rounds):
        for _ in range(rounds):
            with condition:
                come.put(None)
                assert condition.wait()

    def let_come(number):
        for _ in range(number):
            come.get()

    one = threading.Thread(target=wait, args=[{ROUNDS}])
    one.start()
    for _ in range({ROUNDS}):
        let_come(1)
        with condition:
            condition.notify()
    one.join()

    crowd = [threading.Thread(target=wait, args=[1]) for _ in range({CROWD})]
    for thread in crowd:
        thread.start()
    let_come({CROWD})
    with condition:
        condition.notify_all()
    for thread in crowd:
        thread.join()

    with condition:
        assert not condition.wait(0.01)  # nobody notifies
        condition.notify()  # nobody waits
        assert not condition.wait(0)  # does not block

def sleeps(thread):
    with open(f"/proc/self/task/{{thread.native_id}}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "S"

def contend(condition):
    asks = False

    def ask():
        nonlocal asks
        asks = True
        with condition:
            pass

    with condition:
        thread = threading.Thread(target=ask)
        thread.start()
        # A lock of CPython is asked for without the GIL: it could be free again by then.
        while not (asks and sleeps(thread)):
            time.sleep(0.001)
    thread.join()

# Made before all others and kept: no other Condition has had their addresses.
made = [(make(), make()) for make in kinds.values()]
for one, other in made:
    play(one)
    contend(other)

sys.setswitchinterval(0.001)
over = False

def rival():
    while not over:
        pass

thread = threading.Thread(target=rival, name="rival")
thread.start()
for _ in range({SECTIONS}):
    with atomic:
        end = time.perf_counter() + 0.02
        while time.perf_counter() < end:
            pass
over = True
thread.join()
"""


@pytest.fixture(scope="module", params=PYTHONS)
def recording(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Recording:
    root = Path(__file__).parents[2]
    python = interpreters.path(request.param)
    made = record(
        tmp_path_factory.mktemp("conditions"),
        *(python, "-c", PROGRAM),
        variables={"PYTHONPATH": str(root)},
    )
    assert made.code == 0, made.err
    return made


@pytest.fixture
def process(recording: Recording) -> dict[str, Any]:
    found: dict[str, Any] = summarise(recording.trace)["processes"][0]
    return found


def kinds(process: dict[str, Any]) -> list[str]:
    """Python's own Condition is seen where Python itself tells of it."""
    return ["native", "atomic"] + ["python"] * (process["feed"] == "built-in")


def played(rows: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """The row of that kind with the most waits."""
    found: dict[str, Any] = max(
        (row for row in rows if row["kind"] == kind), key=lambda row: row["waits"]
    )
    return found


def test_waits_and_notifies_stand_side_by_side(process: dict[str, Any]) -> None:
    for kind in kinds(process):
        row = played(process["conditions"], kind)
        assert (row["waits"], row["timeouts"]) == (ROUNDS + CROWD + 1, 1), kind
        assert row["notifies"] == ROUNDS + 2, kind
        assert row["wait_ns"]["count"] == row["waits"], kind
        assert row["wait_ns"]["max"] >= 10_000_000, kind  # the one that timed out
    assert {row["kind"] for row in process["conditions"]} >= {*kinds(process)}


def test_each_wakeup_has_its_latency(process: dict[str, Any]) -> None:
    for kind in kinds(process):
        row = played(process["conditions"], kind)
        woken, with_gil = row["wakeup_ns"], row["gil_ns"]
        assert woken["count"] == with_gil["count"] == ROUNDS + CROWD, kind
        assert 0 < woken["sum"] < with_gil["sum"], kind
        assert woken["sum"] < row["wait_ns"]["sum"], kind


def test_who_waits_for_a_conditions_lock_is_told(process: dict[str, Any]) -> None:
    for kind in kinds(process):
        # A Condition in Python has the lock that threading.RLock makes.
        made = {"python": "sem-lock"}.get(kind, kind)
        rows = [row for row in process["locks"] if row["kind"] == made]
        assert sum(row["waits"] for row in rows) >= 1, kind
        assert all(row["wait_ns"]["sum"] > 0 for row in rows), kind


def test_sections_and_what_they_held_back(process: dict[str, Any]) -> None:
    atomic = process["atomic"]
    names = {thread["id"]: thread["name"] for thread in process["threads"]}
    longest = atomic["length_ns"]
    # Besides, gilscope.locks are made of sections.
    assert atomic["sections"] == longest["count"] == atomic["held_ns"]["count"] > SECTIONS
    assert longest["sum"] >= SECTIONS * 20_000_000
    assert 0 < atomic["deferred_yields"] <= SECTIONS
    assert atomic["held_ns"]["sum"] <= longest["sum"]
    waited = {names[row["thread"]]: row["wait_ns"] for row in atomic["waiters"]}
    assert 0 < waited["rival"] <= atomic["held_ns"]["sum"]


def test_every_notify_stands_in_the_trace(recording: Recording, process: dict[str, Any]) -> None:
    text = "".join(lines(open_trace(recording.path)))
    for kind in kinds(process):
        object_of = played(process["conditions"], kind)["object"].split(" at ")[1]
        told = re.findall(rf"cond\.notify {kind} object={object_of} woken=(\d+)", text)
        assert sorted(map(int, told)) == [0, *[1] * ROUNDS, CROWD], kind


@pytest.mark.parametrize("width", [80, 200])
def test_the_summary_shows_them(recording: Recording, process: dict[str, Any], width: int) -> None:
    done = subprocess.run(
        [*GILSCOPE, "summary", recording.path, "--top", "50"],
        env={"COLUMNS": str(width), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    for kind in kinds(process):
        name = played(process["conditions"], kind)["object"].split(" at ")[0]
        row = next(x for x in done.stdout.splitlines() if x.lstrip().startswith(f"{name} "))
        assert f" {kind} " in row
        assert f" {ROUNDS + CROWD + 1} " in row
        assert f" {ROUNDS + 2} " in row
    told = " ".join(done.stdout.split())
    assert re.search(r"\d+ atomic sections: held the GIL .* yields? held back", told)
    assert "waited for them: rival " in told


# Each thread has its waits at another place of the pages that it writes to.
BORDERS = """
import threading
from gilscope import Condition

def wait(ahead):
    condition = Condition()
    with condition:
        for _ in range(ahead):
            condition.notify()  # one record
        for _ in range(300):
            condition.wait(0.00001)

for ahead in range(8):
    thread = threading.Thread(target=wait, args=[ahead])
    thread.start()
    thread.join()
"""


@pytest.mark.parametrize("name", PYTHONS)
@pytest.mark.parametrize("policy", ["classic", "io-priority"])
def test_a_wait_begins_as_the_gil_was_let_go(tmp_path: Path, name: str, policy: str) -> None:
    """Whatever page the record of it comes to stand in: else who wakes it may seem too early."""
    made = record(
        tmp_path,
        *(interpreters.path(name), "-c", BORDERS),
        variables={"PYTHONPATH": str(Path(__file__).parents[2]), "GILSCOPE_POLICY": policy},
    )
    assert made.code == 0, made.err
    waits = made.trace.sync_waits
    waits = waits[waits["object"] & np.uint64(SYNC_KIND_MASK) == SyncKind.NATIVE]
    released = {(hold["thread"], hold["end_ns"]) for hold in made.trace.holds}
    begins = [(wait["thread"], wait["start_ns"]) for wait in waits]
    assert len(begins) >= 8 * 300
    assert [begin for begin in begins if begin not in released] == []

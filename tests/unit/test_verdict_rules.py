"""Rules of findings that need no program: what is told once, of whom, when there is no verdict."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.stories import MemorySource, told

from gilscope.analysis.finding import Case
from gilscope.analysis.findings_kept import kind_of, worth_telling
from gilscope.analysis.kept import COMPUTES, Kept
from gilscope.analysis.summary import summarise
from gilscope.trace.model import Trace
from gilscope.trace.schema import Policy

MS = 1_000_000


def findings(source: MemorySource) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = summarise(Trace.from_source(source))["findings"]
    return found


def first(source: MemorySource) -> dict[str, Any]:
    return findings(source)[0]


def convoy(every_ms: int = 10, wait_ms: int = 9, hold_ns: int = 50_000) -> str:
    """b comes back from IO, waits so long for a, which computes all the time, and has its turn."""
    text = "0 a process.start\n0 b thread.start\n0 a gil.acquire\n"
    for begun in range(0, 200 * MS, every_ms * MS):
        had, over = begun + wait_ms * MS, begun + wait_ms * MS + hold_ns
        text += f"{begun + 1} b gil.wait io\n{had} a gil.yield arg=3\n"
        text += f"{had + 1} b gil.acquire waited\n{had + 2} a gil.wait cpu\n"
        text += f"{over} b gil.release arg=3\n"
        text += f"{over + 1} a gil.acquire waited\n"
    return text


CONVOY = convoy()
END = f"{200 * MS} a gil.release\n{200 * MS} a process.end"


def test_a_finding_says_what_it_is_about() -> None:
    found = first(told(CONVOY + END))
    assert (found["kind"], found["process"], found["thread"]) == ("convoy", 0, 1)
    assert found["value_ns"] == pytest.approx(180 * MS, rel=0.01)
    assert found["gain"]["times"] > 5
    assert 0 < found["gain"]["cost"] < 0.5


@pytest.mark.parametrize(
    ("throttled_ms", "kinds"),
    [
        (None, ["convoy"]),
        (5, ["convoy"]),  # of 200 ms: too little to be told
        (60, ["convoy", "no-processor"]),
        (95, ["no-processor"]),  # of 180 ms that the convoy took
    ],
)
def test_what_a_quota_explains_is_not_told_of_the_gil(
    throttled_ms: int | None, kinds: list[str]
) -> None:
    source = told(CONVOY + END)
    ns = throttled_ms and throttled_ms * MS
    source.metadata = replace(source.metadata, throttled=ns and 3, throttled_ns=ns)
    assert [found["kind"] for found in findings(source) if found["severity"] == "problem"] == kinds


@pytest.mark.parametrize(
    ("every_ms", "wait_ms", "hold_ns", "kind"),
    [
        (10, 8, 1_900_000, "convoy"),
        (5, 3, 900_000, "convoy"),
        (5, 3, 1_800_000, "io-waits"),
        (4, 2, 1_900_000, "io-waits"),
    ],
)
def test_to_serve_first_who_keeps_the_gil_as_long_helps_nobody(
    every_ms: int, wait_ms: int, hold_ns: int, kind: str
) -> None:
    found = first(told(convoy(every_ms, wait_ms, hold_ns) + END))
    assert found["kind"] == kind
    assert ("io-priority" in found["text"]) == (kind == "convoy")


def test_under_the_policy_no_gain_is_promised() -> None:
    source = told(CONVOY + END)
    source.metadata = replace(source.metadata, policy=Policy("io-priority", 5_000))
    assert first(source)["gain"] is None


@pytest.mark.parametrize(
    ("interval", "kind"), [(5, "convoy"), (10, "convoy"), (11, "switch-interval")]
)
def test_a_long_switch_interval_is_the_cause(interval: int, kind: str) -> None:
    source = told(CONVOY + END)
    policy = replace(source.metadata.policy, switch_interval_ns=interval * MS)
    source.metadata = replace(source.metadata, policy=policy)
    found = first(source)
    assert found["kind"] == kind
    assert (f"The switch interval is {interval} ms" in found["text"]) == (kind != "convoy")


def test_what_sections_kept_no_policy_moves() -> None:
    section = CONVOY.replace("a gil.acquire\n", "a gil.acquire\n0 a atomic.enter depth=1\n", 1)
    end = f"{200 * MS} a atomic.exit depth=1\n{END}"
    found = first(told(section + end))
    assert found["kind"] == "io-waits"
    assert "Atomic sections kept it 180 ms of that" in found["text"]
    assert "policy" not in found["text"]


def alike(*waits_ms: int) -> MemorySource:
    """Threads worker-1, -2 … of a life of 100 ms, of which each waits so long for a."""
    numbers = range(len(waits_ms))
    text = "0 a process.start\n" + "".join(f"0 worker-{n} thread.start\n" for n in numbers)
    text += "0 a gil.acquire\n" + "".join(f"10 worker-{n} gil.wait io\n" for n in numbers)
    ends = sorted((ms, n) for n, ms in enumerate(waits_ms))
    for ms, n in ends:
        at = ms * MS + n * 100
        text += f"{at} a gil.release\n{at + 10} worker-{n} gil.acquire waited\n"
        text += f"{at + 20} worker-{n} gil.release\n{at + 30} a gil.acquire\n"
    text += "".join(f"{100 * MS} worker-{n} thread.end\n" for n in numbers)
    return told(text + f"{100 * MS} a gil.release\n{100 * MS} a process.end")


def test_who_waits_for_its_workers_loses_nothing() -> None:
    """Nor by the waits of which no line is told, where most of the others are such."""

    def row(waiter: int, wait_ns: int, library: str | None, told: bool = True) -> dict[str, Any]:
        site = {"library": library} if told else None
        return {"waiter": waiter, "wait_ns": wait_ns, "waiter_site": site, "holder_site": None}

    begins = "threading.Thread.start"
    starter = [row(0, 3, begins), row(0, 2, None), row(0, 4, None, told=False)]
    reader = [row(1, 2, begins), row(1, 3, None), row(1, 4, None, told=False)]
    untold = [row(2, 4, None, told=False)]
    process = {"threads": [], "blame": starter + reader + untold}
    case = Case(None, None, {}, process, {}, [])  # type: ignore[arg-type] # its blame needs neither
    assert case.blame == {0: starter[1:2], 1: reader[1:], 2: untold}


def test_of_like_threads_all_have_to_suffer() -> None:
    """One of ten that waits long does so by chance."""
    assert first(alike(40, *[1] * 9))["kind"] == "nothing"
    found = first(alike(40, *[20] * 9))
    assert found["kind"] == "io-waits"
    assert found["text"].startswith("`worker-0` and 9 threads like it waited once, 40 ms")


def test_equal_processes_have_one_finding() -> None:
    other = CONVOY.replace("a gil", "c gil").replace("b gil", "d gil").replace("gil.", "gil.")
    lines = [f"{line} gil=1" if " gil." in line else line for line in other.splitlines()]
    text = "\n".join(lines).replace("a process.start", "c process.start process=1")
    text = text.replace("b thread.start", "d thread.start process=1")
    both = CONVOY + END + "\n" + text
    both += f"\n{200 * MS} c gil.release gil=1\n{200 * MS} c process.end"
    rows = sorted(both.splitlines(), key=lambda row: int(row.split()[0]))
    found = findings(told("\n".join(rows)))
    assert [f["kind"] for f in found if f["severity"] == "problem"] == ["convoy"]
    assert found[0]["text"].endswith("The same in 1 more process.")


QUIET = "0 a process.start\n0 a gil.acquire\n10000000 a gil.release\n{}100000000 a process.end"


@pytest.mark.parametrize(
    ("lost", "exit_code", "kind"),
    [
        ("", 0, "nothing"),
        ("11000000 a gil.lost arg=0\n", 0, "unknown"),
        ("85000000 a gil.lost arg=0\n", 0, "nothing"),
        ("", 1, "unknown"),
        ("", 130, "nothing"),
        ("", 143, "nothing"),
    ],
)
def test_green_is_for_what_was_seen(lost: str, exit_code: int, kind: str) -> None:
    found = first(told(QUIET.format(lost), exit_code=exit_code))
    assert found["kind"] == kind
    assert found["severity"] == ("ok" if kind == "nothing" else "warning")


@pytest.mark.parametrize(
    ("times", "late_ms", "cpu_ms", "kind"),
    [
        (3, 40, 38, "c-call"),
        (3, 40, 12, "c-call"),  # it would have kept the GIL for 12 ms anyhow
        (3, 40, 8, "no-processor"),
        (1, 200, 190, "freeze"),
        (1, 200, 110, "freeze"),
        (1, 200, 50, "no-processor"),  # alone it would have been none
        (1, 110, 95, "freeze"),  # it had a processor nearly all the time
    ],
)
def test_c_code_that_only_wants_a_processor_is_told_apart(
    times: int, late_ms: int, cpu_ms: int, kind: str
) -> None:
    late, cpu = (times * part * MS for part in (late_ms, cpu_ms))
    row = Kept(0, None, COMPUTES, times, late_ms * MS, late, cpu, {1: late})
    shared = {number: {"shared_ns": 2 * late} for number in (0, 1)}
    assert worth_telling([row], shared) == [row]
    assert kind_of(row) == kind


def test_a_thread_is_judged_by_the_gil_that_it_held_longest() -> None:
    """As one that leaves its first GIL, and computes in a sub-interpreter with one of its own."""
    text = "0 a process.start\n0 b thread.start\n0 a gil.acquire\n"
    text += "".join(
        f"{at} a gil.release\n{at + 10} b gil.acquire\n{at + 20} b gil.release\n"
        f"{at + 30} a gil.acquire\n"
        for at in range(1_000, 100_000, 1_000)
    )
    text += f"{MS} b gil.acquire gil=1\n{90 * MS} b gil.release gil=1\n{90 * MS} b thread.end\n"
    text += f"{100 * MS} a gil.release\n{100 * MS} a process.end"
    threads = summarise(Trace.from_source(told(text)))["processes"][0]["threads"]
    assert (threads[1]["class"], threads[1]["gil"], threads[1]["shared_ns"]) == ("cpu", 1, 0)
    assert threads[0]["gil"] == 0


@pytest.mark.parametrize(("late_us", "kind"), [(900, "nothing"), (1_100, "no-processor")])
def test_to_wake_up_takes_a_while(late_us: int, kind: str) -> None:
    """b sees that the GIL is free, and takes it so much later, again and again."""
    text = "0 a process.start\n0 b thread.start\n"
    for begun in range(0, 200 * MS, 4 * MS):
        text += f"{begun} a gil.acquire\n{begun + 10} b gil.wait io\n{begun + 20} a gil.release\n"
        text += f"{begun + late_us * 1000} b gil.acquire waited\n"
        text += f"{begun + 2 * MS} b gil.release\n"
    assert first(told(text + f"{200 * MS} a process.end"))["kind"] == kind


WOKEN_LATE = """
    0           a process.start
    0           b thread.start
    0           a gil.acquire
    100         a gil.release
    100         a cond.wait native object=0x10
    200         b gil.acquire
    300         b cond.notify native object=0x10 woken=1
    {until}     b gil.release
    300000300   a cond.wake native object=0x10
    300000400   a gil.acquire
    300000500   a gil.release
    300001000   a process.end
"""


@pytest.mark.parametrize(
    ("until", "kind"), [(300_000_200, "freeze"), (90_000_000, "nothing"), (200_000_000, "nothing")]
)
def test_who_is_woken_when_the_gil_is_free_waited_for_it(until: int, kind: str) -> None:
    found = first(told(WOKEN_LATE.format(until=until)))
    assert found["kind"] == kind
    if kind == "freeze":
        assert found["text"] == (
            "`a` stood still once, for 300 ms: it was notified, and `b` kept the GIL. Split the"
            " work into smaller pieces, or move it to a process."
        )

"""Groups of like threads never fall, whatever ends or is taken back between two readings."""

from __future__ import annotations

import dataclasses
from collections import Counter

from gilscope.live.counters import ProcessCount, Reading, Sums, ThreadCount
from gilscope.live.families import exposition
from gilscope.live.totals import ENDED, MOST_GROUPS, OTHERS, Group, Totals

COMMAND = ("python", "app.py")


def sums(n: int) -> Sums:
    return Sums(*([n] * 7))


def thread(number: int, n: int, name: str = "worker-1", process: int = 1) -> ThreadCount:
    return ThreadCount(
        key=(number, 0),
        process=process,
        tid=number,
        name=name,
        is_main=False,
        gil=0,
        over=False,
        holds=False,
        waits=None,
        sums=sums(n),
        longest_wait_ns=n,
    )


def process(serial: int = 1, gone: int = 0, dead: bool = False) -> ProcessCount:
    return ProcessCount(serial, 0, 100 + serial, COMMAND, dead, sums(gone))


def reading(
    *threads: ThreadCount, processes: tuple[ProcessCount, ...] = (process(),), gone: int = 0
) -> Reading:
    return Reading(0, processes, threads, sums(gone))


def held(groups: list[Group]) -> dict[str, int]:
    of: Counter[str] = Counter()
    for group in groups:
        of[group.thread] += group.sums.held_ns
    return dict(of)


def test_like_threads_are_one_group() -> None:
    groups = Totals().update(
        reading(thread(1, 10), thread(2, 5, "worker-22"), thread(3, 7, "main"))
    )
    assert held(groups) == {"worker-*": 15, "main": 7}
    assert {group.process for group in groups} == {"app"}
    assert [group.longest_wait_ns for group in groups] == [7, 10]


def test_what_a_thread_counted_stays_under_its_name() -> None:
    totals = Totals()
    totals.update(reading(thread(1, 10), thread(2, 5)))
    # The first one went on to 12 before its page was taken back.
    groups = totals.update(reading(thread(2, 6), processes=(process(gone=12),)))
    assert held(groups) == {"worker-*": 16, ENDED: 2}
    # A thread that nobody read.
    groups = totals.update(reading(thread(2, 6), processes=(process(gone=20),)))
    assert held(groups) == {"worker-*": 16, ENDED: 10}


def test_what_a_process_counted_stays_when_it_is_taken_back() -> None:
    totals = Totals()
    two = (process(1, gone=3), process(2))
    before = held(totals.update(reading(thread(1, 10), thread(2, 5, process=2), processes=two)))
    assert before == {"worker-*": 15, ENDED: 3}
    after = held(totals.update(reading(thread(2, 6, process=2), processes=(process(2),), gone=15)))
    assert after == {"worker-*": 16, ENDED: 3 + 2}
    assert sum(after.values()) == 6 + 15


def test_a_clock_that_steps_back_is_no_fall() -> None:
    totals = Totals()
    totals.update(reading(thread(1, 10)))
    assert held(totals.update(reading(thread(1, 9)))) == {"worker-*": 10}


def test_names_have_a_limit() -> None:
    names = [f"task {chr(97 + n % 26) * (1 + n // 26)}" for n in range(MOST_GROUPS + 50)]
    threads = [thread(n, 1, name) for n, name in enumerate(names)]
    groups = Totals().update(reading(*threads))
    assert len(groups) == MOST_GROUPS + 1
    assert held(groups)[OTHERS] == 50


def test_one_process_alone() -> None:
    both = reading(thread(1, 10), thread(2, 5, process=2), processes=(process(1), process(2)))
    assert held(Totals(pid=102).update(both)) == {"worker-*": 5}
    dead = dataclasses.replace(both, processes=(process(1), process(2, dead=True)))
    assert held(Totals(pid=102).update(dead)) == {}


def test_labels_of_the_text_are_harmless() -> None:
    name = 'a"b\\c\nd\x1b[31m\u202e'
    text = exposition(Totals().update(reading(thread(1, 10, name))))
    assert r'thread="a\"b\\c\\nd\\x1b[*m\\u202e"' in text
    assert "\x1b" not in text

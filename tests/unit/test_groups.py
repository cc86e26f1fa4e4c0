"""Threads that do the same are one row."""

from __future__ import annotations

import numpy as np
import pytest
from support.stories import rolled_story, told

from gilscope.analysis.groups import SUMS, WAITS, group_of
from gilscope.analysis.summary import summarise
from gilscope.trace.model import Trace


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("worker-1", "worker-*"),
        ("worker-17", "worker-*"),
        ("Thread-3 (work)", "Thread-* (work)"),
        ("ThreadPoolExecutor-0_12", "ThreadPoolExecutor-*_*"),
        ("MainThread", "MainThread"),
        ("", ""),
    ],
)
def test_numbers_do_not_part_a_group(name: str, group: str) -> None:
    assert group_of(name) == group


def test_a_thread_without_equals_keeps_its_name() -> None:
    story = (
        "0 worker-7 process.start\n1 worker-7 gil.acquire\n2 worker-7 gil.release\n9 x thread.start"
    )
    groups = summarise(Trace.from_source(told(story)))["groups"]
    assert {group["name"]: group["threads"] for group in groups} == {"worker-7": [0], "x": [1]}


def test_root_and_children_are_apart() -> None:
    lines = ["0 main process.start", "1 main gil.acquire", "2 main gil.release"]
    for process in (1, 2):
        name = f"main-{process}"
        lines += [
            f"3 {name} process.start process={process}",
            f"4 {name} gil.acquire gil={process}",
            f"5 {name} gil.release gil={process}",
        ]
    groups = summarise(Trace.from_source(told("\n".join(lines))))["groups"]
    assert {g["name"]: (len(g["threads"]), g["processes"]) for g in groups} == {
        "main": (1, 1),
        "main-*": (2, 2),
    }


@pytest.mark.parametrize("seed", range(4))
def test_groups_are_their_threads(seed: int) -> None:
    trace = Trace.from_source(rolled_story(seed, 4_000, ((6, 1), (5, 2), (4, 1))))
    summary = summarise(trace)
    threads = {t["id"]: t for p in summary["processes"] for t in p["threads"]}
    assert sorted(n for group in summary["groups"] for n in group["threads"]) == sorted(threads)
    assert any(len(group["threads"]) > 1 for group in summary["groups"])
    for group in summary["groups"]:
        mine = [threads[number] for number in group["threads"]]
        assert {t["class"] for t in mine} == {group["class"]}
        for part in SUMS:
            assert group[part] == sum(t[part] for t in mine)
        for part in WAITS:
            assert group[part]["count"] == sum(t[part]["count"] for t in mine)
            assert group[part]["max"] == max(t[part]["max"] or 0 for t in mine) or None
        waits = trace.waits[np.isin(trace.waits["thread"], group["threads"])]
        lengths = np.sort(waits["end_ns"] - waits["start_ns"])
        if len(lengths):  # nearest rank
            assert group["wait_ns"]["p50"] == lengths[(len(lengths) + 1) // 2 - 1]

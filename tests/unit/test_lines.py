"""Who made others wait, by line."""

from __future__ import annotations

from typing import Any

import pytest
from support.stories import rolled_story

from gilscope.analysis.lines import lines_of
from gilscope.analysis.summary import summarise
from gilscope.trace.model import Trace


def site(line: int, function: str = "spin", file: str = "/a/app.py", exact: bool = True) -> Any:
    place = {"file": file, "line": line, "function": function, "library_line": None}
    place |= {"exact": exact, "library": None, "short": file.rsplit("/", 1)[-1]}
    return {**place, "gc": False}


def row(waiter: int, holder: int | None, place: Any, wait_ns: int = 10, waits: int = 1) -> Any:
    return {
        "waiter": waiter,
        "holder": holder,
        "reason": "held",
        "wait_ns": wait_ns,
        "waits": waits,
        "holder_site": place,
    }


def brief(rows: list[Any]) -> list[Any]:
    return [
        (r["first_line"], r["last_line"], r["holders"], r["waiters"], r["wait_ns"]) for r in rows
    ]


def test_lines_of_a_loop_are_one_row() -> None:
    blame = [row(1, 2, site(35), 10), row(3, 2, site(36), 70), row(1, 4, site(39), 5)]
    (line,) = lines_of(blame, [(site(35), 100), (site(36), 1_000), (site(99), 7)])
    assert brief([line]) == [(35, 39, 2, 2, 85)]
    assert line["site"] == site(36)  # the worst
    assert line["held_ns"] == 1_100


@pytest.mark.parametrize(
    "other",
    [site(40), site(35, "other"), site(35, file="/b/app.py"), site(35, exact=False)],
)
def test_other_places_are_rows_of_their_own(other: Any) -> None:
    rows = lines_of([row(1, 2, site(36), 70), row(1, 2, other, 80)], [])
    assert [r["site"] for r in rows] == [other, site(36)]


def test_what_has_no_line_is_told_too() -> None:
    blame = [row(1, 2, None, 30), row(1, None, None, 5), {**row(1, None, None), "reason": "wakeup"}]
    assert brief(lines_of(blame, [(None, 5)])) == [(None, None, 1, 1, 35)]


@pytest.mark.parametrize("seed", range(4))
def test_the_rows_add_up(seed: int) -> None:
    summary = summarise(Trace.from_source(rolled_story(seed, 3_000, ((4, 2), (3, 1)))))
    for process in summary["processes"]:
        held = sum(r["wait_ns"] for r in process["blame"] if r["reason"] == "held")
        assert sum(r["wait_ns"] for r in process["lines"]) == held

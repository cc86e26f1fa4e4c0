"""`gilscope bench condition`: its arithmetic, its floors, and that every use of every kit ends."""

from __future__ import annotations

import argparse
import ctypes
import json
import time
from typing import Any

import pytest

from gilscope import _native
from gilscope.benchmarks import condition as bench
from gilscope.benchmarks.harness import Interpreter, Outcome, Results, Variant
from gilscope.errors import UsageError

STOCK = Interpreter("python3", "3.13.5", False)
PLUS = Interpreter("plus", "3.13.5", True)


def outcomes(**values: float) -> list[Outcome]:
    return [dict(values)] * 10


def test_uses_that_never_wait_are_judged_by_stock_and_by_the_empty_class() -> None:
    variant = Variant(STOCK, "classic", watched=True)
    results: Results = {(variant, "notify"): outcomes(stock=400, native=140, empty=100)}
    told = bench.figures(results, variant, bench.NOTIFY, 0.2)
    assert "atomic faster" not in told
    assert told["native faster"].estimate.median == pytest.approx(400 / 140)
    assert told["native faster"].met is True
    assert told["over floor"].estimate.median == 1.4
    assert told["over floor"].met is False


@pytest.mark.parametrize(("python", "met"), [(STOCK, True), (PLUS, False)])
def test_python_plus_has_to_win_more(python: Interpreter, met: bool) -> None:
    variant = Variant(python, "io-priority", watched=True)
    (load,) = (x for x in bench.CROWDS if x.what == "condition")
    results: Results = {(variant, load.name): outcomes(stock=1.5e6, native=1e6, empty=0.8e6)}
    told = bench.figures(results, variant, load, 0.2)
    assert told["over floor"].estimate.median == 1.25
    assert told["over floor"].met is None
    assert told["native faster"].estimate.median == 1.5
    assert told["native faster"].met is met


def test_beside_a_computing_thread_io_priority_is_bound_and_classic_is_not() -> None:
    (load,) = (x for x in bench.BESIDE if (x.use, x.what) == ("pair", "condition"))
    for policy, met in (("classic", None), ("io-priority", False)):
        variant = Variant(STOCK, policy, watched=True)
        results: Results = {
            (variant, load.key("native")): outcomes(done=20),
            (variant, bench.PAIRS[0].key("native")): outcomes(done=100),
        }
        told = bench.figures(results, variant, load, 0.2)
        assert told["native, of alone"].estimate.median == 0.2
        assert told["native, of alone"].met is met
        assert told["native"].estimate.median == 100  # a second


def test_a_section_is_judged_by_what_it_adds() -> None:
    variant = Variant(STOCK, "classic", watched=True)
    results: Results = {(variant, "section"): outcomes(atomic=72, empty=60)}
    told = bench.figures(results, variant, bench.SECTION, 0.2)
    assert told["over floor"].estimate.median == pytest.approx(12)
    assert told["over floor"].met is False


def test_a_machine_at_half_speed_makes_a_section_no_longer() -> None:
    variant = Variant(STOCK, "classic", watched=True)
    slow: Outcome = {"atomic": 216, "empty": 200}
    results: Results = {(variant, "section"): [*outcomes(atomic=108, empty=100), *[slow] * 10]}
    over = bench.figures(results, variant, bench.SECTION, 0.2)["over floor"]
    assert over.estimate.high == pytest.approx(8)
    assert over.met is True


def test_what_was_asked_for_comes_with_what_it_is_compared_with() -> None:
    names = [load.name for load in bench.chosen(["condition, two threads + 1", "section"])]
    assert names == ["condition, two threads", "condition, two threads + 1 CPU", "section"]
    assert bench.chosen([]) == list(bench.LOADS)
    with pytest.raises(UsageError, match="no use has tea in its name: notify, "):
        bench.chosen(["tea"])


@pytest.mark.parametrize("kind", range(len(bench.FLOORS)))
def test_two_c_threads_hand_over(kind: int) -> None:
    trips = _native.engine().gs_floor_round_trips
    trips.argtypes = [ctypes.c_uint32, ctypes.c_int64, ctypes.c_int64]
    trips.restype = ctypes.c_int64
    made, seconds = 0, 0.01
    while not made and seconds < 60:  # the machine may be busy
        begin = time.monotonic_ns()
        made = trips(kind, begin, begin + int(seconds * 1e9))
        seconds *= 2
    assert made > 0
    assert trips(kind, begin, begin) == 0  # the end has passed


def quick(capsys: pytest.CaptureFixture[str], seconds: float) -> dict[str, Any]:
    """Each use's figures of one short run."""
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    length = ["--seconds", str(seconds)]
    bench.run(parser.parse_args(["--quick", *length, "--policy", "classic", "--json"]))
    return {row["use"]: row["figures"] for row in json.loads(capsys.readouterr().out)["rows"]}


def idle(rows: dict[str, Any]) -> list[tuple[str, str]]:
    """The uses and kits that came to nothing in their time."""
    made = [(load.name, kit) for load in bench.MADE for kit in bench.KITS]
    return [(use, kit) for use, kit in made if rows[use][kit]["median"] == 0]


def test_a_quick_run_measures_every_use_of_every_kit(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = 0.05
    while idle(rows := quick(capsys, seconds)) and seconds < 2:  # the machine may be busy
        seconds *= 4
    assert idle(rows) == []
    assert list(rows)[:2] == ["notify", "wait(0)"]
    for load in bench.MADE:
        assert ("floor" in rows[load.name]) == (
            load in (bench.NOTIFY, bench.WAIT_0) or load.has_chain
        )
    assert rows["section"]["over floor"]["at_most"] == 10
    assert rows["notify"]["over floor"]["at_most"] == 1.3
    assert {column for figures in rows.values() for column in figures} == set(bench.COLUMNS)
    assert rows["futex, two C threads"]["floor"]["median"] > 0

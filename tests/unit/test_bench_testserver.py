"""`gilscope bench testserver`: reading ab, its arithmetic, and that it runs."""

from __future__ import annotations

import argparse
import json
import sys

import pytest

from gilscope.benchmarks import testserver as bench
from gilscope.benchmarks.ab import ab, parse
from gilscope.benchmarks.harness import PROGRAMS, Interpreter, Variant, Worker
from gilscope.errors import InstallationError, RecordingError

PRINTED = """This is ApacheBench, Version 2.3 <$Revision$>

Concurrency Level:      10
Time taken for tests:   1.007 seconds
Complete requests:      1230
Failed requests:        2
   (Connect: 0, Receive: 0, Length: 2, Exceptions: 0)
Requests per second:    1220.84 [#/sec] (mean)
Time per request:       8.191 [ms] (mean)
"""
PERCENTILES = "Percentage served,Time in ms\n0,0.431\n50,1.5\n98,45.0\n99,0.000\n100,62.25\n"


def test_reading_ab() -> None:
    served = parse(PRINTED, PERCENTILES)
    assert (served.per_second, served.complete, served.failed) == (1220.84, 1230, 2)
    assert served.percentiles_ms == {0: 0.431, 50: 1.5, 98: 45, 99: 45, 100: 62.25}


@pytest.mark.parametrize(
    ("printed", "percentiles", "told"),
    [
        ("", PERCENTILES, "no line that begins with Complete requests"),
        (PRINTED.replace("Requests per", "Replies per"), PERCENTILES, "Requests per second"),
        (PRINTED, "", "no percentiles"),
        (PRINTED, "Percentage served,Time in ms\n50,1\n", "no percentiles"),
        (PRINTED, PERCENTILES.replace("62.25", "long"), "cannot be read"),
        (PRINTED, PERCENTILES.replace(",62.25", ""), "cannot be read"),
    ],
)
def test_what_ab_did_not_say_is_an_error(printed: str, percentiles: str, told: str) -> None:
    with pytest.raises(RecordingError, match=told):
        parse(printed, percentiles)


def test_no_ab_and_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RecordingError, match="ab failed"):
        ab(1, 1, 1)  # nobody listens on that port
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InstallationError, match="apt-get install apache2-utils"):
        ab(80, 1, 1)


def test_a_policy_is_judged_by_classics_requests() -> None:
    python = Interpreter("python3", "3.13.5", False)
    classic, ours = Variant(python, "classic"), Variant(python, "io-priority")
    load = bench.LOADS["p=10 + 1 CPU"]

    def outcomes(rate: float, computed: float) -> list[dict[str, float | None]]:
        times = {"p50_ns": 1e6, "p99_ns": 2e6, "max_ns": 3e6}
        return [{"rate": rate, "computed": computed, **times}] * 10

    results = {(classic, load.name): outcomes(100, 1000), (ours, load.name): outcomes(490, 500)}
    told = bench.figures(results, load, ours, classic)
    assert told["of classic's"].estimate.median == 4.9
    assert told["of classic's"].met is False
    assert told["CPU work"].estimate.median == 0.5
    assert "of classic's" not in bench.figures(results, load, classic, classic)


def test_a_pool_of_one_is_compared_with_classics_of_ten() -> None:
    python = Interpreter("python3", "3.13.5", False)
    classic, ours = Variant(python, "classic"), Variant(python, "io-priority")
    load = bench.LOADS["p=10, pool of 1"]

    def outcomes(rate: float) -> list[dict[str, float | None]]:
        return [{"rate": rate, "computed": 0, "p50_ns": 1, "p99_ns": 2, "max_ns": 3}] * 10

    results = {(v, load.name): outcomes(130) for v in (classic, ours)}
    results[classic, "p=10"] = outcomes(100)
    for variant in (classic, ours):
        told = bench.figures(results, load, variant, classic)["of classic's"]
        assert (told.estimate.median, told.met) == (1.3, None)


def test_the_server_ends_with_its_input_while_it_computes() -> None:
    server = Worker([sys.executable, str(PROGRAMS / "server.py"), "1"])
    assert json.loads(server.ask('{"cpu": 1}')) == {"computed": 0}
    assert server.process.stdin is not None
    server.process.stdin.close()  # as when the bench was killed
    assert server.process.wait(60) == 0
    server.close()


def test_a_quick_run_measures_every_load(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    bench.run(parser.parse_args(["--quick", "--json"]))
    told = json.loads(capsys.readouterr().out)["rows"]
    rows = {(row["load"], row["policy"]): row["figures"] for row in told}
    loads = ("p=1", "p=10", "p=10, pool of 1", "p=1 + 1 CPU", "p=10 + 1 CPU")
    assert list(rows) == [(load, policy) for load in loads for policy in ("classic", "io-priority")]
    for figures in rows.values():
        assert figures["requests"]["median"] > 0
        times = [figures[name]["median"] for name in ("p50", "p99", "longest")]
        assert times == sorted(times)

"""`gilscope metrics`, and the counters of a program in other tools' registries."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.recorded import GILSCOPE

DEADLINE_S = 60
# Runs until its standard input ends.
PROGRAM = """
import sys, threading, time
over = False
def naps():
    while not over:
        time.sleep(0.001)
def computes():
    while not over:
        sum(range(2000))
threads = [threading.Thread(target=naps, name="naps")]
threads += [threading.Thread(target=computes, name=f"computes-{i}") for i in range(2)]
for thread in threads: thread.start()
sys.stdin.read()
over = True
for thread in threads: thread.join()
sys.exit(7)
"""
SAMPLE = re.compile(r"^(\w+)\{(.*)\} (\S+)$")
LABEL = re.compile(r'(\w+)="(.*?)"')


@contextmanager
def serving(*command: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A `gilscope metrics` and where it serves."""
    process = subprocess.Popen(
        [*GILSCOPE, "metrics", "--listen", "0", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr
        line = process.stderr.readline()
        url = re.search(r"http://127\.0\.0\.1:\d+/metrics", line)
        assert url, line + process.stderr.read()
        yield process, url[0]
    finally:
        process.kill()
        process.wait()


def get(url: str, method: str = "GET") -> str:
    request = urllib.request.Request(url, method=method)
    with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        return str(answer.read().decode())


Samples = dict[tuple[str, ...], float]


def samples(text: str) -> Samples:
    found = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            match = SAMPLE.match(line)
            assert match, line
            labels = dict(LABEL.findall(match[2]))
            key = (match[1], labels["process"], labels["thread"], labels.get("kind", ""))
            found[key] = float(match[3])
    return found


def until(url: str, name: str, thread: str, at_least: float) -> Samples:
    """The first scrape in which a sample of the program is so large."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        found = samples(get(url))
        if any(v >= at_least for key, v in found.items() if key[0] == name and key[2] == thread):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def test_a_command_is_served_while_it_runs() -> None:
    with serving(sys.executable, "-c", PROGRAM) as (process, url):
        first = until(url, "gilscope_gil_wait_seconds_total", "naps", 0.2)
        (program,) = {key[1] for key in first}
        later = until(url, "gilscope_gil_acquires_total", "naps", 100)
        counters = [key for key in first if key[0].endswith("_total")]
        assert len(counters) == 7 * len({key[2] for key in first})
        assert all(later[key] >= first[key] for key in counters)
        assert later["gilscope_gil_held_seconds_total", program, "computes-*", ""] > 0
        assert later["gilscope_gil_made_wait_seconds_total", program, "computes-*", ""] > 0
        assert later["gilscope_gil_longest_wait_seconds", program, "naps", ""] > 0
        assert later["gilscope_threads", program, "computes-*", ""] == 2
        assert get(url, "HEAD") == ""
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(url.replace("/metrics", "/other"))
        assert process.stdin
        process.stdin.close()
        assert process.wait(DEADLINE_S) == 7
        with pytest.raises(OSError, match="refused"):
            urllib.request.urlopen(url, timeout=DEADLINE_S)


def test_a_process_that_is_counted_already() -> None:
    with (
        serving(sys.executable, "-c", PROGRAM) as (first, one),
        serving(str(first.pid)) as (second, other),
    ):
        until(one, "gilscope_gil_wait_seconds_total", "naps", 0.1)
        until(other, "gilscope_gil_wait_seconds_total", "naps", 0.1)
        assert first.stdin
        first.stdin.close()
        assert first.wait(DEADLINE_S) == 7
        assert second.wait(DEADLINE_S) == 0


def test_ctrl_c_ends_the_watching_alone() -> None:
    with (
        serving(sys.executable, "-c", PROGRAM) as (first, one),
        serving(str(first.pid)) as (
            second,
            _,
        ),
    ):
        second.send_signal(signal.SIGINT)
        assert second.wait(DEADLINE_S) == 130
        until(one, "gilscope_gil_wait_seconds_total", "naps", 0.1)
        assert first.poll() is None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "metrics of what?"),
        (("1",), "nothing counts process 1"),
        (("--listen", "here", "true"), "--listen takes [HOST:]PORT, not here"),
        (("--listen", "70000", "true"), "--listen takes [HOST:]PORT, not 70000"),
        (("--listen", "203.0.113.1:0", "true"), "cannot listen on 203.0.113.1:0"),
    ],
)
def test_mistakes_are_one_line(arguments: tuple[str, ...], says: str) -> None:
    done = subprocess.run(
        [*GILSCOPE, "metrics", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def counted(program: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*GILSCOPE, "record", "--counters", *options, "--", sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )


def test_counters_alone_make_a_table_and_no_trace(tmp_path: Path) -> None:
    program = "import threading; t = threading.Thread(target=sum, args=(range(9**7),), name='sums')"
    done = counted(f"{program}; t.start(); t.join(); raise SystemExit(3)")
    assert done.returncode == 3
    assert done.stdout == ""
    assert re.search(r"^ sums +[\d.]+ ms ", done.stderr, re.MULTILINE), done.stderr
    assert list(tmp_path.iterdir()) == []
    assert counted("", "--quiet").stderr == ""
    refused = counted("", "--keep", "30")
    assert refused.returncode == 2
    assert "--counters makes no trace" in refused.stderr


IN_PROGRAM = """
import json, os, threading, time
import gilscope.metrics
{setup}
def works():
    for i in range(30):
        time.sleep(0.001)
        sum(range(20_000))
threads = [threading.Thread(target=works, name=f"works-{{i}}") for i in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
{ask}
"""


def in_program(setup: str, ask: str) -> str:
    done = counted(IN_PROGRAM.format(setup=setup, ask=ask), "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_snapshot_of_the_own_process() -> None:
    ask = """
child = os.fork()
if child:
    os.waitpid(child, 0)
print(json.dumps(gilscope.metrics.snapshot()), flush=True)
"""
    child, parent = map(json.loads, in_program("", ask).splitlines())
    (only,) = child["threads"]
    assert child["pid"] != parent["pid"]
    assert only["name"] == "MainThread"
    assert only["tid"] == child["pid"]
    (main,) = (t for t in parent["threads"] if t["name"] == "MainThread")
    assert main["acquires"] > only["acquires"]
    assert main["held_ns"] > 0
    refused = subprocess.run(
        [sys.executable, "-c", "import gilscope.metrics as m; m.snapshot()"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "RecordingError: this process is not counted" in refused.stderr


def test_a_registry_of_prometheus_client_collects_them() -> None:
    setup = """
import prometheus_client
registry = prometheus_client.CollectorRegistry()
gilscope.metrics.prometheus(registry)
"""
    ask = "print(prometheus_client.generate_latest(registry).decode())"
    found = samples(in_program(setup, ask))
    (program,) = {key[1] for key in found}
    assert found["gilscope_gil_acquires_total", program, "works-*", ""] >= 90
    assert found["gilscope_gil_held_seconds_total", program, "works-*", ""] > 0
    assert ("gilscope_gil_wait_seconds_total", program, "works-*", "io") in found


def test_instruments_of_opentelemetry_observe_them() -> None:
    setup = """
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
reader = InMemoryMetricReader()
gilscope.metrics.opentelemetry(MeterProvider([reader]).get_meter("app"))
"""
    ask = "print(reader.get_metrics_data().to_json())"
    told = json.loads(in_program(setup, ask))
    metrics = told["resource_metrics"][0]["scope_metrics"][0]["metrics"]
    by_name = {metric["name"]: metric for metric in metrics}
    assert len(by_name) == 9
    points = by_name["gilscope.gil.acquires"]["data"]["data_points"]
    assert by_name["gilscope.gil.acquires"]["data"]["is_monotonic"] is True
    (works,) = (p["value"] for p in points if p["attributes"]["thread"] == "works-*")
    assert works >= 90
    waits = by_name["gilscope.gil.wait.time"]
    assert waits["unit"] == "s"
    assert {p["attributes"]["kind"] for p in waits["data"]["data_points"]} == {"io", "cpu"}

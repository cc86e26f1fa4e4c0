"""The dashboard and the alert rules of examples/monitoring, each of their queries on a real
Prometheus that scrapes a real program."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.recorded import GILSCOPE

from gilscope.live.families import FAMILIES

DEADLINE_S = 100
# A convoy, and one thread that keeps the GIL for longer than the alert of long waits allows.
PROGRAM = """
import sys, threading, time
over = False
def naps():
    while not over:
        time.sleep(0.001)
def computes():
    while not over:
        sum(range(20_000_000))
for work in (naps, computes):
    threading.Thread(target=work, name=work.__name__, daemon=True).start()
sys.stdin.read()
"""
CONFIGURATION = """
global: {{scrape_interval: 500ms, evaluation_interval: 500ms}}
rule_files: [{rules}]
scrape_configs:
  - job_name: app
    static_configs: [{{targets: ["{target}"]}}]
"""


class Prometheus:
    """A server and what it scrapes."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path: str, **parameters: str) -> Any:
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.url}{path}?{query}", timeout=30) as answer:
            told = json.load(answer)
        assert told["status"] == "success"
        return told["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("/api/v1/query", query=expression)["result"]
        return found

    def await_rows(self, expression: str) -> list[dict[str, Any]]:
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                if rows := self.query(expression):
                    return rows
            except OSError:
                pass  # it starts
            assert time.monotonic() < deadline, expression
            time.sleep(0.2)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    root = Path(__file__).parents[2]
    folder = tmp_path_factory.mktemp("prometheus")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    metrics = subprocess.Popen(
        [*GILSCOPE, "metrics", "--listen", "0", "--", sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert metrics.stderr
    target = re.search(r"127\.0\.0\.1:\d+", metrics.stderr.readline())
    assert target
    # Over 10 s, not 5 min: a rate of a series that just began is of that little.
    rules = folder / "rules.yml"
    own = (root / "examples/monitoring/prometheus-rules.yml").read_text()
    assert own.count("[5m]") == 4
    rules.write_text(own.replace("[5m]", "[10s]"))
    (folder / "prometheus.yml").write_text(CONFIGURATION.format(rules=rules, target=target[0]))
    server = subprocess.Popen(
        [
            "prometheus",
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stderr=(folder / "log").open("w"),
    )
    try:
        there = Prometheus(port)
        there.await_rows('rate(gilscope_gil_wait_seconds_total{thread="naps",kind="io"}[1m]) > 0')
        there.await_rows('gilscope_gil_longest_wait_seconds{thread="naps"} > 0.05')
        yield there
    finally:
        server.kill()
        server.wait()
        metrics.kill()
        metrics.wait()


def panels(root: Path) -> list[dict[str, Any]]:
    text = (root / "examples/monitoring/grafana-dashboard.json").read_text()
    found: list[dict[str, Any]] = json.loads(text)["panels"]
    return found


def test_each_query_of_the_dashboard_has_an_answer(prometheus: Prometheus, root: Path) -> None:
    queries = 0
    for panel in panels(root):
        for target in panel["targets"]:
            expression = target["expr"].replace("$__rate_interval", "1m")
            expression = re.sub(r"\$(instance|process)\b", ".*", expression)
            assert "$" not in expression
            rows = prometheus.await_rows(expression)
            values = [float(row["value"][1]) for row in rows]
            assert all(value >= 0 for value in values), expression
            if panel["title"] != "Who waits, while it computes":
                assert max(values) > 0, expression
            if panel["fieldConfig"]["defaults"]["unit"] == "percentunit":
                assert max(values) < 1.2, expression
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= set(rows[0]["metric"])
            queries += 1
    assert queries >= 12


def test_the_dashboard_shows_every_metric(root: Path) -> None:
    text = "".join(target["expr"] for panel in panels(root) for target in panel["targets"])
    for family in FAMILIES:
        assert family.name + ("_total" if family.is_counter else "") in text


def test_each_alert_is_evaluated_and_can_fire(prometheus: Prometheus) -> None:
    prometheus.await_rows('ALERTS{alertname="GilLongWait"}')
    (group,) = prometheus.get("/api/v1/rules")["groups"]
    told = {rule["name"]: rule for rule in group["rules"]}
    assert len(told) == 4
    for name, rule in told.items():
        assert (rule["health"], rule.get("lastError")) == ("ok", None), name
        assert prometheus.await_rows(rule["query"]), name
        prometheus.await_rows(f'ALERTS{{alertname="{name}"}}')
    alerts = prometheus.get("/api/v1/alerts")["alerts"]
    (delayed,) = (a for a in alerts if a["labels"]["alertname"] == "GilDelaysRequests")
    assert delayed["labels"]["thread"] == "naps"
    assert "naps of" in delayed["annotations"]["summary"]
    (keeper,) = (a for a in alerts if a["labels"]["alertname"] == "GilOneThreadKeepsIt")
    assert keeper["labels"]["thread"] == "computes"


def test_promtool_finds_nothing_to_say(root: Path) -> None:
    rules = root / "examples/monitoring/prometheus-rules.yml"
    done = subprocess.run(
        ["promtool", "check", "rules", rules], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr

"""gilscope where builds run: repeated recordings, the example workflow, the pytest plugin."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

APP = """
import sys, threading, time
def spin():
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        pass
spinner = threading.Thread(target=spin, name="spinner")
def poll():
    while spinner.is_alive():
        time.sleep(0.001)
poller = threading.Thread(target=poll, name="poller")
if {together}:
    spinner.start(); poller.start(); spinner.join(); poller.join()
else:
    spinner.start(); spinner.join(); poller.start(); poller.join()
"""
BOUNDS = '[tool.gilscope.check.max]\n"waiting_share@poller" = "25 %"\n'

TESTS = """
import threading, time, pytest

def beside(seconds):
    def spin():
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pass
    thread = threading.Thread(target=spin, name="spinner")
    thread.start()
    while thread.is_alive():
        time.sleep(0.001)

def test_planted():
    beside(0.4)

def test_quiet():
    time.sleep(0.01)

@pytest.mark.gilscope(max={"waiting_share@MainThread": 0.2})
def test_broken():
    beside(0.3)

@pytest.mark.gilscope(max={"waiting_share": "50 %"})
def test_kept():
    time.sleep(0.05)

@pytest.mark.gilscope(max={"waiting_share@nobody": 0.2})
def test_of_no_thread():
    time.sleep(0.01)
"""


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-e", "-c", command],
        cwd=folder,
        env={**os.environ, "PATH": path, "COLUMNS": "160"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def steps(root: Path) -> dict[str, str]:
    """The commands of the example workflow by the names of their steps."""
    text = (root / "examples/ci/github-actions.yml").read_text()
    return dict(re.findall(r"- name: (.*)\n\s+run: (.*)", text))


@pytest.mark.parametrize("together", [True, False])
def test_the_example_workflow(root: Path, tmp_path: Path, together: bool) -> None:
    (tmp_path / "app.py").write_text(APP.format(together=together))
    (tmp_path / "pyproject.toml").write_text(BOUNDS)
    commands = steps(root)
    assert list(commands) == ["install", "record", "check"]
    recorded = shell(commands["record"], tmp_path)
    assert recorded.returncode == 0, recorded.stderr
    traces = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert traces == ["001.pftrace", "002.pftrace", "003.pftrace"]
    checked = shell(commands["check"], tmp_path)
    assert checked.returncode == int(together), checked.stdout + checked.stderr
    assert (tmp_path / "gilscope.xml").exists()
    lines = checked.stdout.splitlines()
    assert len(lines) == 3 * together
    assert all("poller: waiting_share is" in line for line in lines)


def test_an_unknown_value_fails_the_workflow(root: Path, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "import os, threading, time\n"
        "def work():\n"
        "    for _ in range(200_000):\n"
        "        os.stat('.')\n"
        "threads = [threading.Thread(target=work, name='poller') for _ in range(2)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
    )
    (tmp_path / "pyproject.toml").write_text(BOUNDS.replace("25 %", "100 %"))
    commands = steps(root)
    record = commands["record"].replace("record", "record --max-size 1M")
    assert shell(record, tmp_path).returncode == 0
    checked = shell(commands["check"], tmp_path)
    assert checked.returncode == 1
    assert "of its life is unknown, so the bound" in checked.stdout


def test_repeat_goes_on_where_it_stopped(tmp_path: Path) -> None:
    for expected in (2, 4):
        done = shell("gilscope record --repeat 2 -o runs python -c pass", tmp_path)
        assert done.returncode == 0, done.stderr
        assert len([*(tmp_path / "runs").glob("*.pftrace")]) == expected
    failed = shell("gilscope record --repeat 3 -o bad python -c 'exit(7)'", tmp_path)
    assert failed.returncode == 7
    assert len([*(tmp_path / "bad").iterdir()]) == 1
    assert shell("gilscope record --repeat 2 python -c pass", tmp_path).returncode == 2
    assert shell("gilscope record --repeat 0 -o runs python -c pass", tmp_path).returncode == 2


@pytest.mark.parametrize("workers", ["", "-n 2"])
def test_pytest_tells_the_tests_that_waited(tmp_path: Path, workers: str) -> None:
    (tmp_path / "test_app.py").write_text(TESTS)
    done = shell(f"python -m pytest -q --gilscope {workers} test_app.py", tmp_path)
    lines = done.stdout.splitlines()
    start = next(n for n, line in enumerate(lines) if "waiting for the GIL" in line)
    rows = [line for line in lines[start:] if line.startswith("test_app.py::")]
    assert [row.split()[0].rstrip(":") for row in rows][:2] == [
        "test_app.py::test_planted",
        "test_app.py::test_broken",
    ]
    assert all("MainThread" in row and "spinner in" in row for row in rows[:2])
    told = [line for line in lines if line.startswith("gilscope: ")]
    assert any("test_broken: MainThread: waiting_share is" in line for line in told)
    assert any("no thread of test_app.py::test_of_no_thread" in line for line in told)
    assert not any("test_kept" in line or "test_planted" in line for line in told)
    assert done.returncode == 1
    assert [*(tmp_path / "gilscope-traces").glob("*.pftrace")]


def test_pytest_with_bounds_that_hold(tmp_path: Path) -> None:
    (tmp_path / "test_app.py").write_text(TESTS)
    chosen = "-k 'quiet or kept' --gilscope-max waiting_share@spin*=0.1"
    done = shell(f"python -m pytest -q --gilscope {chosen} test_app.py", tmp_path)
    assert done.returncode == 0, done.stdout
    assert not (tmp_path / "gilscope-traces").exists()
    failing = shell("python -m pytest -q --gilscope -k none test_app.py", tmp_path)
    assert failing.returncode == 5  # as pytest alone: no tests
    wrong = shell("python -m pytest -q --gilscope --gilscope-max x=1 test_app.py", tmp_path)
    assert wrong.returncode == 4
    assert "no figure of a thread" in wrong.stderr


def test_the_plugin_is_not_felt_when_off() -> None:
    """It brings in nothing: what `import pytest` has loaded is all that it needs."""
    program = (
        "import sys, json, pytest; before = set(sys.modules);"
        "import gilscope.integrations.pytest_plugin;"
        "print(sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert set(eval(done.stdout)) <= {
        "gilscope",
        "gilscope.integrations",
        "gilscope.integrations.pytest_plugin",
    } | {"importlib"}

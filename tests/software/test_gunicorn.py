"""gunicorn, four forked workers of four threads each, serving Flask to ab."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import urllib.request

from software.harness import (
    PROGRAMS,
    Software,
    check_in_perfetto,
    check_stamps,
    free_port,
    look_at,
)
from support.recorded import GILSCOPE

import gilscope
from gilscope.attach.tree import descendants
from gilscope.trace.model import Trace

REQUESTS = 1000
CYCLES = int(os.environ.get("GILSCOPE_TEST_CYCLES", "1"))


def load(port: int) -> tuple[str, ...]:
    """What ab counted: complete, failed, non-2xx, bytes."""
    done = subprocess.run(
        ["ab", "-q", "-n", str(REQUESTS), "-c", "16", f"http://127.0.0.1:{port}/"],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    return tuple(re.findall(r"(?:Complete|Failed|Non-2xx).*|HTML transferred.*", done.stdout))


def pids(stamps: str) -> list[int]:
    return [int(line.split()[1]) for line in stamps.splitlines()]


def serve(software: Software, recorded: bool) -> tuple[object, ...]:
    port = free_port()
    command = [
        *(software.python, "-m", "gunicorn", "--chdir", str(PROGRAMS), "-b", f"127.0.0.1:{port}"),
        *("-w", "4", "-k", "gthread", "--threads", "4", "flask_app:app"),
    ]
    with software.started(command, recorded) as server:
        server.listens(port)
        counted = load(port)
        stamps = ""
        for _ in range(40):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/stamp", timeout=30) as answer:
                stamps += answer.read().decode()
        return counted, stamps, server.finish(send=signal.SIGTERM)


def test_gunicorn_with_flask_under_ab(software: Software) -> None:
    software.note("program", "gunicorn, Flask")
    software.note("command", "`gunicorn -w 4 -k gthread --threads 4 flask_app:app`")
    software.note("check", f"`ab -n {REQUESTS} -c 16`, 40 stamps")
    plain, _stamps, alone = serve(software, recorded=False)
    counted, stamps, finished = serve(software, recorded=True)
    assert counted == plain
    assert (finished.exit_code, alone.exit_code) == (0, 0)
    seen = look_at(software, finished)
    check_stamps(seen, stamps, at_least=40)
    workers = [p for p in seen.processes() if "ThreadPoolExecutor-0_0" in seen.names(p)]
    assert len(workers) == 4
    for worker in workers:
        assert seen.names(worker) <= {
            "MainThread",
            *(f"ThreadPoolExecutor-0_{n}" for n in range(4)),
        }
    assert {p["pid"] for p in workers} >= set(pids(stamps))
    check_in_perfetto(seen)


def test_gunicorn_attached_while_it_serves(software: Software) -> None:
    """The master with its four workers, then one worker: no request fails meanwhile."""
    port = free_port()
    command = [
        *(software.python, "-m", "gunicorn", "--chdir", str(PROGRAMS), "-b", f"127.0.0.1:{port}"),
        *("-w", "4", "-k", "gthread", "--threads", "4", "flask_app:app"),
    ]
    with software.started(command, recorded=False) as server:
        server.listens(port)
        master = server.process.pid
        worker = next(iter(descendants(master)))
        with subprocess.Popen(
            ["ab", "-q", "-t", "3600", "-n", "100000000", "-c", "16", f"http://127.0.0.1:{port}/"],
            stdout=subprocess.PIPE,
            text=True,
        ) as client:
            for _ in range(CYCLES):
                traces = [attached(software, pid) for pid in (master, worker)]
                check_attached(traces)
            assert client.poll() is None  # requests came all the time
            client.send_signal(signal.SIGINT)  # ab tells what it has counted
            answered = re.findall(r"(Failed|Non-2xx).*?(\d+)", client.communicate(timeout=60)[0])
        assert answered == [("Failed", "0")]
        assert server.finish(send=signal.SIGTERM).exit_code == 0


def check_attached(traces: list[Trace]) -> None:
    """Of the master with its workers, and of one worker."""
    assert [len(trace.metadata.processes) for trace in traces] == [5, 1]
    # A worker that the master forked only then is seen from its begin.
    for one in (one for trace in traces for one in trace.metadata.processes):
        assert one.attached == (one.parent is None), one
    assert all(len(trace.holds) > 100 for trace in traces)


def attached(software: Software, pid: int) -> Trace:
    """A second of it."""
    trace = software.folder / f"{pid}.pftrace"
    done = subprocess.run(
        [*GILSCOPE, "attach", str(pid), "-d", "1", "--no-summary", "-o", str(trace)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return gilscope.read(trace)

"""gunicorn, four forked workers of four threads each, serving Flask to ab."""

from __future__ import annotations

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

REQUESTS = 1000


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

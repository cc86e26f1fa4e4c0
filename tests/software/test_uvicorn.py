"""uvicorn: an event loop whose handlers compute in threads."""

from __future__ import annotations

import signal
import urllib.request
from concurrent.futures import ThreadPoolExecutor

from software.harness import PROGRAMS, Finished, Software, check_stamps, free_port, look_at

REQUESTS = 400


def serve(software: Software, recorded: bool) -> tuple[Finished, list[str]]:
    port = free_port()
    command = [
        *(software.python, "-m", "uvicorn", "--app-dir", str(PROGRAMS), "--port", str(port)),
        *("--no-access-log", "uvicorn_app:app"),
    ]

    def ask(_: int) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
            return str(answer.read().decode())

    with software.started(command, recorded) as server:
        server.listens(port)
        with ThreadPoolExecutor(8) as clients:
            answers = list(clients.map(ask, range(REQUESTS)))
        return server.finish(send=signal.SIGINT), answers


def test_uvicorn_with_to_thread(software: Software) -> None:
    software.note("program", "uvicorn")
    software.note("command", "`uvicorn uvicorn_app:app`")
    software.note("check", f"{REQUESTS} requests from 8 clients, stamps")
    alone, plain = serve(software, recorded=False)
    done, answers = serve(software, recorded=True)
    assert done.exit_code == alone.exit_code
    assert {a.split()[0] for a in answers} == {a.split()[0] for a in plain}
    seen = look_at(software, done)
    check_stamps(seen, "".join(answers), at_least=REQUESTS)
    assert seen.threads(r"asyncio_\d+")

"""Django's development server: a process that starts itself again to reload, a thread a request."""

from __future__ import annotations

import signal
import urllib.request

import pytest
from software.harness import PROGRAMS, Finished, Software, check_stamps, free_port, look_at

REQUESTS = 150


def serve(software: Software, options: list[str], recorded: bool) -> tuple[Finished, str]:
    port = free_port()
    script = str(PROGRAMS / "django_site.py")
    command = [software.python, script, "runserver", f"127.0.0.1:{port}", *options]
    with software.started(command, recorded) as server:
        server.listens(port)
        answers = ""
        for _ in range(REQUESTS):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
                answers += answer.read().decode()
        return server.finish(send=signal.SIGINT), answers


@pytest.mark.parametrize("options", [[], ["--noreload"]], ids=["reload", "noreload"])
def test_django_development_server(software: Software, options: list[str]) -> None:
    software.note("program", "Django")
    software.note("command", f"`{' '.join(['django_site.py runserver', *options])}`")
    software.note("check", f"{REQUESTS} requests, stamps")
    alone, plain = serve(software, options, recorded=False)
    done, answers = serve(software, options, recorded=True)
    assert done.exit_code == alone.exit_code
    assert len(answers.splitlines()) == len(plain.splitlines()) == REQUESTS
    assert "System check identified no issues" in done.output
    seen = look_at(software, done)
    check_stamps(seen, answers, at_least=REQUESTS)
    assert len(seen.threads(r"Thread-\d+ \(process_request_thread\)")) >= REQUESTS
    assert len(seen.processes("runserver")) == (1 if options else 2)
    assert options or seen.threads("django-main-thread")

"""Tools that stand beside a program: a test runner's workers, coverage, a debugger, a sampler."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from software.harness import LIMIT_S, PROGRAMS, Running, Software, check_stamps, free_port, look_at

CASES = "test_cases.py"
BUSY = str(PROGRAMS / "busy.py")


@pytest.fixture
def cases(software: Software) -> None:
    """A project of its own with one file of tests, away from ours."""
    shutil.copy(PROGRAMS / "cases.py", software.folder / CASES)
    (software.folder / "pytest.ini").write_text("[pytest]\n")


@pytest.mark.usefixtures("cases")
def test_pytest_xdist(software: Software) -> None:
    software.note("program", "pytest-xdist")
    software.note("command", "`pytest -n 2 cases.py`")
    software.note("check", "39 passed, 1 failed, exit code 1")
    command = (software.python, "-m", "pytest", "-n", "2", "-p", "no:cacheprovider", CASES)
    alone = software.run(*command)
    done = software.record(*command)
    assert done.exit_code == alone.exit_code == 1
    for finished in (alone, done):
        assert "1 failed, 39 passed" in finished.output, finished.output
    seen = look_at(software, done)
    workers = [p for p in seen.processes() if "adder-0" in seen.names(p)]
    assert len(workers) == 2
    assert len(seen.threads(r"adder-[0-3]")) == 160


@pytest.mark.usefixtures("cases")
def test_coverage(software: Software) -> None:
    software.note("program", "coverage")
    software.note("command", "`coverage run --concurrency=thread -m pytest cases.py`")
    software.note("check", "the same lines covered, exit code 1")
    command = (
        *(software.python, "-m", "coverage", "run", "--concurrency=thread", f"--include={CASES}"),
        *("-m", "pytest", "-p", "no:cacheprovider", CASES),
    )

    def covered() -> dict[str, list[int]]:
        report = software.run(software.python, "-m", "coverage", "json", "-q", "-o", "c.json")
        assert report.exit_code == 0, report.errors
        files = json.loads((software.folder / "c.json").read_text())["files"]
        return {name: file["executed_lines"] for name, file in files.items()}

    alone = software.run(*command)
    lines = covered()
    assert any(len(executed) > 5 for executed in lines.values())
    (software.folder / ".coverage").unlink()
    done = software.record(*command)
    assert done.exit_code == alone.exit_code == 1
    assert covered() == lines
    look_at(software, done)


def test_debugpy(software: Software) -> None:
    software.note("program", "debugpy")
    software.note("command", "`python -m debugpy --listen PORT --wait-for-client busy.py`")
    software.note("check", "a client attaches and continues; the program's sums")
    port = free_port()
    command = (
        *(software.python, "-Xfrozen_modules=off", "-m", "debugpy"),
        *("--listen", f"127.0.0.1:{port}", "--wait-for-client", BUSY, "0"),
    )
    alone = software.run(software.python, BUSY, "0")
    with software.started(command, recorded=True) as program:
        events = attach(program, port)
        done = program.finish()
    assert {"initialized", "attach"} <= events
    assert done.exit_code == alone.exit_code == 0, done.errors
    assert sums(done.output) == sums(alone.output)
    seen = look_at(software, done)
    check_stamps(seen, done.output, at_least=3)
    names = sorted(thread["name"] for thread in seen.threads(r"busy-\d"))
    assert names == ["busy-0", "busy-1", "busy-2"]  # once each: no helper of the debugger's


def attach(program: Running, port: int) -> set[str]:
    """Speak the debug adapter protocol until the program goes on; what the adapter said."""
    said: set[str] = set()
    with socket.socket() as connection:
        # No probing: the adapter takes the first connection for the client.
        program.until(lambda: connection.connect_ex(("127.0.0.1", port)) == 0, "listening")
        connection.settimeout(LIMIT_S)
        stream = connection.makefile("rwb")

        def send(number: int, command: str, **arguments: object) -> None:
            request = {"seq": number, "type": "request", "command": command}
            body = json.dumps({**request, "arguments": arguments}).encode()
            stream.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
            stream.flush()

        def hear(name: str) -> None:
            while name not in said:
                length = 0
                while line := stream.readline().strip():
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                message = json.loads(stream.read(length))
                assert message.get("success", True), message
                said.add(str(message.get("event") or message.get("command")))

        send(1, "initialize", adapterID="test", clientID="test")
        hear("initialize")
        send(2, "attach", subProcess=False)
        hear("initialized")
        send(3, "configurationDone")
        hear("attach")
        hear("terminated")
    return said


def test_py_spy(software: Software) -> None:
    software.note("program", "py-spy")
    software.note("command", "`busy.py`, beside it `py-spy dump` and `py-spy record`")
    software.note("check", "py-spy sees the threads; the program's sums")
    alone = software.run(software.python, BUSY, "0")
    with software.started((software.python, BUSY, "1"), recorded=True) as program:
        program.says("busy now")
        pid = re.search(r"busy now (\d+)", program.out.read_text())
        assert pid is not None
        spy = str(software.bin / "py-spy")
        dump = subprocess.run(
            [spy, "dump", "--pid", pid[1]], capture_output=True, text=True, timeout=60, check=False
        )
        flame = software.folder / "spy.txt"
        sampled = subprocess.run(
            [spy, "record", "-d", "1", "-f", "raw", "--threads", "-o", flame, "--pid", pid[1]],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        Path(software.folder, "stop").touch()
        done = program.finish()
    assert dump.returncode == 0, dump.stderr
    assert sampled.returncode == 0, sampled.stderr
    for n in range(3):
        assert f"busy-{n}" in dump.stdout
        assert f"busy-{n}" in flame.read_text()
    assert done.exit_code == 0, done.errors
    assert sums(done.output) == sums(alone.output)
    seen = look_at(software, done)
    check_stamps(seen, done.output, at_least=3)
    assert {t["class"] for t in seen.threads(r"busy-\d")} == {"cpu"}


def sums(output: str) -> list[str]:
    return sorted(re.findall(r"sum .*", output))

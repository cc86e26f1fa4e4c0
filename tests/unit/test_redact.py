"""What is secret by name or look does not come into a trace; what is not, does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.recorded import record

from gilscope.trace.redact import HIDDEN, redacted, secrets
from gilscope.trace.schema import Metadata, Process, Stack

SECRET = "hunter2hunter2"


@pytest.mark.parametrize(
    "words",
    [
        [f"--password={SECRET}"],
        ["--token", SECRET],
        ["-token", SECRET],
        [f"--db-password={SECRET}", "--verbose"],
        [f"--apiKey={SECRET}"],
        ["--client-secret", SECRET],
        [f"API_KEY={SECRET}", "python", "app.py"],
        [f"AWS_SECRET_ACCESS_KEY={SECRET}"],
        [f"postgresql://me:{SECRET}@host/db"],
        [f"--url=redis://:{SECRET}@host:6379/0"],
        [f"https://{SECRET}{SECRET}@github.com/a/b"],
        [f"https://host/path?user=me&access_token={SECRET}&x=1"],
        ["-H", f"Authorization: Bearer {SECRET}"],
        ["-H", f"X-Api-Key: {SECRET}"],
        ["-u", f"me:{SECRET}"],
        ["-c", f"connect(user='me', password='{SECRET}')"],
        ["-c", f'connect({{"password": "{SECRET}"}})'],
        [f"-Dpassword={SECRET}"],
        [f"ghp_{SECRET}{SECRET}"],
        ["--cookie", f"session={SECRET}"],
    ],
)
def test_secrets_are_left_out(words: list[str]) -> None:
    left = secrets(["python", *words])
    assert len(left) == len(words) + 1
    assert SECRET not in " ".join(left)
    assert HIDDEN in " ".join(left)
    assert secrets(left) == left


@pytest.mark.parametrize(
    "words",
    [
        ["app.py", "--verbose", "--port=8000"],
        ["-m", "pytest", "-k", "password", "tests"],
        ["--tokenizer=bert", "--keyboard", "--monkey=1"],
        ["-c", "import time; time.sleep(0.1)"],
        ["http://127.0.0.1:8000/a:b@c"],
        ["-u", "script.py"],
        ["--workers", "4", "KEYMAP=de"],
        ["--author=me", "--passes=3"],
    ],
)
def test_what_is_no_secret_stays(words: list[str]) -> None:
    assert secrets(["python", *words]) == ("python", *words)


def test_a_recording_has_no_secret(tmp_path: Path, interpreter: Path) -> None:
    """Of the command, of what it starts, in the trace file itself."""
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', '0', *sys.argv[1:]])"
    arguments = [f"--password={SECRET}", "--token", SECRET, "--name=me"]
    done = record(tmp_path, interpreter, "-c", child, *arguments)
    assert done.code == 0
    told = [process.command for process in done.metadata.processes if process.python]
    assert len(told) == 2
    for command in (done.metadata.command, *told):
        assert command[-4:] == (f"--password={HIDDEN}", "--token", HIDDEN, "--name=me")
    assert SECRET.encode() not in done.path.read_bytes()


def test_redacted_leaves_out_arguments_and_folders() -> None:
    process = Process(0, 1, None, ("/usr/bin/python3", "a.py", "x"), "3.11", None, "gil", 0, 1, 0)
    metadata = Metadata(("/usr/bin/python3", "a.py"), 0, 1, 0, 0, "tsc", 0, None, 0, "1")
    files = ["/home/me/shop/app/a.py", "/home/me/other/b.py", "<frozen os>", "c.py"]
    metadata = replace(
        metadata,
        processes=(process,),
        stacks=tuple(Stack(i, None, file, "f", 1, False) for i, file in enumerate(files)),
    )
    left = redacted(metadata, "/home/me/shop")
    assert left.command == left.processes[0].command == ("python3", HIDDEN)
    assert [stack.file for stack in left.stacks] == ["app/a.py", "…/b.py", "<frozen os>", "c.py"]
    assert "/home" not in repr(left)


def test_record_redact(tmp_path: Path, interpreter: Path) -> None:
    (tmp_path / "busy.py").write_text("sum(range(10**6))\nimport json\n" * 3, encoding="utf-8")
    done = record(tmp_path, interpreter, "busy.py", "an-argument", options=("--redact",))
    assert done.code == 0
    assert done.metadata.command == (interpreter.name, HIDDEN)
    data = done.path.read_bytes()
    assert b"an-argument" not in data
    assert str(tmp_path).encode() not in data

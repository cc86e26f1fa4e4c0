"""The command line's own manners: help, version, one line an error, exit codes."""

from __future__ import annotations

import argparse
import errno
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import gilscope as package
from gilscope import __version__, cli
from gilscope.cli import interpreter
from gilscope.errors import GilscopeError, TraceError


def command(run: Any) -> Any:
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--number", type=int)

    return SimpleNamespace(HELP="a command", add_arguments=add_arguments, run=run)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts a function in the place of every command's `run`."""

    def install(run: Any) -> None:
        monkeypatch.setattr(cli, "load", lambda package, name: command(run))

    return install


def gilscope(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gilscope", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        **options,
    )


def test_version() -> None:
    done = gilscope("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"gilscope {__version__}\n", "")


def test_help_lists_every_command() -> None:
    done = gilscope("--help")
    assert done.returncode == 0
    assert re.findall(r"^ {2}(\w+)", done.stdout, re.MULTILINE) == list(cli.COMMANDS)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_each_command_has_help(name: str) -> None:
    done = gilscope(name, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: gilscope {name}")


@pytest.mark.parametrize(
    "arguments", [("nonsense",), ("--nonsense",), ("summary",), ("summary", "--nonsense")]
)
def test_a_mistake_in_use_is_one_line_and_2(arguments: tuple[str, ...]) -> None:
    done = gilscope(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("gilscope: ")


def test_an_option_that_nobody_knows_is_what_is_told() -> None:
    assert "--nonsense" in gilscope("--nonsense").stderr


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("record",), ("gilscope-PROGRAM-PID.pftrace", "the program to record")),
        (("run",), ("the program to run",)),
        (("recover",), ("the folder of", "the trace to write")),
    ],
)
def test_help_tells_what_each_argument_is(command: tuple[str, ...], told: tuple[str, ...]) -> None:
    text = " ".join(gilscope(*command, "--help").stdout.split())
    assert [part for part in told if part not in text] == []


def test_what_is_loaded_late_is_listed_all_the_same() -> None:
    names = dir(package)
    assert {"Condition", "atomic", "locks", "read", "set_atomic", "yield_gil"} <= set(names)
    assert [name for name in package.__all__ if getattr(package, name) is None] == []


def test_the_list_of_interpreters_fits_a_terminal_and_is_lines_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    about = f"3.13.5, built in: {'locks, ' * 10} /a/path/{'long' * 10}"
    interpreter._show("3.13 ", about)
    assert capsys.readouterr().out == f"3.13 {about}\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    interpreter._show("3.13 ", about)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 2
    assert max(map(len, lines)) <= 60
    assert " ".join(" ".join(lines).split()) == " ".join(f"3.13 {about}".split())


@pytest.mark.parametrize(("error", "code"), [(GilscopeError, 1), (TraceError, 3)])
def test_an_error_is_one_line_with_its_exit_code(
    error: type[GilscopeError], code: int, stand_in: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(args: argparse.Namespace) -> int:
        raise error("what\nhappened")

    stand_in(run)
    assert cli.main(["dump"]) == code
    assert capsys.readouterr() == ("", "gilscope: what happened\n")


def test_a_file_that_cannot_be_had_is_one_line(
    stand_in: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(args: argparse.Namespace) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", "the/file")

    stand_in(run)
    assert cli.main(["dump"]) == 1
    assert capsys.readouterr() == ("", "gilscope: the/file: Permission denied\n")


def test_the_commands_exit_code_and_options_pass_through(stand_in: Any) -> None:
    stand_in(lambda args: args.number)
    assert cli.main(["dump", "--number", "77"]) == 77


def test_options_are_not_guessed_from_abbreviations(
    stand_in: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(lambda args: 0)
    assert cli.main(["dump", "--num", "77"]) == 2
    assert "--num" in capsys.readouterr().err


def test_a_recording_that_is_to_be_too_small_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Not made larger without a word; and the program does not run."""
    ran = tmp_path / "ran"
    command = [sys.executable, "-c", f"open({str(ran)!r}, 'w')"]
    assert cli.main(["record", "--max-size", "1023K", *command]) == 2
    out, errors = capsys.readouterr()
    assert (out, errors.count("\n")) == ("", 1)
    assert errors.startswith("gilscope: --max-size: 1023K is too little: at least 1M")
    assert not ran.exists()


def test_ctrl_c_is_one_line(stand_in: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def run(args: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    stand_in(run)
    assert cli.main(["dump"]) == 130
    assert capsys.readouterr() == ("", "gilscope: interrupted\n")


@pytest.mark.parametrize("size", [1, 100_000])  # it fails at the end, or in the middle
@pytest.mark.parametrize(
    ("where", "reason"),
    [(">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")],
)
def test_standard_output_that_takes_nothing_is_one_line(size: int, where: str, reason: str) -> None:
    program = (
        "import sys\n"
        "from types import SimpleNamespace\n"
        "from gilscope import cli\n"
        f"run = lambda args: print('x' * {size}) or 0\n"
        "cli.load = lambda package, name: SimpleNamespace(\n"
        "    HELP='', add_arguments=lambda parser: None, run=run)\n"
        "sys.exit(cli.main(['dump']))\n"
    )
    for arguments in (("-c", program), ("-m", "gilscope", "--version")):
        done = subprocess.run(
            ["sh", "-c", f'exec "$@" {where}', "sh", sys.executable, *arguments],
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        assert done.stderr == f"gilscope: cannot write: {reason}\n"
        assert done.returncode == 1


def test_a_reader_that_left_is_no_error(tmp_path: Path) -> None:
    """As in `gilscope dump … | head -1`, with the pipe closed before the first byte."""
    program = (
        "import sys\n"
        "from types import SimpleNamespace\n"
        "from gilscope import cli\n"
        "run = lambda args: [print('line') for _ in range(100_000)] and 0\n"
        "cli.load = lambda package, name: SimpleNamespace(\n"
        "    HELP='', add_arguments=lambda parser: None, run=run)\n"
        "sys.stdin.read()\n"
        "sys.exit(cli.main(['dump']))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    process.stdin.close()
    with process.stderr:
        assert process.stderr.read() == b""
    assert process.wait(timeout=60) == 141

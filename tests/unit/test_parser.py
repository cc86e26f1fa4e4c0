"""What is said of a mistake in use, what a project sets, and the names that options have."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gilscope import cli
from gilscope.cli import manual, project
from gilscope.cli.parser import Parser, take_settings
from gilscope.errors import UsageError

MISTAKES = {
    ("recrod", "python"): "there is no command recrod; did you mean record?",
    ("--versio",): "there is no option --versio; did you mean --version?",
    ("nothing-like-it",): "there is no command nothing-like-it (see `gilscope --help`)",
    ("summary",): "TRACE is missing (see `gilscope summary --help`)",
    ("compare",): "BEFORE and AFTER are missing",
    ("cut", "a.pftrace"): "-o is missing",
    ("summary", "a", "b"): "b is one argument too many",
    ("summary", "a", "--tpo", "3"): "there is no option --tpo; did you mean --top?",
    ("summary", "a", "--tpo=3"): "there is no option --tpo; did you mean --top?",
    ("summary", "a", "--top"): "--top needs a value: --top N",
    ("summary", "a", "--top", "many"): "--top takes a whole number, not 'many'",
    ("summary", "a", "--json=yes"): "--json takes no value; leave out 'yes'",
    ("snapshot", "app"): "PID takes a whole number, not 'app'",
    ("export", "a", "--format", "colapsed"): "there is no colapsed; did you mean collapsed?",
    ("record", "--policy", "fair", "x"): "there is no fair; there is classic and io-priority",
    ("bench", "prob"): "there is no benchmark prob; did you mean probe?",
    ("interpreter", "buld"): "there is no action buld; did you mean build?",
}


@pytest.mark.parametrize("arguments", MISTAKES, ids=" ".join)
def test_a_mistake_is_told_with_what_to_do(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    out, errors = capsys.readouterr()
    assert (out, errors.count("\n")) == ("", 1)
    assert MISTAKES[arguments] in errors
    assert "argument" not in errors.replace("one argument", "")  # argparse's own words


def test_without_a_command_the_help_stands_in_groups(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    out = capsys.readouterr().out
    at = [out.index(f"\n{title}:\n") for title in cli.GROUPS]
    assert at == sorted(at)
    with pytest.raises(SystemExit) as end:
        cli.main(["--help"])
    assert (end.value.code, capsys.readouterr().out) == (0, out)


@pytest.mark.parametrize(
    ("asked", "same"), [(("help",), ("--help",)), (("help", "cut"), ("cut", "--help"))]
)
def test_help_is_a_word_too(
    asked: tuple[str, ...], same: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    printed = []
    for arguments in (asked, same):
        with pytest.raises(SystemExit):
            cli.main(arguments)
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] != ""


def options() -> Iterator[tuple[str, argparse.Action]]:
    """Every option of every command, whoever adds one."""
    for name in cli.COMMANDS:
        parsers = [Parser(prog=name)]
        cli.load("gilscope.cli", name).add_arguments(parsers[0])
        while parsers:
            parser = parsers.pop()
            for action in parser._actions:
                if isinstance(action, argparse._SubParsersAction):
                    parsers += action.choices.values()
                elif action.option_strings and action.help != argparse.SUPPRESS:
                    yield parser.prog, action


def test_every_option_has_a_long_name_and_output_is_one_everywhere() -> None:
    seen = set()
    for command, action in options():
        assert any(name.startswith("--") for name in action.option_strings), command
        if "-o" in action.option_strings:
            assert "--output" in action.option_strings, command
            seen.add(command)
        assert action.help, f"{command} {action.option_strings}: no help"
    assert {"record", "cut", "report", "export", "snapshot", "recover"} <= seen


def parser() -> Parser:
    made = Parser(prog="gilscope record")
    cli.load("gilscope.cli", "record").add_arguments(made)
    return made


def test_settings_are_defaults_and_the_command_line_wins() -> None:
    settings = {"policy": "io-priority", "grace": 20, "max-size": "2M", "no-summary": True}
    made = parser()
    take_settings(made, settings, "here")
    args = made.parse_args(["--grace", "7", "python"])
    assert (args.policy, args.grace, args.max_size) == ("io-priority", 7, 2 << 20)
    assert (args.no_summary, args.no_follow, args.output) == (True, False, None)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"polcy": "classic"}, "here: there is no setting polcy; did you mean policy?"),
        ({"policy": "fair"}, "here: policy is classic or io-priority, not 'fair'"),
        ({"max-size": "tiny"}, "here: max-size: not a size: tiny"),
        ({"no-summary": "yes"}, "here: no-summary is true or false, not 'yes'"),
        ({"repeat": "often"}, "here: repeat: not a number: often"),
        ({"keep": [30]}, "here: keep takes one value, not [30]"),
        ({"output": "a.pftrace"}, "here: there is no setting output"),  # a file is written once
        ({"command": "python"}, "here: there is no setting command"),
        ({"m": "module"}, "here: there is no setting m"),
    ],
)
def test_a_setting_that_is_wrong_is_told(settings: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        take_settings(parser(), settings, "here")


def test_settings_come_from_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "below").mkdir()
    file = tmp_path / "pyproject.toml"
    monkeypatch.chdir(tmp_path / "below")
    file.write_text("[tool.other\n")  # another tool's matter
    assert project.defaults("record") == ({}, "")
    file.write_text("[tool.gilscope.summary]\ntop = 3\n")
    assert project.defaults("record") == ({}, "")
    assert project.defaults("summary") == ({"top": 3}, f"{file}, [tool.gilscope.summary]")
    file.write_text("[tool.gilscope.record]\ntop = 3\n")
    assert cli.main(["record", "true"]) == 2
    file.write_text("[tool.gilscope\n")
    with pytest.raises(UsageError, match="cannot be read"):
        project.defaults("record")


def test_a_folder_that_is_gone_has_no_settings(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    program = "import os, sys; os.rmdir(sys.argv[1])\nfrom gilscope.cli import project\n"
    done = subprocess.run(
        [sys.executable, "-c", program + "print(project.defaults('record'))", gone],
        cwd=gone,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "({}, '')\n"


def test_the_manual_page_has_every_command_and_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    monkeypatch.setenv("COLUMNS", "200")
    text = manual.page()
    monkeypatch.setenv("COLUMNS", "30")
    assert manual.page() == text
    monkeypatch.delenv("COLUMNS")
    assert '"1970-01-02" "gilscope 0.1.0"' in text.splitlines()[0].replace("\\-", "-")
    plain = text.replace("\\-", "-")
    assert [name for name in cli.COMMANDS if f"gilscope {name}" not in plain] == []
    missing = [
        (command, action.option_strings)
        for command, action in options()
        if action.dest != "help" and f"\\fB{action.option_strings[-1]}" not in plain
    ]
    assert missing == []
    file = tmp_path / "gilscope.1"
    file.write_text(text)
    monkeypatch.setenv("MANWIDTH", "100")
    done = subprocess.run(
        ["man", "--warnings", "-l", file], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "GILSCOPE(1)" in done.stdout

"""`gilscope completion`: what a shell needs to complete gilscope's commands, options and files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from gilscope.errors import InstallationError

HELP = "print what bash, zsh or fish needs to complete gilscope's commands"

# How the line is called that makes a shell take it for good.
SHELLS = {
    "bash": "echo 'eval \"$(gilscope completion bash)\"' >> ~/.bashrc",
    "zsh": "gilscope completion zsh > a file named _gilscope in a folder of $fpath",
    "fish": "gilscope completion fish > ~/.config/fish/completions/gilscope.fish",
}

_How = dict[str, str | dict[str, str]]  # by shell, as shtab has it

# Of an argument that is a program's command line, and of one that is a process.
_COMMAND: _How = {
    "bash": "_gilscope_command",
    "zsh": "_gilscope_command",
    "fish": "(__fish_complete_command)",
}
_PID: _How = {"bash": "_gilscope_pid", "zsh": "_pids", "fish": "(__fish_complete_pids)"}
_PREAMBLE = {
    "bash": """\
_gilscope_command() { compgen -c -- "$1"; compgen -f -- "$1"; }
_gilscope_pid() { compgen -W "$(cd /proc && echo [1-9]*)" -- "$1"; }
""",
    "zsh": """\
_gilscope_command() {
  _alternative 'commands:command:_command_names -e' 'files:file:_files'
}
""",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The shell."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "to have it in every new shell:\n" + "".join(
        f"  {name:6}{line}\n" for name, line in SHELLS.items()
    )
    parser.add_argument("shell", metavar="SHELL", choices=tuple(SHELLS), help="bash, zsh or fish")


def run(args: argparse.Namespace) -> int:
    """Print the shell's script. Raises InstallationError."""
    sys.stdout.write(script(args.shell))
    return 0


def script(shell: str) -> str:
    """The script for one of SHELLS. Raises InstallationError."""
    try:
        import shtab  # noqa: PLC0415 - only for who asks
    except ImportError as error:
        raise InstallationError(
            "shtab is missing, which writes completions: pip install shtab"
        ) from error
    from gilscope.cli import whole  # noqa: PLC0415 - which loads this file

    parser = whole()
    for action in _actions(parser):
        metavar = action.metavar if isinstance(action.metavar, str) else ""
        if action.type is Path:
            kind = shtab.DIRECTORY if metavar == "DIR" else shtab.FILE
        elif metavar == "PID":
            kind = _PID
        elif action.nargs == argparse.REMAINDER:
            kind = _COMMAND
        else:
            continue
        setattr(action, "complete", kind)  # noqa: B010 - shtab looks for it there
    return shtab.complete(parser, shell, preamble=_PREAMBLE.get(shell, ""))


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from _actions(below)
        else:
            yield action

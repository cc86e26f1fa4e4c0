"""The command line: one file a command, and only the file of the command that was asked for is
imported, so that `gilscope record` starts the program as soon as it can.

Each command is a module with `HELP`, `add_arguments(parser)` and `run(args) -> exit code`.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Protocol, cast

from gilscope import __doc__ as description
from gilscope import __version__
from gilscope.cli import project, streams
from gilscope.cli.parser import Parser, meant, take_settings
from gilscope.errors import GilscopeError, UsageError
from gilscope.safe_text import escaped

# In the order and under the titles that `gilscope --help` shows.
GROUPS = {
    "run and record": ("record", "attach", "run", "snapshot", "recover"),
    "look at a process that runs": ("top", "stacks", "metrics"),
    "read a trace": ("summary", "view", "report", "dump", "export", "cut"),
    "compare and judge": ("compare", "check"),
    "this machine": ("doctor", "interpreter", "bench", "completion"),
}
COMMANDS = tuple(name for names in GROUPS.values() for name in names)

# Commands whose options have defaults in `[tool.gilscope.COMMAND]` of pyproject.toml.
WITH_SETTINGS = ("record", "summary")

# What a shell reports for a process that died of the signal.
EXIT_SIGINT = 130
EXIT_SIGPIPE = 141

# Of standard output, as a rule: what a command opens it looks after itself.
_CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


class Command(Protocol):
    """What a module in `gilscope.cli` or `gilscope.benchmarks` gives."""

    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's options."""

    def run(self, args: argparse.Namespace) -> int:
        """Do it; return the exit code. Raises GilscopeError for what the user must be told."""


def load(package: str, name: str) -> Command:
    """The module of the command `name`."""
    return cast(Command, import_module(f"{package}.{name}"))


def main(argv: Sequence[str] | None = None) -> int:
    """Run `gilscope ARGV…` and return its exit code; errors become one line on stderr."""
    streams.prepare()
    try:
        code = _run(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
    except GilscopeError as error:
        print(f"gilscope: {escaped(' '.join(str(error).splitlines()))}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt as error:
        print(f"gilscope: {str(error) or 'interrupted'}", file=sys.stderr)
        return EXIT_SIGINT
    except BrokenPipeError:
        streams.abandon_stdout()
        return EXIT_SIGPIPE
    except OSError as error:
        if error.filename is not None:
            what = os.fsdecode(error.filename)
        elif error.errno in _CANNOT_WRITE:
            what = "cannot write"
            streams.abandon_stdout()
        else:
            raise  # a mistake of ours
        print(f"gilscope: {escaped(what)}: {error.strerror}", file=sys.stderr)
        return 1
    return code


def _run(argv: Sequence[str]) -> int:
    if argv and argv[0] == "help":
        argv = [*argv[1:2], "--help"]
    if argv and argv[0] in COMMANDS:
        name = argv[0]
        command = load(__name__, name)
        parser = Parser(prog=f"gilscope {name}", description=command.HELP)
        command.add_arguments(parser)
        if name in WITH_SETTINGS:
            take_settings(parser, *project.defaults(name))
        return command.run(parser.parse_args(argv[1:]))
    overview = _overview()
    if not argv:
        overview.print_help()
        return 0
    if argv[0].startswith("-"):
        overview.parse_args(argv)
    raise UsageError(
        f"there is no command {argv[0]}{meant(argv[0], COMMANDS)} (see `gilscope --help`)"
    )


def _overview() -> Parser:
    """Help and version; a command stands in it by its name and its one line alone."""
    parser = Parser(
        prog="gilscope",
        usage="gilscope COMMAND …",
        description=description,
        epilog="Each command has --help. Begin with: gilscope record python app.py",
    )
    parser.add_argument("-V", "--version", action="version", version=f"gilscope {__version__}")
    for title, names in GROUPS.items():
        group = parser.add_argument_group(title)
        for name in names:
            group.add_argument(name, nargs="?", help=load(__name__, name).HELP)
    return parser


def whole() -> Parser:
    """All commands with all their options in one parser: for completions and the manual page."""
    parser = Parser(prog="gilscope", description=description)
    parser.add_argument("-V", "--version", action="version", version=f"gilscope {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        command = load(__name__, name)
        command.add_arguments(
            commands.add_parser(name, help=command.HELP, description=command.HELP)
        )
    return parser

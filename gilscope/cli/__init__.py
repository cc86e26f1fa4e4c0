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
from typing import Any, NoReturn, Protocol, cast

from gilscope import __doc__ as description
from gilscope import __version__
from gilscope.cli import streams
from gilscope.errors import GilscopeError, UsageError
from gilscope.safe_text import escaped

COMMANDS = (
    "record",
    "run",
    "snapshot",
    "summary",
    "view",
    "report",
    "dump",
    "export",
    "cut",
    "compare",
    "check",
    "recover",
    "interpreter",
    "bench",
    "doctor",
)

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


class Parser(argparse.ArgumentParser):
    """Reports a mistake as one line, like every other error, instead of usage and a line."""

    def __init__(self, **options: object) -> None:
        options.setdefault("allow_abbrev", False)
        super().__init__(**options)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        raise UsageError(f"{message} (see `{self.prog} --help`)")

    def _print_message(self, message: str, file: Any = None) -> None:
        """Help or version; argparse's own ends with 0 where they cannot be written."""
        file = file or sys.stdout
        file.write(message)
        file.flush()


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
    if argv and argv[0] in COMMANDS:
        command = load(__name__, argv[0])
        parser = Parser(prog=f"gilscope {argv[0]}", description=command.HELP)
        command.add_arguments(parser)
        return command.run(parser.parse_args(argv[1:]))
    overview = _overview()
    overview.parse_args(argv)
    overview.error("the following arguments are required: COMMAND")


def _overview() -> Parser:
    parser = Parser(prog="gilscope", description=description)
    parser.add_argument("--version", action="version", version=f"gilscope {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND")  # an option that nobody knows is told first
    for name in COMMANDS:
        commands.add_parser(name, help=load(__name__, name).HELP)
    return parser

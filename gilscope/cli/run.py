"""`gilscope run`: run a command under another policy of the GIL, without a trace."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from gilscope.errors import UsageError
from gilscope.recorder.policy import CLASSIC, CONDVARS, GRACE_US, POLICIES, Choice

HELP = "run a command so that its IO threads get the GIL first; record nothing"

_MOST_GRACE_US = 1_000_000
# What the environment tells the probe and no option does: variable, pattern, what it may be.
_SETTINGS = (
    ("GILSCOPE_CONDVAR", "|".join(CONDVARS), f"it is one of {', '.join(CONDVARS)}"),
    ("GILSCOPE_STACKS_US", r"\d{1,11}(\.\d*)?|off", "it is a number of microseconds, or off"),
)


def grace(text: str) -> int:
    """Microseconds, up to a second. Raises ArgumentTypeError."""
    if not text.isascii() or not text.isdigit() or int(text) > _MOST_GRACE_US:
        raise argparse.ArgumentTypeError(f"not a number of microseconds up to a second: {text}")
    return int(text)


def add_policy_arguments(parser: argparse.ArgumentParser) -> None:
    """`--policy` and `--grace`, of `run` and of `record`."""
    parser.add_argument(
        "--policy",
        choices=POLICIES,
        help="classic: as CPython does; io-priority: threads that come back from IO first",
    )
    parser.add_argument(
        "--grace",
        metavar="US",
        type=grace,
        help="with io-priority: how long a thread that computes keeps the GIL after a thread came "
        f"back from IO, in microseconds (default: {GRACE_US})",
    )


def check_environment(environment: Mapping[str, str] = os.environ) -> None:
    """Refuse what the probe would pass over in silence. Raises UsageError."""
    for variable, good, what in _SETTINGS:
        value = environment.get(variable)
        if value and not re.fullmatch(good, value, re.ASCII):
            raise UsageError(f"{variable}={value}: {what}")


def choice(args: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> Choice | None:
    """What the options say, else the environment; None where neither does. Raises UsageError."""
    name, grace_us = args.policy, args.grace
    if name is None and (variable := environment.get("GILSCOPE_POLICY")):
        if variable not in POLICIES:
            raise UsageError(f"GILSCOPE_POLICY={variable}: a policy is {' or '.join(POLICIES)}")
        name = variable
    if grace_us is None and (variable := environment.get("GILSCOPE_GRACE_US")):
        try:
            grace_us = grace(variable)
        except argparse.ArgumentTypeError as error:
            raise UsageError(f"GILSCOPE_GRACE_US: {error}") from error
    if args.grace is not None and name in (None, CLASSIC):
        raise UsageError("--grace is of the policy io-priority; add --policy io-priority")
    return Choice(name, grace_us) if name else None


def add_command_argument(parser: argparse.ArgumentParser, about: str) -> None:
    """The command to start; an option that is meant for its Python is told as a mistake."""
    for option in ("-m", "-c", "-X", "-W", "-u"):
        parser.add_argument(option, action=_OfPython, help=argparse.SUPPRESS)
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND…", help=about)


class _OfPython(argparse.Action):
    """An option of Python's, where gilscope's stand."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        option = self.option_strings[0]
        raise UsageError(
            f"{option} is an option of Python's; did you mean `{parser.prog} python {option} …`?"
        )


def command_of(args: argparse.Namespace) -> list[str]:
    """The command's words; none where none was given. Raises UsageError for an empty name."""
    command: list[str] = args.command[1:] if args.command[:1] == ["--"] else args.command
    if command and not command[0]:
        raise UsageError("the command's name is empty; is a variable in it not set?")
    return command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `gilscope run`."""
    parser.usage = "gilscope run --policy io-priority|classic [--grace US] [--] COMMAND…"
    add_policy_arguments(parser)
    add_command_argument(parser, "the program to run and its arguments")


def run(args: argparse.Namespace) -> int:
    """Returns the command's own exit code."""
    command = command_of(args)
    check_environment()
    chosen = choice(args)
    if chosen is None:
        raise UsageError(
            "run how? gilscope run --policy io-priority COMMAND schedules its GIL for IO threads "
            "first; --policy classic leaves that as it is, for gilscope.atomic alone"
        )
    if not command:
        raise UsageError("run what? for example: gilscope run --policy io-priority python app.py")
    from gilscope.recorder.run import run as run_command  # noqa: PLC0415

    return run_command(command, chosen)

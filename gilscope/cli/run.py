"""`gilscope run`: run a command under another policy of the GIL, without a trace."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping

from gilscope.errors import UsageError
from gilscope.recorder.policy import CLASSIC, GRACE_US, POLICIES, Choice

HELP = "run a command with its GIL scheduled for IO threads first; record nothing"

_MOST_GRACE_US = 1_000_000


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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `gilscope run`."""
    parser.usage = "gilscope run --policy io-priority|classic [--grace US] [--] COMMAND…"
    add_policy_arguments(parser)
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND…")


def run(args: argparse.Namespace) -> int:
    """Returns the command's own exit code."""
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    chosen = choice(args)
    if chosen is None:
        raise UsageError("run how? for example: gilscope run --policy io-priority python app.py")
    if not command:
        raise UsageError("run what? for example: gilscope run --policy io-priority python app.py")
    from gilscope.recorder.run import run as run_command  # noqa: PLC0415

    return run_command(command, chosen)

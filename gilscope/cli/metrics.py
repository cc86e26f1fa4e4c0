"""`gilscope metrics`: counters of a program that runs, as Prometheus reads them."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from gilscope.cli.run import add_command_argument, command_of
from gilscope.errors import UsageError

if TYPE_CHECKING:
    from gilscope.live.serve import Address
    from gilscope.live.watching import Watching
    from gilscope.recorder.session import Session

HELP = "counters of a program as Prometheus reads them: what each thread held and waited so far"

LISTEN = "127.0.0.1:9464"
_PERIOD_S = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `gilscope metrics`."""
    parser.usage = "gilscope metrics [--listen [HOST:]PORT] PID | [--] COMMAND…"
    parser.add_argument(
        "--listen",
        metavar="[HOST:]PORT",
        default=LISTEN,
        help="where /metrics is served (default: %(default)s; 0: any free port)",
    )
    add_command_argument(
        parser, "a process that is counted already, or the program to start and its arguments"
    )


def run(args: argparse.Namespace) -> int:
    """Returns the command's own exit code; of a PID 0, when its recording is over."""
    from gilscope.live.serve import Address  # noqa: PLC0415

    command = command_of(args)
    if not command:
        raise UsageError("metrics of what? for example: gilscope metrics python app.py")
    address = Address.parse(args.listen)
    if len(command) == 1 and command[0].isdecimal():
        return _of_process(int(command[0]), address)
    return _of_command(command, address)


def _of_process(pid: int, address: Address) -> int:
    from gilscope.live.serve import Server  # noqa: PLC0415
    from gilscope.live.watching import Watching  # noqa: PLC0415
    from gilscope.recorder.notes import RINGS  # noqa: PLC0415
    from gilscope.recorder.record import say  # noqa: PLC0415
    from gilscope.recorder.running import find  # noqa: PLC0415

    directory = find(pid)
    if directory is None:
        raise UsageError(
            f"nothing counts process {pid}; start it with: gilscope metrics COMMAND…, or "
            "gilscope record --counters COMMAND…"
        )
    watching = Watching(directory / RINGS)
    with Server(address) as server:
        server.serve(watching.groups)
        say(f"counters of process {pid}: {server.url}")
        while watching.goes_on():
            time.sleep(_PERIOD_S)
    return 0


def _of_command(command: Sequence[str], address: Address) -> int:
    from gilscope.live.serve import Server  # noqa: PLC0415
    from gilscope.live.watching import Watching  # noqa: PLC0415
    from gilscope.recorder.options import Options  # noqa: PLC0415
    from gilscope.recorder.record import STACKS, record, say  # noqa: PLC0415

    os.environ[STACKS] = "off"
    watching: Watching | None = None
    with ExitStack() as stack:
        server = stack.enter_context(Server(address))

        def beat(session: Session) -> None:
            nonlocal watching
            if watching is None:
                watching = Watching(session.path)
                server.serve(watching.groups)
                say(f"counters of {command[0]}: {server.url}")
            watching.tick()

        recorded = record(command, Options(counters=True), beat=beat)
        recorded.session.discard()
    return recorded.exit_code

"""`gilscope attach`: record a process that runs already."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from gilscope.cli.output import check_trace
from gilscope.cli.record import conclude, may_stream
from gilscope.cli.recording_options import add_recording_arguments, options_of
from gilscope.cli.report import check_report
from gilscope.cli.run import check_environment, choice
from gilscope.errors import UsageError

if TYPE_CHECKING:
    from gilscope.recorder.beside import Beside
    from gilscope.recorder.session import Session

HELP = "record a process that runs already, and its children; they go on when the recording ends"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `gilscope attach`."""
    parser.usage = "gilscope attach [-o FILE] [-d SECONDS] [options] PID"
    parser.add_argument("pid", metavar="PID", type=int, help="the process")
    add_recording_arguments(parser, "record this process alone")


def run(args: argparse.Namespace) -> int:
    """Returns 0; raises NotAttachable (exit code 4) where the process cannot be attached to."""
    if args.pid <= 0:
        raise UsageError(f"{args.pid} is no process's number")
    check_environment()
    policy, options = choice(args, {}), options_of(args)
    if args.report:
        check_report(args.report)
    check_trace(args.output)
    from gilscope.attach.record import Wish, attach, command_of  # noqa: PLC0415
    from gilscope.attach.refuse import refuse_unknown  # noqa: PLC0415
    from gilscope.recorder.beside import Beside  # noqa: PLC0415
    from gilscope.recorder.record import STACKS, say, trace_name  # noqa: PLC0415

    refuse_unknown(args.pid)
    trace = args.output or trace_name(command_of(args.pid), args.pid)
    stacks = "off" if args.no_stacks else os.environ.get(STACKS, "")

    def beside(session: Session, _: int) -> Beside:
        flags = (
            str(int(flag)) for flag in (not args.no_follow, not (args.no_summary or args.quiet))
        )
        return Beside([str(session.directory), str(trace), *flags])

    recorded = attach(
        Wish(
            args.pid,
            options,
            policy,
            stacks,
            beside if may_stream(args, options) else None,
            trace,
            (lambda _: None) if args.quiet else say,
        )
    )
    return conclude(args, recorded, trace, 0, preloaded=False)

"""The options of what is recorded when, the same for every command that records."""

from __future__ import annotations

import argparse

from gilscope.errors import UsageError
from gilscope.recorder.options import DUMP_EVERY_S, DumpWhen, Keep, Options


def seconds(text: str) -> float:
    """A number of seconds above 0. Raises ArgumentTypeError."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e9:
        raise argparse.ArgumentTypeError(f"not a number of seconds: {text}")
    return number


def add_course_arguments(parser: argparse.ArgumentParser) -> None:
    """--keep, --dump-when, --dump-every, -d, --delay."""
    parser.add_argument(
        "--keep",
        metavar="SECONDS|SIZE",
        help="flight recorder: keep only the last so much (30, 5min, 64M); the trace is written at "
        "the end, by gilscope snapshot PID, and on SIGUSR2 to gilscope",
    )
    parser.add_argument(
        "--dump-when",
        metavar="METRIC=TIME",
        help="with --keep: also write it when one of these was longer: io_wait, cpu_wait, wait, "
        "hold (io_wait=50ms)",
    )
    parser.add_argument(
        "--dump-every",
        metavar="SECONDS",
        type=seconds,
        default=DUMP_EVERY_S,
        help="with --dump-when: at most once in so many seconds (default: %(default)g)",
    )
    parser.add_argument(
        "-d",
        "--duration",
        metavar="SECONDS",
        type=seconds,
        help="record for so long, then write the trace; the program goes on",
    )
    parser.add_argument(
        "--delay",
        metavar="SECONDS",
        type=seconds,
        default=0.0,
        help="begin to record so much later",
    )
    parser.add_argument(
        "--sched",
        action="store_true",
        help="also record when the kernel gave each thread a processor (costs 1 to 2 µs a switch)",
    )


def options_of(args: argparse.Namespace) -> Options:
    """What the arguments ask for. Raises UsageError."""
    keep = Keep.parse(args.keep) if args.keep else None
    dump_when = DumpWhen.parse(args.dump_when) if args.dump_when else None
    if dump_when and not keep:
        raise UsageError("--dump-when is for a flight recorder: add --keep SECONDS|SIZE")
    if keep and keep.size and args.max_size:
        raise UsageError("--keep SIZE is the size of the rings; leave --max-size out")
    return Options(
        max_bytes=args.max_size,
        follow=not args.no_follow,
        keep=keep,
        dump_when=dump_when,
        dump_every=args.dump_every,
        duration=args.duration,
        delay=args.delay,
        sched=args.sched,
    )

"""The options that every command has which records."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from gilscope.cli.run import add_policy_arguments
from gilscope.errors import UsageError
from gilscope.recorder.options import DUMP_EVERY_S, DumpWhen, Keep, Options
from gilscope.recorder.session import LEAST_BYTES

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def seconds(text: str) -> float:
    """A number of seconds above 0. Raises ArgumentTypeError."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e9:
        raise argparse.ArgumentTypeError(f"not a number of seconds: {text}")
    return number


def size(text: str) -> int:
    """Bytes of `500M`, `1.5GiB`, `4194304`. Raises ArgumentTypeError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?)(?:i?b)?", text.strip().lower())
    if not match or float(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"not a size: {text} (try 500M or 2G)")
    number = int(float(match[1]) * _UNITS[match[2]])
    if number < LEAST_BYTES:
        raise argparse.ArgumentTypeError(f"{text} is too little: at least 1M")
    return number


def add_recording_arguments(parser: argparse.ArgumentParser, alone: str) -> None:
    """All of them but what is recorded; `alone` is what --no-follow says."""
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        type=Path,
        help="the trace to write, .pftrace or .pftrace.gz (default: gilscope-PROGRAM-PID.pftrace)",
    )
    parser.add_argument(
        "--max-size",
        metavar="SIZE",
        type=size,
        help="stop recording (never the program) past this size (default: the disk limits it)",
    )
    _add_course_arguments(parser)
    parser.add_argument("--no-summary", action="store_true", help="do not print the summary")
    parser.add_argument(
        "--quiet", action="store_true", help="no summary, and no line about the trace: errors alone"
    )
    parser.add_argument("--no-follow", action="store_true", help=alone)
    parser.add_argument(
        "--no-stacks",
        action="store_true",
        help="do not record at which Python line long holds and waits ended",
    )
    parser.add_argument(
        "--sched",
        action="store_true",
        help="also record when the kernel gave each thread a processor (costs 1 to 2 µs a switch)",
    )
    parser.add_argument(
        "--redact",
        action="store_true",
        help="write neither arguments nor folders outside the current one into the trace",
    )
    parser.add_argument(
        "--report", metavar="FILE.html", type=Path, help="also make a report of the trace"
    )
    add_policy_arguments(parser)


def _add_course_arguments(parser: argparse.ArgumentParser) -> None:
    """--keep, --dump-when, --dump-every, -d, --delay: what of its life."""
    parser.add_argument(
        "--keep",
        metavar="SECONDS|SIZE",
        help="flight recorder: keep only the last seconds (30, 5min) or bytes (64M); the trace is "
        "written at the end, by gilscope snapshot PID, and when gilscope gets SIGUSR2",
    )
    parser.add_argument(
        "--dump-when",
        metavar="METRIC=TIME",
        help="with --keep: also write it when an io_wait, cpu_wait, wait or hold was longer than "
        "this (io_wait=50ms)",
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
        help="record for so many seconds, then write the trace; the program goes on",
    )
    parser.add_argument(
        "--delay",
        metavar="SECONDS",
        type=seconds,
        default=0.0,
        help="begin to record so many seconds later",
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

"""`gilscope snapshot`: what a recording that runs has kept, as a trace."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import mmap
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import NamedTuple

from gilscope import _native
from gilscope.cli.output import check_trace
from gilscope.errors import GilscopeError, RecordingError, UsageError

HELP = "write a trace of what a running recording has kept; the recording goes on"

_PATIENCE_S = 10.0  # for a recorder that ticks every 20 ms
_PERIOD_S = 0.005
_ENDED = "the recording has just ended; it writes its trace itself"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `gilscope snapshot`."""
    parser.usage = "gilscope snapshot PID [-o FILE]"
    parser.add_argument(
        "pid",
        metavar="PID",
        type=int,
        help="a process that is recorded, or the gilscope that records it",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        type=Path,
        help="the trace to write (default: gilscope-PID-snapshot-N.pftrace)",
    )


def run(args: argparse.Namespace) -> int:
    """Raises UsageError where nothing records that process."""
    from gilscope.recorder.record import say  # noqa: PLC0415
    from gilscope.recorder.running import find  # noqa: PLC0415

    check_trace(args.output)
    running = find(args.pid)
    if running is None:
        raise UsageError(
            f"no recording of process {args.pid} runs here; start one with: "
            "gilscope record --keep 30 COMMAND…"
        )
    trace = args.output or _free_name(args.pid)
    written = write(running, trace)
    since = "" if written.seconds is None else f", the last {written.seconds:,.1f} s"
    say(f"{written.events:,} events in {trace}{since}; see it with: gilscope view {trace}")
    return 0


def main() -> int:
    """For the recorder, which starts it: DIRECTORY TRACE; answers with one line of JSON."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.nice(5)
    directory, trace = sys.argv[1:]
    try:
        answer: dict[str, object] = {"events": write(Path(directory), Path(trace)).events}
    except (GilscopeError, OSError, MemoryError, ImportError) as error:
        answer = {"error": " ".join(str(error).split()) or type(error).__name__}
    print(json.dumps(answer), flush=True)
    return 0


class Written(NamedTuple):
    """What is in a snapshot."""

    events: int
    seconds: float | None  # that were kept; None: all since the recording began


def write(directory: Path, trace: Path) -> Written:
    """Copies the rings of this recording and writes the copy as a trace. Raises GilscopeError."""
    from gilscope.perfetto.writer import write_trace  # noqa: PLC0415 - heavy
    from gilscope.trace.rings import open_rings  # noqa: PLC0415

    copied = copy(directory)
    try:
        with open_rings(copied) as rings:
            metadata = rings.metadata
            events = write_trace(rings, trace).events
    finally:
        shutil.rmtree(copied, ignore_errors=True)
    kept = metadata.kept_from_ns
    seconds = None if kept is None else ((metadata.stopped_ns or metadata.end_ns) - kept) / 1e9
    return Written(events, seconds)


def copy(directory: Path) -> Path:
    """A folder with a copy of the rings of a recording that runs. Raises RecordingError."""
    engine = _native.engine()
    pointer, u32, u64 = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64
    engine.gs_rooms_copy.argtypes = [pointer, pointer, u64]
    engine.gs_rooms_copy.restype = None
    engine.gs_rooms_ticks.argtypes = [pointer]
    engine.gs_rooms_ticks.restype = u64
    engine.gs_rooms_are_gone.argtypes = [pointer]
    for name in ("hold", "is_held", "let_go"):
        getattr(engine, f"gs_rooms_{name}").argtypes = [pointer, u32]
    try:
        return _copied(engine, directory)
    except FileNotFoundError as error:  # it may remove its folder at any time
        raise RecordingError(_ENDED) from error


def _copied(engine: ctypes.CDLL, directory: Path) -> Path:
    from gilscope.recorder.notes import LOOKS, NOTES, RINGS  # noqa: PLC0415
    from gilscope.recorder.session import choose_directory, free_bytes  # noqa: PLC0415
    from gilscope.recorder.switches import SWITCHES  # noqa: PLC0415

    with open(directory / RINGS, "r+b") as file:
        rings = mmap.mmap(file.fileno(), 0)
        used = os.fstat(file.fileno()).st_blocks * 512
    held = ctypes.c_char.from_buffer(rings)
    target = choose_directory()
    try:
        if free_bytes(target) < used:
            raise RecordingError(
                f"{target.parent} has no room for a copy of the rings ({used >> 20} MiB); "
                "GILSCOPE_DIR names another place"
            )
        with open(target / RINGS, "x+b") as file:
            os.fchmod(file.fileno(), 0o600)
            os.truncate(file.fileno(), len(rings))
            made = mmap.mmap(file.fileno(), len(rings))
        into = ctypes.c_char.from_buffer(made)
        header, pid = ctypes.addressof(held), os.getpid()
        _hold(engine, header, pid)
        try:
            until = engine.gs_rooms_ticks(header)
            engine.gs_rooms_copy(header, ctypes.addressof(into), until)
            shutil.copy(directory / NOTES, target / NOTES)
            for name in (LOOKS, SWITCHES):
                with contextlib.suppress(FileNotFoundError):
                    shutil.copy(directory / name, target / name)
            if engine.gs_rooms_are_gone(header):
                raise RecordingError(_ENDED)
            if not engine.gs_rooms_is_held(header, pid):
                raise RecordingError("the recording's rings went on while they were copied")
        finally:
            engine.gs_rooms_let_go(header, pid)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    return target


def _hold(engine: ctypes.CDLL, header: int, pid: int) -> None:
    end = time.monotonic() + _PATIENCE_S
    while engine.gs_rooms_hold(header, pid):
        if time.monotonic() > end:
            raise RecordingError("another snapshot of this recording does not come to its end")
        time.sleep(_PERIOD_S)
    while not engine.gs_rooms_is_held(header, pid):
        if engine.gs_rooms_are_gone(header):
            raise RecordingError(_ENDED)
        if time.monotonic() > end:
            engine.gs_rooms_let_go(header, pid)
            raise RecordingError("the gilscope that records does not answer; is it stopped?")
        time.sleep(_PERIOD_S)


def _free_name(pid: int) -> Path:
    number = 1
    while (path := Path(f"gilscope-{pid}-snapshot-{number}.pftrace")).exists():
        number += 1
    return path

"""Recordings that were left behind: rings whose recorder is gone, killed or without room for the
trace. A recorder holds a lock on its ring file for as long as it lives.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from gilscope.errors import TraceError, UsageError
from gilscope.recorder.notes import RINGS, Notes
from gilscope.recorder.places import directories, is_one

_BLOCK = 512  # bytes: what st_blocks counts


class Left(NamedTuple):
    """One of them."""

    directory: Path
    bytes: int  # that it takes
    age_s: float  # since its recorder wrote to it
    command: tuple[str, ...]  # none where that cannot be read
    programs: tuple[int, ...]  # pids that still have the rings mapped


def found() -> list[Left]:
    """Those of this user, in every place where a recording puts its rings; the oldest first."""
    left = []
    for directory in directories():
        with suppress(OSError, UsageError), _locked(directory):
            left.append(_look(directory))
    return sorted(left, key=lambda one: -one.age_s)


def remove(directory: Path) -> None:
    """Remove a recording that was left behind, rings and all. Raises UsageError for what is none,
    or is in use."""
    if not is_one(directory):
        raise UsageError(f"{directory}: no folder of a recording of yours")
    try:
        with _locked(directory):
            if programs := _mapped_by(directory):
                pids = ", ".join(map(str, programs))
                raise UsageError(
                    f"{directory}: its program (pid {pids}) still runs and writes to it; its memory"
                    " comes back when that has ended"
                )
            shutil.rmtree(directory)
    except OSError as error:
        raise UsageError(f"{directory}: cannot be removed: {error.strerror}") from error


def lock(descriptor: int) -> None:
    """Tell others that the recorder of this ring file lives. Raises OSError."""
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Keep it as it is meanwhile. Raises OSError, UsageError: its recorder lives."""
    descriptor = os.open(directory / RINGS, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        lock(descriptor)
        yield
    except BlockingIOError:
        raise UsageError(f"{directory}: this recording is under way") from None
    finally:
        os.close(descriptor)


def _look(directory: Path) -> Left:
    files = [entry.stat(follow_symlinks=False) for entry in os.scandir(directory)]
    try:
        command = Notes.read(directory).command
    except TraceError:
        command = ()
    return Left(
        directory=directory,
        bytes=sum(file.st_blocks for file in files) * _BLOCK,
        age_s=max(0.0, time.time() - max(file.st_mtime for file in files)),
        command=command,
        programs=_mapped_by(directory),
    )


def _mapped_by(directory: Path) -> tuple[int, ...]:
    """Processes of this user that have the rings mapped."""
    rings = str(directory.resolve() / RINGS)
    pids = []
    for name in os.listdir("/proc"):
        if name.isdecimal() and int(name) != os.getpid():
            with (
                suppress(OSError),
                open(f"/proc/{name}/maps", encoding="utf-8", errors="replace") as maps,
            ):
                if any(line.rstrip("\n").endswith(rings) for line in maps):
                    pids.append(int(name))
    return tuple(sorted(pids))

"""Why a recording holds nothing, in one line."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gilscope.trace.schema import Process


def nothing_recorded(command: Sequence[str], processes: Sequence[Process]) -> str | None:
    """One line that says what and why, when no GIL was seen; None when there is one."""
    why = why_no_gil(command, [p.interpreter for p in processes])
    return why and f"nothing recorded: {why}"


def why_no_gil(command: Sequence[str], interpreters: Sequence[str]) -> str | None:
    """Why none of the processes that the probe was in had a GIL; None when one had.

    `interpreters` are as `schema.Process.interpreter`, one a process.
    """
    if "gil" in interpreters:
        return None
    if "free-threaded" in interpreters:
        return "this Python is a free-threaded build and has no GIL (PYTHON_GIL=1 turns it on)"
    if not interpreters:
        return why_not_loaded(shutil.which(command[0]) or command[0])
    return f"no Python interpreter ran in {command[0]}"


def left_out(processes: int, programs: int, gils: int) -> Iterator[str]:
    """One line for each kind of thing that ran and is not in the recording."""
    if programs:
        yield (
            f"{_were(programs, 'program')} started with a cleared environment, as another "
            "user or in a chroot, where the recording cannot be found"
        )
    if processes:
        yield f"{_were(processes, 'process', 'es')} left out: the rings had no room for more"
    if gils:
        yield f"{_were(gils, 'GIL')} left out: a process can have 1,024, and 256 at a time"


def _were(number: int, noun: str, plural: str = "s") -> str:
    return f"1 {noun} was" if number == 1 else f"{number:,} {noun}{plural} were"


def why_not_loaded(program: str) -> str:
    """Why the probe was not loaded into a program."""
    try:
        with open(program, "rb") as file:
            head = file.read(4096)
        mode = os.stat(program).st_mode
    except OSError:
        return f"{program} did not load the probe"
    if mode & 0o6000:
        return f"{program} is setuid or setgid, and such programs ignore what is preloaded"
    if head[:4] == b"\x7fELF":
        if head[4] == 1:
            return f"{program} is a 32-bit program"
        # An ELF program without an interpreter of its own (PT_INTERP) loads nothing.
        offset, size, count = (
            int.from_bytes(head[a:b], "little") for a, b in ((32, 40), (54, 56), (56, 58))
        )
        kinds = {head[offset + i * size : offset + i * size + 4] for i in range(count)}
        if b"\x03\0\0\0" not in kinds:
            return f"{program} is statically linked, so nothing can be preloaded into it"
    return f"{program} did not load the probe"

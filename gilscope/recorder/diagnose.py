"""Why a recording holds nothing, in one line."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from typing import Protocol

_OLDEST = (3, 9)
_HEAD = 1 << 20  # an ELF file names the libraries that it needs near its beginning


class Ran(Protocol):
    """A process image that the probe was in: schema.Process or session.Image."""

    @property
    def command(self) -> tuple[str, ...]:
        """Its arguments, as the kernel has them."""

    @property
    def interpreter(self) -> str:
        """`gil`, `free-threaded` or `none`."""


def nothing_recorded(
    command: Sequence[str], processes: Sequence[Ran], follow: bool = True
) -> str | None:
    """One line that says what and why, when no GIL was seen; None when there is one."""
    why = why_no_gil(command, processes)
    if why and not follow:
        why += "; --no-follow left out what it started"
    return why and f"nothing recorded: {why}"


def why_no_gil(command: Sequence[str], processes: Sequence[Ran]) -> str | None:
    """Why none of the processes that the probe was in had a GIL; None when one had."""
    kinds = {process.interpreter for process in processes}
    if "gil" in kinds:
        return None
    if "free-threaded" in kinds:
        return "this Python is a free-threaded build and has no GIL (PYTHON_GIL=1 turns it on)"
    if not processes:
        return why_not_loaded(_found(command[0]))
    for process in processes:
        program = process.command[0] if process.command else ""
        version = python_version(_found(program))
        if version and version < _OLDEST:
            number, oldest = (".".join(map(str, of)) for of in (version, _OLDEST))
            return f"{program} runs Python {number}; gilscope records {oldest} and later"
    return f"no Python interpreter ran in {command[0]}"


def _found(program: str) -> str:
    return shutil.which(program) or program


def python_version(program: str) -> tuple[int, int] | None:
    """Which Python an executable is, from its name or from the libpython that it needs."""
    name = re.fullmatch(r"python(\d)\.(\d+)\w*", os.path.basename(os.path.realpath(program)))
    if name:
        return int(name[1]), int(name[2])
    try:
        with open(program, "rb") as file:
            library = re.search(rb"libpython(\d)\.(\d+)\w*\.so", file.read(_HEAD))
    except OSError:
        return None
    return (int(library[1]), int(library[2])) if library else None


def left_out(processes: int, programs: int, gils: int, program: str) -> Iterator[str]:
    """One line for each kind of thing that ran and is not in the recording."""
    if programs:
        which = f" ({program}{' was the first' if programs > 1 else ''})" if program else ""
        yield (
            f"{_were(programs, 'program')} started with another environment, as another "
            f"user or in a chroot, where the recording cannot be found{which}"
        )
    if processes:
        yield f"{_were(processes, 'process', 'es')} left out: the rings had no room for more"
    if gils:
        yield (
            f"{_were(gils, 'GIL')} left out: "
            "a process can have 256 at a time, or in Python Plus 1,024 in all"
        )


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

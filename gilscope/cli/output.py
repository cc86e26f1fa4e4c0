"""`-o FILE`: what can be known of it before there is anything to write."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection
from pathlib import Path

from gilscope.errors import UsageError

_HEAD = 1 << 14  # bytes of a file that tell what it is


def check_output(output: Path | None) -> None:
    """Find out whether a file can be made there; None: in this folder. Raises UsageError."""
    target = Path(os.path.realpath(output or "any"))  # a link stays a link
    if str(output) == "-":
        raise UsageError("-o names a file; standard output is not one")
    try:
        if output and _is_special(target):
            if not os.access(target, os.W_OK):
                raise UsageError(f"{output}: not writable; name another place with -o FILE")
            return
        if not target.parent.is_dir():
            raise UsageError(f"{target.parent}: no such directory for {target.name}")
        _try(target.parent)
    except OSError as error:
        raise UsageError(
            f"{output or target.parent}: {error.strerror}; name another place with -o FILE"
        ) from error


def check_trace(output: Path | None) -> None:
    """As `check_output`; and a file that is no trace is not overwritten by one."""
    from gilscope.perfetto.recognise import is_trace  # noqa: PLC0415

    check_output(output)
    try:
        other = output and output.is_file() and output.stat().st_size and not is_trace(output)
    except OSError as error:
        raise UsageError(f"{output}: {error.strerror}; name another place with -o FILE") from error
    if other:
        raise UsageError(f"{output} exists and is no trace of gilscope's; name another with -o")


def check_made(output: Path | None, begins: bytes, what: str) -> None:
    """As `check_output`; and a file that does not begin (a regular expression) as `what` of
    gilscope's does is not overwritten by one."""
    check_output(output)
    try:
        head = b""
        if output and output.is_file():
            with output.open("rb") as file:
                head = file.read(_HEAD)
    except OSError as error:
        raise UsageError(f"{output}: {error.strerror}; name another place with -o FILE") from error
    if head and not re.match(begins, head, re.DOTALL):
        raise UsageError(f"{output} exists and is no {what} of gilscope's; name another with -o")


def check_folder(output: Path, files: Collection[str]) -> None:
    """Find out whether a folder of these files can be made there, or be written again.

    Raises UsageError, also for a folder that has anything else in it.
    """
    try:
        if output.is_dir():
            others = sorted({entry.name for entry in output.iterdir()} - set(files))
            if others:
                raise UsageError(
                    f"{output} has other files in it ({others[0]}); name another folder with -o DIR"
                )
            _try(output)
        elif output.exists() or output.is_symlink():
            raise UsageError(f"{output} is no folder; name another place with -o DIR")
        else:
            check_output(output)
    except OSError as error:
        raise UsageError(f"{output}: {error.strerror}; name another place with -o DIR") from error


def _is_special(target: Path) -> bool:
    """A device or a pipe, which is written to as it is. Raises UsageError for a directory."""
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        raise UsageError(f"{target} is a directory; -o names a file")
    return not stat.S_ISREG(mode)


def _try(folder: Path) -> None:
    """Make a file there; to ask for permission is not enough (/proc). Raises OSError."""
    path = folder / f".gilscope.{os.getpid()}.part"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    path.unlink()

"""What must not stand in a trace that is shown to others.

Two rules. `secrets` always holds: the values of arguments that are named like a secret, passwords
in URLs, and what looks like a token by itself are left out of every command that is written.
`redacted` leaves out more: all arguments, and of files outside the working directory all but the
name. A trace holds no environment but what stands among the arguments (`env API_KEY=…`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from gilscope.trace.schema import EventSource, LookFrame, Metadata, Stack, Totals

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

HIDDEN = "***"
ELSEWHERE = "…"  # the folder of a file outside the working directory

_SECRET_ENDS = (
    *("password", "passwd", "passphrase", "passwort", "secret", "secrets", "token", "apikey"),
    *("credential", "credentials", "authorization", "cookie", "accesskey", "secretkey"),
)
_SECRET_WORDS = {"auth", "bearer", "jwt", "key", "pat", "pin", "pw", "session", "sessionid"}
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_NAME = r"[A-Za-z_][\w.-]*"

_OPTION = re.compile(rf"--?({_NAME})\Z")
# NAME=value, --name=value, "name": "value", ?name=value, Name: value up to the line's end.
_ASSIGNED = re.compile(
    rf"""(?P<name>{_NAME})(?P<sign>["']?\s*[=:]\s*(?:(?:bearer|basic|token)\s+)?)"""
    r"""(?P<value>"[^"]*"|'[^']*'|[^\s"'&;,)}\]]+)""",
    re.IGNORECASE,
)
_URL = re.compile(r"(?P<before>[A-Za-z][\w+.-]*://[^\s/:@]*:)[^\s/@]+(?=@)")
_URL_TOKEN = re.compile(r"(?P<before>[A-Za-z][\w+.-]*://)[^\s/:@]{20,}(?=@)")
_TOKEN = re.compile(
    r"\b(?:gh[a-z]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|xox[a-z]-[\w-]{10,}|sk-[\w-]{16,}"
    r"|pypi-[\w-]{16,}|A(?:KI|SI)A[A-Z0-9]{16}|AIza[\w-]{30,}"
    r"|eyJ[\w-]{8,}\.[\w-]+\.[\w-]*)"
)
_USER = {"-u", "--user", "--proxy-user"}  # of curl and its like: NAME:PASSWORD


def secrets(command: Sequence[str]) -> tuple[str, ...]:
    """The command without the values that are secret by their name or their look.

    Each is `***`; the number of words stays, and the first, the program, is left alone. What is
    redacted already stays as it is.
    """
    words = list(command[:1])
    name_before: str | None = None
    for word in command[1:]:
        if name_before in _USER and re.match(r"[^:/]+:.", word):
            words.append(word.split(":", 1)[0] + ":" + HIDDEN)
        elif name_before and not word.startswith("-") and _is_secret(name_before):
            words.append(HIDDEN)
        else:
            words.append(_without_secrets(word))
        name_before = word if _OPTION.match(word) else None
    return tuple(words)


def redacted(metadata: Metadata, folder: str | None = None) -> Metadata:
    """The same recording without arguments, and without the folders of files outside `folder`.

    `folder` is the working directory (default: this process's); files in it stand relative to it.
    """
    folder = os.path.join(folder or os.getcwd(), "")
    return replace(
        metadata,
        command=_program(metadata.command),
        processes=tuple(
            replace(process, command=_program(process.command)) for process in metadata.processes
        ),
        stacks=tuple(_without_folder(stack, folder) for stack in metadata.stacks),
        look_frames=tuple(_without_folder(frame, folder) for frame in metadata.look_frames),
    )


class Redacted:
    """An event source that tells no more than `redacted` leaves of it."""

    def __init__(self, source: EventSource, folder: str | None = None) -> None:
        self._source = source
        self._folder = folder or os.getcwd()
        self._whole: Metadata | None = None
        self.name = source.name

    @property
    def metadata(self) -> Metadata:
        """What `redacted` leaves of the source's, which may grow while it is read."""
        if self._source.metadata is not self._whole:
            self._whole = self._source.metadata
            self._left = redacted(self._whole, self._folder)
        return self._left

    def batches(self) -> Iterator[NDArray[np.void]]:
        """The source's own."""
        return self._source.batches()

    @property
    def totals(self) -> Totals:
        """The source's own."""
        return self._source.totals

    def locate(self, index: int) -> int:
        """The source's own."""
        return self._source.locate(index)


def _is_secret(name: str) -> bool:
    parts = [part.lower() for part in _PART.findall(name)]
    return any(part.endswith(_SECRET_ENDS) for part in (*parts, "".join(parts))) or (
        bool(parts) and (parts[-1] in _SECRET_WORDS or parts[0] in _SECRET_WORDS - {"key", "pin"})
    )


def _without_secrets(word: str) -> str:
    def hide(match: re.Match[str]) -> str:
        if not _is_secret(match["name"]):
            return match[0]
        quote = match["value"][0] if match["value"][0] in "\"'" else ""
        return match["name"] + match["sign"] + quote + HIDDEN + quote

    word = _URL.sub(rf"\g<before>{HIDDEN}", word)
    word = _URL_TOKEN.sub(rf"\g<before>{HIDDEN}", word)
    word = _TOKEN.sub(HIDDEN, word)
    return _ASSIGNED.sub(hide, word)


def _program(command: Sequence[str]) -> tuple[str, ...]:
    """The program's name and one `***` for its arguments."""
    if not command:
        return ()
    return (os.path.basename(command[0]), *([HIDDEN] if len(command) > 1 else []))


_Framed = TypeVar("_Framed", Stack, LookFrame)


def _without_folder(stack: _Framed, folder: str) -> _Framed:
    if stack.file.startswith(folder):
        return replace(stack, file=stack.file[len(folder) :])
    if not os.path.isabs(stack.file):  # <frozen …>, or relative as the program gave it
        return stack
    return replace(stack, file=f"{ELSEWHERE}/{os.path.basename(stack.file)}")

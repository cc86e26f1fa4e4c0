"""What the recorder knows and the rings do not: `recording.json` beside them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from gilscope.errors import TraceError

RINGS = "rings"
NOTES = "recording.json"
_BLOCK = 4096
_ROOM = 256  # for the numbers that come later


class Notes(NamedTuple):
    """Written when a recording begins and again, with more, when it ends."""

    command: tuple[str, ...]
    gilscope: str  # the version that records
    root_pid: int | None = None
    root_end_ns: int | None = None  # CLOCK_MONOTONIC: the recorder saw the command's process end
    exit_code: int | None = None
    stopped: str | None = None  # "max-size" | "disk-full"
    policy: dict[str, Any] | None = None  # the fields of schema.Policy

    def write(self, directory: Path) -> None:
        """Write the notes into a recording's directory, over older ones. Raises OSError.

        In place and as whole blocks: what was written when the recording began needs no more room
        when it ends, so a file system that is full by then cannot take them.
        """
        text = json.dumps(self._asdict()).encode()
        descriptor = os.open(directory / NOTES, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, text.ljust(-(-(len(text) + _ROOM) // _BLOCK) * _BLOCK))
        finally:
            os.close(descriptor)

    @classmethod
    def read(cls, directory: Path) -> Notes:
        """Read them back. Raises TraceError."""
        try:
            fields: dict[str, Any] = json.loads((directory / NOTES).read_text(encoding="utf-8"))
            fields["command"] = tuple(fields["command"])
            return cls(**fields)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise TraceError(f"{directory / NOTES}: cannot be read ({error})") from error

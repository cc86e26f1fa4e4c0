"""What the recorder knows and the rings do not: `recording.json` beside them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from gilscope.errors import TraceError

RINGS = "rings"
# Why recording stopped before the program did.
MAX_SIZE, DISK_FULL, LITTLE_ROOM, LIMITS = "max-size", "disk-full", "little-room", "limits"
LEFT = "left"  # the user asked twice, and the program did not end
SNAPSHOT = "snapshot"  # it did not stop: this is a copy of what was kept
DURATION = "duration"  # -d SECONDS
NOTES = "recording.json"
LOOKS = "looks.json"  # of recorder/standing.py
_BLOCK = 4096
_ROOM = 256  # for the numbers that come later


class Notes(NamedTuple):
    """Written when a recording begins and again, with more, when it ends."""

    command: tuple[str, ...]
    gilscope: str  # the version that records
    root_pid: int | None = None
    root_end_ns: int | None = None  # CLOCK_MONOTONIC: the recorder saw the command's process end
    exit_code: int | None = None
    stopped: str | None = None  # MAX_SIZE …
    limit: str | None = None  # what `stopped` is where the rings' limit is met
    policy: dict[str, Any] | None = None  # the fields of schema.Policy
    throttled: int | None = None  # by a quota of its cgroup: fields of schema.Metadata
    throttled_ns: int | None = None

    def write(self, directory: Path) -> None:
        """Write the notes into a recording's directory, over older ones. Raises OSError.

        In place and as whole blocks: what was written when the recording began needs no more room
        when it ends, so a file system that is full by then cannot take them.
        """
        text = json.dumps(self._asdict()).encode()
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(directory / NOTES, flags, 0o600)
        try:
            os.write(descriptor, text.ljust(-(-(len(text) + _ROOM) // _BLOCK) * _BLOCK))
        finally:
            os.close(descriptor)

    @classmethod
    def read(cls, directory: Path) -> Notes:
        """Read them back. Raises TraceError."""
        try:
            fields: dict[str, Any] = json.loads((directory / NOTES).read_text(encoding="utf-8"))
            if not isinstance(fields["command"], list):
                raise TypeError("bad command")
            fields["command"] = tuple(fields["command"])
            notes = cls(**fields)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise TraceError(f"{directory / NOTES}: cannot be read ({error})") from error
        if wrong := notes._wrong():
            raise TraceError(f"{directory / NOTES}: cannot be read (bad {', '.join(wrong)})")
        return notes

    def _wrong(self) -> list[str]:
        """Fields whose values no recorder writes."""
        good = {
            "command": all(isinstance(word, str) for word in self.command),
            "gilscope": isinstance(self.gilscope, str),
            "root_pid": _is_number(self.root_pid),
            "root_end_ns": _is_number(self.root_end_ns),
            "exit_code": _is_number(self.exit_code),
            "stopped": self.stopped is None or isinstance(self.stopped, str),
            "limit": self.limit is None or isinstance(self.limit, str),
            "policy": self.policy is None or _is_policy(self.policy),
            "throttled": _is_number(self.throttled),
            "throttled_ns": _is_number(self.throttled_ns),
        }
        return [name for name, fine in good.items() if not fine]


def _is_number(value: object) -> bool:
    return value is None or (type(value) is int and 0 <= value < 1 << 62)


def _is_policy(value: object) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() <= {"name", "grace_ns", "switch_interval_ns"}
        and isinstance(value.get("name", ""), str)
        and all(_is_number(number) for key, number in value.items() if key != "name")
    )

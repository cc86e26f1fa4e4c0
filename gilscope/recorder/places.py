"""Where recordings of this user keep their rings, a folder each."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from gilscope.recorder.notes import RINGS

_NAME = re.compile(r"gilscope-[0-9a-f]{12}")  # of session.choose_directory


def directories() -> Iterator[Path]:
    """Those of every recording, whether its recorder lives or not. One may be gone by the time that
    it is looked at."""
    variables = ("GILSCOPE_DIR", "XDG_RUNTIME_DIR", "TMPDIR")
    places = ["/dev/shm", *map(os.environ.get, variables), "/tmp"]
    for place in dict.fromkeys(os.path.realpath(place) for place in places if place):
        with suppress(OSError):
            for name in sorted(os.listdir(place)):
                directory = Path(place, name)
                if is_one(directory):
                    yield directory


def is_one(directory: Path) -> bool:
    """Whether a recorder of this user made it."""
    try:
        status = directory.lstat()
        return (
            bool(_NAME.fullmatch(directory.name))
            and stat.S_ISDIR(status.st_mode)
            and status.st_uid == os.geteuid()
            and stat.S_ISREG((directory / RINGS).lstat().st_mode)
        )
    except OSError:
        return False

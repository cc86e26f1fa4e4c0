"""Which recordings run on this machine, by the rings that they keep."""

from __future__ import annotations

import os
import re
import struct
from contextlib import suppress
from pathlib import Path

from gilscope.recorder.notes import RINGS
from gilscope.recorder.places import directories
from gilscope.recorder.session import FIRST_UNIT, UNIT

_MAGIC = 0x31474E4952534731
_PROCESS_PAGE = 0x50534731
_HEADER = struct.Struct("<QIIII")
_END_UNIT_OFFSET = 64
_PAGE = struct.Struct("<IIIII")
_RINGS = re.compile(rf"(/.*/gilscope-[0-9a-f]{{12}})/{RINGS}$", re.MULTILINE)


def find(pid: int) -> Path | None:
    """The folder of the recording that runs of this process, or by this gilscope."""
    for directory in directories():
        recorder = _recorder(directory)
        if recorder is None or not _lives(recorder):
            continue
        with suppress(OSError, struct.error):  # it has just ended, or begun
            if recorder == pid or (pid in _recorded(directory) and _lives(pid)):
                return directory
    mapped = _mapped(pid)  # in a container it has another pid, and another place for rings
    recorder = _recorder(mapped) if mapped else None
    return mapped if recorder is not None and _lives(recorder) else None


def _mapped(pid: int) -> Path | None:
    """The folder of the rings that a process here has mapped, as it is reached from here."""
    try:
        text = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    found = _RINGS.search(text)
    return Path(f"/proc/{pid}/root{found[1]}") if found else None


def _recorder(directory: Path) -> int | None:
    try:
        with open(directory / RINGS, "rb") as file:
            magic, _, _, recorder, _ = _HEADER.unpack(file.read(_HEADER.size))
    except (OSError, struct.error):
        return None
    return recorder if magic == _MAGIC else None


def _recorded(directory: Path) -> set[int]:
    """Pids of the processes that have a page."""
    pids = set()
    with open(directory / RINGS, "rb") as file:
        (end,) = struct.unpack("<Q", os.pread(file.fileno(), 8, _END_UNIT_OFFSET))
        end = min(end, os.fstat(file.fileno()).st_size // UNIT)
        unit = FIRST_UNIT
        while unit < end:
            magic, units, _, _, pid = _PAGE.unpack(
                os.pread(file.fileno(), _PAGE.size, unit * UNIT).ljust(_PAGE.size, b"\0")
            )
            if magic == _PROCESS_PAGE:
                pids.add(pid)
            unit += max(units, 1) if magic else 1
    return pids


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OverflowError:
        return False
    except PermissionError:
        return True
    return pid > 0

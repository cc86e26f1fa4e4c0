"""The loader's locks in a process that runs.

Whoever opens a library has them for as long as the library's constructors take, and these may wait
for the GIL. So nothing is opened with the GIL held while one of them is taken.
"""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

from gilscope.errors import Unsupported
from gilscope.live.memory import Memory
from gilscope.live.modules import Module

_NAME = re.compile(r"ld(-linux.*\.so\.\d+|-2\.\d+\.so)")
_MUTEX = struct.Struct("<iIiIi20s")  # lock, count, owner, users, kind, the rest
_RECURSIVE = 1
_MOST_TID = 1 << 22


class LoaderLocks(NamedTuple):
    """Addresses of its recursive mutexes, which stand side by side."""

    addresses: tuple[int, ...]

    def owner(self, memory: Memory) -> int | None:
        """The thread (as the process knows it) that is in the loader; None: nobody is."""
        for address in self.addresses:
            data = memory.read(address, _MUTEX.size)
            if data is not None:
                lock, _, owner, *_ = _MUTEX.unpack(data)
                if lock or owner:
                    return int(owner)
        return None


def loader_locks(memory: Memory, modules: list[Module]) -> LoaderLocks:
    """Raises Unsupported where there are none to be seen, or they cannot be told for certain."""
    loader = next((m for m in modules if _NAME.fullmatch(m.path.rpartition("/")[2])), None)
    rtld = loader.elf.symbol("_rtld_global") if loader else None
    if rtld is None:
        raise Unsupported(
            f"process {memory.pid} does not run on glibc; start the program by gilscope record"
        )
    runs = _runs(memory.readable(rtld.address, rtld.size))
    if len(runs) != 1:
        raise Unsupported(
            f"the locks of the loader in process {memory.pid} cannot be told for certain; start the"
            " program by gilscope record"
        )
    return LoaderLocks(tuple(rtld.address + at for at in runs[0]))


def _runs(data: bytes) -> list[list[int]]:
    """Offsets of two to four such mutexes in a row, each row once."""
    found: list[list[int]] = []
    at = 0
    while at + _MUTEX.size <= len(data):
        row = []
        while _is_lock(data, at):
            row.append(at)
            at += _MUTEX.size
        if 2 <= len(row) <= 4:
            found.append(row)
        at += 0 if row else 8
    return found


def _is_lock(data: bytes, at: int) -> bool:
    if at + _MUTEX.size > len(data):
        return False
    lock, count, owner, users, kind, rest = _MUTEX.unpack_from(data, at)
    return (
        kind == _RECURSIVE
        and 0 <= lock <= 2
        and 0 <= owner <= _MOST_TID
        and (count == 0) == (owner == 0)
        and count < 1 << 16
        and users <= 1
        and not rest.strip(b"\0")
    )

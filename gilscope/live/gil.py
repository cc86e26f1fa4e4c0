"""The one place outside the probe that decides that some memory is a GIL.

It is found by all signs together, in many reads: a sensible interval, `locked` 0 or 1, both mutexes
of CPython's kind and not nested, both condition variables on the monotonic clock, and a holder that
is a thread state of the process. From 3.12 on each interpreter has a pointer to its GIL besides,
which has to lead to the same place.
"""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass

from gilscope.live.memory import Memory

_GIL = struct.Struct("<QQi4xQ48s40s48s40s")  # from `interval` on, the same from 3.9 to 3.15
GIL_BYTES = _GIL.size  # 208
COND, MUTEX, SWITCH_COND, SWITCH_MUTEX = 32, 80, 120, 168
_MUTEX = struct.Struct("<IIIII")  # glibc: lock, count, owner, users, kind
_INTERVAL_MOST = 10_000_000_000  # us; a program may have set one of hours
_READS = 16
_PAUSE_S = 0.0003
_REFERENCES = (36, 28)  # where glibc's condition variable counts its waiters: up to 2.40, later
_MONOTONIC = 2
_KINDS = (0, 256, 512)  # a plain mutex; lock elision leaves a mark


@dataclass(frozen=True)
class GilState:
    """One reading of a GIL."""

    interval_us: int
    holder: int | None  # thread state that has it; None: it is free, or its holder is not known
    last_holder: int  # the thread state that had it last; 0: none yet
    locked: bool
    switches: int  # how often another thread than the last one took it, since it was made
    waiters: int | None  # threads that wait for it now; None: not told by its condition variable


@dataclass
class Gil:
    """A GIL of a process that runs. Its address is that of `interval`."""

    memory: Memory
    address: int
    references: int | None  # offset in `cond` of the count of waiters; None: not known

    def owns(self, address: int) -> bool:
        """Whether the word lies where threads sleep that wait for this GIL."""
        return COND <= address - self.address < SWITCH_COND

    def hands_over(self, address: int) -> bool:
        """Whether it lies where the thread that yielded sleeps, until another has the GIL."""
        return SWITCH_COND <= address - self.address < GIL_BYTES

    def contains(self, address: int) -> bool:
        """Whether `address` lies in it."""
        return 0 <= address - self.address < GIL_BYTES

    def read(self) -> GilState | None:
        """What it says now; None where it cannot be read."""
        data = self.memory.read(self.address, GIL_BYTES)
        if data is None:
            return None
        interval, holder, locked, switches, cond, mutex, _, _ = _GIL.unpack(data)
        waiters = None
        if self.references is not None:
            waiters = int.from_bytes(cond[self.references : self.references + 4], "little") >> 3
            if locked != 1 and mutex[:4] == b"\2\0\0\0":
                waiters += 1  # it was woken, and waits for the mutex of whoever woke it
        is_held = locked == 1
        return GilState(
            interval, holder if is_held and holder else None, holder, is_held, switches, waiters
        )


def candidates(memory: Memory, start: int, size: int) -> list[int]:
    """Addresses in this stretch that look like a GIL in one read."""
    data = memory.readable(start, size)
    words = memoryview(data[: len(data) // 8 * 8]).cast("Q")
    found = []
    for index in range(len(words) - GIL_BYTES // 8 + 1):
        if not 0 < words[index] <= _INTERVAL_MOST or words[index + 2] & 0xFFFFFFFE:
            continue
        if _looks_right(data[index * 8 : index * 8 + GIL_BYTES]):
            found.append(start + index * 8)
    return found


def confirmed(memory: Memory, address: int) -> Gil | None:
    """The GIL at `address`; None where one of many reads says that it is none."""
    references = set(_REFERENCES)
    for number in range(_READS):
        data = memory.read(address, GIL_BYTES)
        if data is None or not _looks_right(data):
            return None
        references &= _marked(data)
        if number + 1 < _READS:
            time.sleep(_PAUSE_S)
    if not references:
        return None
    return Gil(memory, address, references.pop() if len(references) == 1 else None)


def _marked(data: bytes) -> set[int]:
    return {
        offset
        for offset in _REFERENCES
        if all(data[cond + offset] & 7 == _MONOTONIC for cond in (COND, SWITCH_COND))
    }


def _looks_right(data: bytes) -> bool:
    interval, holder, locked, switches, _, mutex, _, switch_mutex = _GIL.unpack(data)
    if not (1 <= interval <= _INTERVAL_MOST and locked in (0, 1) and switches and holder % 8 == 0):
        return False
    for one in (mutex, switch_mutex):
        lock, count, owner, users, kind = _MUTEX.unpack_from(one)
        if lock > 2 or count or kind not in _KINDS or users > 1 << 22 or owner > 1 << 22:
            return False
    return bool(_marked(data))

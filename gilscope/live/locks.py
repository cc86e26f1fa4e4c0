"""Locks of a program, as objects: which are met in frames, who has them.

An RLock knows its owner, an import's lock too. A Lock does not: CPython keeps no note of it. But a
thread that is inside `with lock:` keeps what will release it on its frame's stack of values, and
that says who has it, as long as nobody else has released it there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gilscope.live.frames import Frame, Frames
from gilscope.live.layouts import SELF, Layout
from gilscope.live.memory import Memory
from gilscope.live.objects import Objects
from gilscope.live.slots import Slots, slots_of

_LOCK, _RLOCK = "_thread.lock", "_thread.RLock"
_BOUND_IN_C = ("builtin_function_or_method", "builtin_method")
_BOUND = "method"
_CONDITIONS = ("gilscope.Condition", "threading.Condition")
_HANDLE, _OWNER, _COUNT = 16, 24, 32  # of either: the semaphore or mutex; of an RLock: the others
_LOCKED, _PARKED = 1, 2  # bits of a PyMutex


@dataclass(frozen=True)
class Lock:
    """A lock of threading's, at the address of its object."""

    address: int
    is_rlock: bool
    semaphore: int | None  # its address, up to 3.13; None: it is a PyMutex
    locked: bool
    somebody_waits: bool  # by its PyMutex; of a semaphore it is not known, and False
    owner: int | None  # of an RLock: threading.get_ident() of who has it


class Locks:
    """Reads locks of one interpreter."""

    def __init__(self, memory: Memory, layout: Layout, objects: Objects, frames: Frames) -> None:
        self._memory = memory
        self._layout = layout
        self._objects = objects
        self._frames = frames

    def at(self, address: int) -> Lock | None:
        """The lock at this address; None where there is none."""
        name = self._objects.type_name(address) if address else None
        if name not in (_LOCK, _RLOCK):
            return None
        handle = self._memory.pointer(address + _HANDLE)
        if handle is None:
            return None
        is_rlock = name == _RLOCK
        owner = self._memory.pointer(address + _OWNER) if is_rlock else None
        if handle >> 8 and handle % 8 == 0 and self._layout.version < (3, 14):
            value = self._memory.word(handle)
            if value is not None:
                return Lock(address, is_rlock, handle, value == 0, False, owner or None)
        bits = handle & 255
        return Lock(
            address, is_rlock, None, bool(bits & _LOCKED), bool(bits & _PARKED), owner or None
        )

    def behind(self, value: int) -> Lock | None:
        """The lock that a value in a frame stands for: itself, a method of it, or what holds it as
        `_lock` (a Condition).
        """
        name = self._objects.type_name(value) if value else None
        if name in (_LOCK, _RLOCK):
            return self.at(value)
        if name not in (*_BOUND_IN_C, _BOUND):
            return None
        its = self._memory.pointer(value + SELF)
        if not its:
            return None
        return self.at(its) if name in _BOUND_IN_C else self.of_condition(its)

    def of_condition(self, address: int) -> Lock | None:
        """The lock of a threading.Condition; None for what is none."""
        if self._objects.type_name(address) != "Condition":
            return None
        return self.at(self._objects.attributes(address).get("_lock", 0))

    def condition(self, frame: Frame) -> int | None:
        """The Condition in C (gilscope.Condition; threading's in Python Plus) of which a method is
        called in this, the leaf frame.
        """
        for value in reversed(self.slots(frame).above):
            its = self._memory.pointer(value + SELF) if self._is_bound(value) else value
            if its and self._objects.type_name(its) in _CONDITIONS:
                return its
        return None

    def _is_bound(self, value: int) -> bool:
        return bool(value) and self._objects.type_name(value) in (*_BOUND_IN_C, _BOUND)

    def slots(self, frame: Frame) -> Slots:
        """The values in this frame."""
        code = self._frames.code(frame.raw.code)
        if code is None:
            return Slots((), (), ())
        return slots_of(self._memory, self._layout, frame.raw, code)

    def entered(self, frame: Frame) -> Iterator[Lock]:
        """The locks whose `with` this frame is inside, the outermost first. What only waits to come
        in is not there yet.
        """
        for value in self.slots(frame).alive:
            found = self.behind(value) or self.of_condition(value)
            if found is not None:
                yield found

    def awaited(self, frame: Frame, word: int, ident: int) -> Lock | None:
        """The lock that the call in this, the leaf frame, waits for; the thread, `ident`, sleeps on
        `word`. None where it cannot be told.
        """
        slots = self.slots(frame)
        near = (*reversed(slots.above), *slots.locals)
        for lock in self._distinct((*near, *slots.alive)):
            if lock.semaphore == word:
                return lock
        entered = {lock.address for lock in self._distinct(slots.alive)}
        parked = [
            lock
            for lock in self._distinct(near)
            if lock.semaphore is None and lock.somebody_waits
            if lock.owner != ident and lock.address not in entered
        ]
        on_stack = {lock.address for lock in self._distinct(slots.above)}
        certain = [lock for lock in parked if lock.address in on_stack] or parked
        return certain[0] if len(certain) == 1 else None

    def _distinct(self, values: Iterable[int]) -> list[Lock]:
        found: dict[int, Lock] = {}
        for value in values:
            lock = self.behind(value)
            if lock is not None:
                found.setdefault(lock.address, lock)
        return list(found.values())

"""What a thread waits for, and who could end that.

Known for certain: the GIL and who has it; a C mutex, which notes its owner; an RLock and the lock
of an import, which do too; a join, of which thread. Read off frames: who is inside `with lock:`.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from dataclasses import dataclass

from gilscope.live import tasks
from gilscope.live.frames import Frame
from gilscope.live.locks import Lock, Locks
from gilscope.live.memory import Memory
from gilscope.live.objects import Objects
from gilscope.live.threads import Look, Thread

_FUTEX_WAIT = 0  # the operation of a C mutex; semaphores and condition variables have another
_OPERATION = 127
_CONTENDED = 2  # a C mutex whose word says that somebody sleeps
_IMPORTS = "<frozen importlib._bootstrap>"
_THREADING = "threading.py"


class Kind(enum.Enum):
    """Sorts of waits; the value is the name in JSON."""

    GIL = "gil"
    LOCK = "lock"
    RLOCK = "rlock"
    IMPORT = "import"
    MUTEX = "mutex"  # of C code
    JOIN = "join"
    CONDITION = "condition"  # for a notify: of Condition, Event, Queue …; nobody has it


class How(enum.Enum):
    """How it is known who has what is waited for."""

    OWNER = "owner"  # it says so itself
    WITH = "with"  # that thread is inside its `with`


@dataclass(frozen=True)
class Wait:
    """What one thread waits for."""

    kind: Kind
    object: int | None  # its address; None: not known
    name: str | None  # of an import: the module
    holder: Thread | None  # None: nobody, or not known
    how: How | None
    limited: bool  # it ends by itself, after some time


class Waits:
    """Who waits for what in one look at a process."""

    def __init__(self, memory: Memory, locks: Locks, objects: Objects, seen: Look) -> None:
        self._memory = memory
        self._locks = locks
        self._objects = objects
        self._threads = seen.threads
        self._by_tid = {one.state.tid: one for one in seen.threads if one.state.tid is not None}
        self._by_ident = {one.state.ident: one for one in seen.threads}
        self._inside = self._entered()

    def of(self, thread: Thread) -> Wait | None:
        """None where it waits for nothing that is known here."""
        if thread.waits_for_gil:
            return self._for_gil(thread)
        call = thread.call
        if call is None or not call.is_futex:
            return None
        return self._for_mutex(thread, call) or self._for_lock(thread, call)

    def _for_gil(self, thread: Thread) -> Wait:
        gil = thread.state.interpreter.gil
        holder = next(
            (
                one
                for one in self._threads
                if one.holds_gil and gil is not None and one.state.interpreter.gil is gil
            ),
            None,
        )
        how = None if holder is None else How.OWNER
        return Wait(Kind.GIL, None if gil is None else gil.address, None, holder, how, False)

    def _for_mutex(self, thread: Thread, call: tasks.Call) -> Wait | None:
        word, operation, value = call.arguments[:3]
        if operation & _OPERATION != _FUTEX_WAIT or value & 0xFFFFFFFF != _CONTENDED:
            return None
        owner = self._memory.word(word + 8)
        if self._memory.word(word) != _CONTENDED or not owner or owner == thread.state.tid:
            return None
        holder = self._by_tid.get(owner)
        how = None if holder is None else How.OWNER
        return Wait(Kind.MUTEX, word, None, holder, how, call.arguments[3] != 0)

    def _for_lock(self, thread: Thread, call: tasks.Call) -> Wait | None:
        limited = call.arguments[3] != 0
        if not thread.stack.frames:
            return None
        leaf = thread.stack.frames[0]
        function = leaf.function.rsplit(".", 1)[-1]
        own = next(iter(self._locks.slots(leaf).locals), 0)
        if leaf.file == _IMPORTS and function == "acquire":
            return self._for_import(own, limited)
        if leaf.file.endswith(_THREADING) and function in ("join", "_wait_for_tstate_lock"):
            return self._for_thread(own, limited)
        if leaf.file.endswith(_THREADING) and function == "wait":
            return Wait(Kind.CONDITION, own or None, None, None, None, limited)
        lock = self._locks.awaited(leaf, call.arguments[0], thread.state.ident)
        if lock is None:
            lock = self._known_semaphore(call.arguments[0])
        if lock is not None:
            return self._wait_for(lock, limited)
        condition = self._locks.condition(leaf)  # one in C has no frame of its own
        return (
            None
            if condition is None
            else Wait(Kind.CONDITION, condition, None, None, None, limited)
        )

    def _wait_for(self, lock: Lock, limited: bool) -> Wait:
        kind = Kind.RLOCK if lock.is_rlock else Kind.LOCK
        if lock.owner is not None:
            holder = self._by_ident.get(lock.owner)
            return Wait(kind, lock.address, None, holder, How.OWNER if holder else None, limited)
        inside = self._inside.get(lock.address, [])
        if lock.locked and len(inside) == 1:  # of two one has released it by hand
            return Wait(kind, lock.address, None, inside[0], How.WITH, limited)
        return Wait(kind, lock.address, None, None, None, limited)

    def _for_import(self, lock: int, limited: bool) -> Wait:
        attributes = self._objects.attributes(lock) if lock else {}
        owner = self._objects.integer(attributes.get("owner"))
        name = self._objects.text(attributes.get("name"))
        holder = None if owner is None else self._by_ident.get(owner)
        how = None if holder is None else How.OWNER
        return Wait(Kind.IMPORT, lock or None, name, holder, how, limited)

    def _for_thread(self, joined: int, limited: bool) -> Wait:
        attributes = self._objects.attributes(joined) if joined else {}
        ident = self._objects.integer(attributes.get("_ident"))
        holder = None if ident is None else self._by_ident.get(ident)
        how = None if holder is None else How.OWNER
        name = self._objects.text(attributes.get("_name"))
        return Wait(Kind.JOIN, joined or None, name, holder, how, limited)

    # ---- who is inside which `with` ----

    def _entered(self) -> dict[int, list[Thread]]:
        found: dict[int, list[Thread]] = defaultdict(list)
        for thread in self._threads:
            given_back = self._released_in_wait(thread)
            for frame in thread.stack.frames:
                for lock in self._locks.entered(frame):
                    if lock.address not in given_back and thread not in found[lock.address]:
                        found[lock.address].append(thread)
        return found

    def _released_in_wait(self, thread: Thread) -> set[int]:
        """Locks of Conditions that the thread has given back while it waits for a notify."""
        return {
            lock.address
            for frame in thread.stack.frames
            if _is_wait(frame)
            and (lock := self._locks.of_condition(next(iter(self._locks.slots(frame).locals), 0)))
        }

    def _known_semaphore(self, word: int) -> Lock | None:
        """A lock that others are inside of; for C code, which has no frame to look at."""
        for address in self._inside:
            lock = self._locks.at(address)
            if lock is not None and lock.semaphore == word:
                return lock
        return None


def _is_wait(frame: Frame) -> bool:
    return frame.file.endswith(_THREADING) and frame.function.rsplit(".", 1)[-1] == "wait"

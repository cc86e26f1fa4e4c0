"""Locks in Python, built on atomic sections: what threading has, without a lock beneath.

Inside `with atomic` no other thread can run unless this one blocks, so plain Python code may look
at a value and change it. A thread that must wait goes to sleep there; the section lets the others
run meanwhile, and goes on when it is back. After stacklesslib.locks, which did the same for
tasklets.

All raise GilscopeError where atomic sections cannot be had (see gilscope.atomic): without them
these classes would be wrong, not slow. Any of threading's can be replaced by the one here.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable
from math import isnan
from threading import BrokenBarrierError, get_ident
from time import monotonic
from types import TracebackType
from typing import Any, NoReturn, Protocol, TypeVar

from gilscope.sync import Sleeper, atomic, tell

__all__ = [
    "Barrier",
    "BoundedSemaphore",
    "BrokenBarrierError",
    "Condition",
    "Event",
    "Lock",
    "RLock",
    "Semaphore",
]

_T = TypeVar("_T")
_TIMEOUT_MAX = 9223372036.0  # threading.TIMEOUT_MAX
_PATIENCE_S = 0.0002  # with being passed over, as the native Condition's: see sync/core.h


class _Waited(Protocol):
    """What threads wait for in a _Queue."""

    def _free(self) -> int:
        """How many can be taken."""

    def _take(self) -> bool:
        """Take one, for this thread. Whether there was one."""

    def _give(self, thread: int) -> None:
        """One that can be taken is that thread's."""

    def _take_back(self) -> None:
        """One that was given to a thread can be taken."""


class _Queue:
    """Threads that sleep until something can be taken; in their order, and woken one by one.

    Whoever runs may take it first. Who was woken looks again, and keeps its place where another was
    faster; when that has gone on for _PATIENCE_S, the first is given what it waits for. Call within
    an atomic section.
    """

    __slots__ = ("_given", "_passed_over", "sleepers")

    def __init__(self) -> None:
        self.sleepers: deque[Sleeper] = deque()
        self._given: list[Sleeper] = []  # on their way back from sleep
        self._passed_over = 0.0  # when the queue was first; 0: not since one of it had its turn

    def __bool__(self) -> bool:
        return bool(self.sleepers)

    def wake(self, what: _Waited) -> None:
        """As many as can be taken wake. Those between that do not sleep look by themselves."""
        while self.sleepers and not self.sleepers[0].lives():
            self.sleepers.popleft()
        free = what._free()
        if free and self._passed_over and monotonic() - self._passed_over >= _PATIENCE_S:
            self._give(what)
            free = what._free()
        for sleeper in self.sleepers:
            if free <= 0:
                break
            if sleeper.woken:
                self._is_passed_over()
            free -= sleeper.wake()

    def _is_passed_over(self) -> None:
        self._passed_over = self._passed_over or monotonic()

    def _give(self, what: _Waited) -> None:
        for sleeper in self.sleepers:
            if sleeper.sleeps:
                self._has_its_turn(sleeper)
                self._given.append(sleeper)
                what._give(sleeper.thread)
                sleeper.wake()
                break

    def _has_its_turn(self, sleeper: Sleeper) -> None:
        for other in self.sleepers:
            if other is sleeper:
                self._passed_over = 0.0
            if other is sleeper or other.sleeps:
                break
        self.sleepers.remove(sleeper)

    def take(self, what: _Waited, timeout: float | None) -> bool:
        """Sleep until one can be taken, and take it; for `timeout` seconds at most."""
        end = None if timeout is None else monotonic() + timeout
        sleeper = Sleeper()
        self.sleepers.append(sleeper)
        woken = False
        try:
            while not (sleeper in self._given or what._take()):
                if woken:
                    self._is_passed_over()
                if end is not None:
                    timeout = end - monotonic()
                    if timeout <= 0:
                        self._gives_up(what, sleeper)
                        return False
                woken = sleeper.sleep(what, timeout, True)
        except BaseException:  # by a signal, maybe between its wakeup and its look
            self._gives_up(what, sleeper)
            raise
        if sleeper in self._given:
            self._given.remove(sleeper)
        else:
            self._has_its_turn(sleeper)
        return True

    def _gives_up(self, what: _Waited, sleeper: Sleeper) -> None:
        """It waits no more; the next is woken in its place."""
        if sleeper in self._given:
            self._given.remove(sleeper)
            what._take_back()
        elif sleeper in self.sleepers:
            self.sleepers.remove(sleeper)
        self.wake(what)

    def bury(self, what: _Waited) -> bool:
        """What was given to threads that are no more can be taken. Whether there were such."""
        dead = [sleeper for sleeper in self._given if not sleeper.lives()]
        for sleeper in dead:
            self._given.remove(sleeper)
            what._take_back()
        return bool(dead)

    def __reduce__(self) -> NoReturn:
        raise TypeError("cannot pickle a lock")


class _Lock:
    """What Lock and RLock share."""

    def __init__(self) -> None:
        with atomic:  # where there are none, say so at once
            self._waiting = _Queue()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock. Returns whether it was taken.

        `timeout`: seconds, -1 for ever.
        """
        if not blocking and timeout != -1:
            raise ValueError("can't specify a timeout for a non-blocking call")
        if timeout < 0 and timeout != -1:
            raise ValueError("timeout value must be a non-negative number")
        if timeout > _TIMEOUT_MAX:
            raise OverflowError("timeout value is too large")
        if isnan(timeout):
            raise ValueError("Invalid value NaN (not a number)")
        with atomic:
            if self._take() or (self._waiting.bury(self) and self._take()):
                return True
            if not blocking:
                return False
            return self._waiting.take(self, None if timeout == -1 else timeout)

    def _free(self) -> int:
        return not self.locked()

    def _take(self) -> bool:
        raise NotImplementedError

    def _give(self, thread: int) -> None:
        raise NotImplementedError

    def _take_back(self) -> None:
        raise NotImplementedError

    def _next(self) -> None:
        if self._waiting:
            tell(self, -1)
            self._waiting.wake(self)

    def release(self) -> None:
        """Give it back. Raises RuntimeError where it is not held."""
        raise NotImplementedError

    def locked(self) -> bool:
        """Whether some thread has it."""
        raise NotImplementedError

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"cannot pickle '{type(self).__qualname__}' object")

    def __repr__(self) -> str:
        state = "locked" if self.locked() else "unlocked"
        return f"<{state} locks.{type(self).__qualname__} object{self._told()} at {id(self):#x}>"

    def _told(self) -> str:
        return ""


class Lock(_Lock):
    """threading.Lock."""

    def __init__(self) -> None:
        super().__init__()
        self._locked = False

    def _take(self) -> bool:
        if self._locked:
            return False
        self._locked = True
        return True

    def _give(self, thread: int) -> None:
        self._locked = True

    def _take_back(self) -> None:
        self._locked = False

    def release(self) -> None:
        """Free the lock, in whatever thread. Raises RuntimeError where it is free."""
        with atomic:
            if not self._locked:
                raise RuntimeError("release unlocked lock")
            self._locked = False
            self._next()

    def locked(self) -> bool:
        """Whether some thread has it."""
        return self._locked

    acquire_lock = _Lock.acquire
    release_lock = release
    locked_lock = locked

    def _at_fork_reinit(self) -> None:
        self._waiting = _Queue()
        self._locked = False


class RLock(_Lock):
    """threading.RLock."""

    def __init__(self) -> None:
        super().__init__()
        self._owner: int | None = None
        self._count = 0

    def _take(self) -> bool:
        me = get_ident()
        if self._owner is None:
            self._owner = me
        elif self._owner != me:
            return False
        self._count += 1
        return True

    def _give(self, thread: int) -> None:
        self._owner, self._count = thread, 1

    def _take_back(self) -> None:
        self._owner, self._count = None, 0

    def release(self) -> None:
        """Give one level back. Raises RuntimeError where this thread has none."""
        with atomic:
            if self._owner != get_ident():
                raise RuntimeError("cannot release un-acquired lock")
            self._count -= 1
            if not self._count:
                self._owner = None
                self._next()

    def locked(self) -> bool:
        """Whether some thread has it."""
        return self._owner is not None

    def _is_owned(self) -> bool:
        return self._owner == get_ident()

    def _told(self) -> str:
        return f" owner={self._owner} count={self._count}"

    def _recursion_count(self) -> int:
        return self._count if self._is_owned() else 0

    def _release_save(self) -> tuple[int, int | None]:
        with atomic:
            if self._owner != get_ident():
                raise RuntimeError("cannot release un-acquired lock")
            saved = self._count, self._owner
            self._count, self._owner = 0, None
            self._next()
            return saved

    def _acquire_restore(self, saved: tuple[int, int | None]) -> None:
        error = None
        with atomic:
            while not self._is_owned():
                try:
                    self.acquire()
                except BaseException as raised:  # by a signal; the lock is promised all the same
                    error = raised
            self._count, self._owner = saved
        if error is not None:
            raise error

    def _at_fork_reinit(self) -> None:
        self._waiting = _Queue()
        self._count, self._owner = 0, None


class Condition:
    """threading.Condition, with any lock."""

    def __init__(self, lock: Any = None) -> None:
        if lock is None:
            lock = RLock()
        self._lock = lock
        self.acquire: Callable[..., bool] = lock.acquire
        self.release: Callable[[], None] = lock.release
        for name in ("_release_save", "_acquire_restore", "_is_owned"):
            if hasattr(lock, name):
                setattr(self, name, getattr(lock, name))
        self._waiters: deque[Sleeper] = deque()

    def __enter__(self) -> bool:
        return self._lock.__enter__()  # type: ignore[no-any-return]  # the lock's own answer

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return self._lock.__exit__(kind, error, traceback)  # type: ignore[no-any-return]

    def _release_save(self) -> Any:
        self._lock.release()

    def _acquire_restore(self, saved: Any) -> None:
        self._lock.acquire()

    def _is_owned(self) -> bool:
        with atomic:
            if not self._lock.acquire(False):
                return True
            self._lock.release()
            return False

    def wait(self, timeout: float | None = None) -> bool:
        """Let the lock go, sleep until notified or for `timeout` seconds, take the lock back.

        Returns whether it was notified. Raises RuntimeError where the lock is not held.
        """
        with atomic:
            if not self._is_owned():
                raise RuntimeError("cannot wait on un-acquired lock")
            sleeper = Sleeper()
            self._waiters.append(sleeper)
            saved = self._release_save()
            try:
                sleeper.sleep(self, timeout, False)
                return not self._gives_up(sleeper)
            except BaseException:
                if not self._gives_up(sleeper):
                    self._wake(1)  # its notification goes to the next
                raise
            finally:
                self._acquire_restore(saved)

    def _gives_up(self, sleeper: Sleeper) -> bool:
        """Waits no more. Whether it did: else it was notified."""
        try:
            self._waiters.remove(sleeper)
        except ValueError:
            return False
        return True

    def wait_for(self, predicate: Callable[[], _T], timeout: float | None = None) -> _T:
        """Wait until `predicate()` is true, for `timeout` seconds at most; returns its value."""
        end = None
        result = predicate()
        while not result:
            if timeout is not None:
                if end is None:
                    end = monotonic() + timeout
                else:
                    timeout = end - monotonic()
                    if timeout <= 0:
                        break
            self.wait(timeout)
            result = predicate()
        return result

    def notify(self, n: int = 1) -> None:
        """Wake the first `n` that wait. Raises RuntimeError where the lock is not held."""
        with atomic:
            if not self._is_owned():
                raise RuntimeError("cannot notify on un-acquired lock")
            if self._waiters:
                self._wake(n)
            else:
                tell(self, 0)

    def _wake(self, n: int) -> None:
        notified: list[Sleeper] = []
        while self._waiters and len(notified) < n:
            sleeper = self._waiters.popleft()
            if sleeper.lives():
                notified.append(sleeper)
        # Before: the woken thread tells the end of its wait without the GIL.
        tell(self, len(notified))
        for sleeper in notified:
            sleeper.wake()

    def notify_all(self) -> None:
        """Wake all that wait."""
        self.notify(len(self._waiters))

    def notifyAll(self) -> None:  # noqa: N802 - threading's name
        """Deprecated: notify_all()."""
        warnings.warn(
            "notifyAll() is deprecated, use notify_all() instead", DeprecationWarning, stacklevel=2
        )
        self.notify_all()

    def _at_fork_reinit(self) -> None:
        self._lock._at_fork_reinit()
        self._waiters.clear()

    def __repr__(self) -> str:
        return f"<Condition({self._lock}, {len(self._waiters)})>"


class Semaphore:
    """threading.Semaphore."""

    def __init__(self, value: int = 1) -> None:
        if value < 0:
            raise ValueError("semaphore initial value must be >= 0")
        with atomic:
            self._waiting = _Queue()
        self._value = value

    def _take(self) -> bool:
        if not self._value:
            return False
        self._value -= 1
        return True

    def _free(self) -> int:
        return self._value

    def _give(self, thread: int) -> None:
        self._value -= 1

    def _take_back(self) -> None:
        self._value += 1

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Take one. Returns whether it was taken; `timeout` in seconds."""
        if not blocking and timeout is not None:
            raise ValueError("can't specify timeout for non-blocking acquire")
        with atomic:
            if self._take() or (self._waiting.bury(self) and self._take()):
                return True
            return bool(blocking) and self._waiting.take(self, timeout)

    def __enter__(self) -> bool:
        return self.acquire()

    def release(self, n: int = 1) -> None:
        """Give `n` back."""
        if n < 1:
            raise ValueError("n must be one or more")
        with atomic:
            self._value += n
            if self._waiting:
                self._waiting.wake(self)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<locks.{type(self).__qualname__} at {id(self):#x}: value={self._value}>"


class BoundedSemaphore(Semaphore):
    """threading.BoundedSemaphore: never above its initial value."""

    def __init__(self, value: int = 1) -> None:
        super().__init__(value)
        self._initial_value = value

    def release(self, n: int = 1) -> None:
        """Give `n` back. Raises ValueError where that is more than was taken."""
        if n < 1:
            raise ValueError("n must be one or more")
        with atomic:
            if self._value + n > self._initial_value:
                raise ValueError("Semaphore released too many times")
            super().release(n)

    def __repr__(self) -> str:
        values = f"{self._value}/{self._initial_value}"
        return f"<locks.{type(self).__qualname__} at {id(self):#x}: value={values}>"


class Event:
    """threading.Event."""

    def __init__(self) -> None:
        self._cond = Condition(Lock())
        self._flag = False

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._flag

    def isSet(self) -> bool:  # noqa: N802 - threading's name
        """Deprecated: is_set()."""
        warnings.warn(
            "isSet() is deprecated, use is_set() instead", DeprecationWarning, stacklevel=2
        )
        return self.is_set()

    def set(self) -> None:
        """Set it, and wake all that wait."""
        with self._cond:
            self._flag = True
            self._cond.notify_all()

    def clear(self) -> None:
        """Unset it."""
        with self._cond:
            self._flag = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, for `timeout` seconds at most. Returns whether it was."""
        with self._cond:
            return self._flag or self._cond.wait(timeout)

    def _at_fork_reinit(self) -> None:
        self._cond._at_fork_reinit()

    def __repr__(self) -> str:
        state = "set" if self._flag else "unset"
        return f"<locks.{type(self).__qualname__} at {id(self):#x}: {state}>"


class Barrier:
    """threading.Barrier. Each round fills, then drains before the next can fill."""

    def __init__(
        self,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
    ) -> None:
        if parties < 1:
            raise ValueError("parties must be > 0")
        self._cond = Condition(Lock())
        self._action = action
        self._timeout = timeout
        self._parties = parties
        self._state = "filling"  # or draining, resetting, broken
        self._count = 0

    def wait(self, timeout: float | None = None) -> int:
        """Wait until all parties do. Returns a number in range(parties), each once a round.

        Raises BrokenBarrierError where the barrier is or gets broken, or `timeout` seconds pass.
        """
        if timeout is None:
            timeout = self._timeout
        with self._cond:
            self._cond.wait_for(lambda: self._state not in ("draining", "resetting"))
            if self._state == "broken":
                raise BrokenBarrierError
            index = self._count
            self._count += 1
            try:
                if index + 1 == self._parties:
                    self._open()
                else:
                    self._await(timeout)
                return index
            finally:
                self._count -= 1
                if not self._count and self._state in ("draining", "resetting"):
                    self._state = "filling"
                    self._cond.notify_all()

    def _open(self) -> None:
        try:
            if self._action:
                self._action()
        except BaseException:
            self._break()
            raise
        self._state = "draining"
        self._cond.notify_all()

    def _await(self, timeout: float | None) -> None:
        if not self._cond.wait_for(lambda: self._state != "filling", timeout):
            self._break()
        if self._state in ("broken", "resetting"):
            raise BrokenBarrierError

    def _break(self) -> None:
        self._state = "broken"
        self._cond.notify_all()

    def reset(self) -> None:
        """As new; whoever waits gets BrokenBarrierError."""
        with self._cond:
            if not self._count:
                self._state = "filling"
            elif self._state != "draining":  # those who passed are not disturbed
                self._state = "resetting"
            self._cond.notify_all()

    def abort(self) -> None:
        """Break it: whoever waits, now or later, gets BrokenBarrierError."""
        with self._cond:
            self._break()

    @property
    def parties(self) -> int:
        """How many threads a round takes."""
        return self._parties

    @property
    def n_waiting(self) -> int:
        """How many wait."""
        return self._count if self._state == "filling" else 0

    @property
    def broken(self) -> bool:
        """Whether it is broken."""
        return self._state == "broken"

    def __repr__(self) -> str:
        name = f"locks.{type(self).__qualname__} at {id(self):#x}"
        if self.broken:
            return f"<{name}: broken>"
        return f"<{name}: waiters={self.n_waiting}/{self.parties}>"

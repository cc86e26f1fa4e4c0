"""Locks, conditions and atomic sections a second time: event by event, in plain Python."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from support.stories import MemorySource
from support.wakers import Wakers, object_of

from gilscope.trace.schema import SYNC_DETAIL_SHIFT, SYNC_EVENTS
from gilscope.trace.schema import EventKind as K


@dataclass
class OfObject:
    """What one lock or condition of one process adds up to."""

    waits: list[int] = field(default_factory=list)
    timeouts: int = 0
    notifies: int = 0
    wakeups: list[int] = field(default_factory=list)
    back: list[int] = field(default_factory=list)  # from the notify to the GIL


@dataclass
class OfSections:
    """What the atomic sections of one process add up to."""

    held: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    deferred: int = 0
    waiters: Counter[int] = field(default_factory=Counter)


@dataclass
class _Thread:
    process: int
    holds: int | None = None  # GIL
    waits_for: int | None = None  # GIL
    own: list[tuple[int, int]] = field(default_factory=list)  # waits: object, since
    woken: tuple[int, int] | None = None  # the wait that ended last: object, woken at
    depth: int = 0  # of sections that are seen open
    section: list[int] = field(default_factory=list)  # of the outermost: since, held
    deferred: int = 0


class SyncOracle:
    """Answers by (process, object) and by process."""

    def __init__(self, source: MemorySource) -> None:
        self.objects: defaultdict[tuple[int, int], OfObject] = defaultdict(OfObject)
        self.sections: defaultdict[int, OfSections] = defaultdict(OfSections)
        self._threads = [_Thread(t.process) for t in source.metadata.threads]
        self._wakers = Wakers()
        self._now: Counter[int] = Counter()  # by process
        for batch in source.batches():
            for time, arg, thread, gil, kind, _ in batch.tolist():
                self._pass(self._threads[thread].process, time)
                self._take(time, arg, thread, gil, K(kind))

    def _pass(self, process: int, time: int) -> None:
        """Time goes by for the threads of a process, as they stand."""
        passed, self._now[process] = time - self._now[process], time
        mine = [(i, t) for i, t in enumerate(self._threads) if t.process == process]
        for _, holder in mine:
            if holder.holds is None or not holder.depth:
                continue
            holder.section[1] += passed
            for number, waiter in mine:
                if waiter.waits_for == holder.holds:
                    self.sections[process].waiters[number] += passed

    def _take(  # noqa: PLR0912 - an arm an event
        self, time: int, arg: int, number: int, gil: int, kind: K
    ) -> None:
        thread = self._threads[number]
        process = thread.process
        if kind in SYNC_EVENTS:
            self._sync(time, arg, number, kind)
        elif kind == K.GIL_WAIT:
            thread.waits_for = gil
        elif kind == K.GIL_ACQUIRE:
            thread.waits_for, thread.holds = None, gil
            if thread.woken:
                about, woken = thread.woken
                self.objects[process, about].back.append(time - woken)
            thread.woken = None
        elif kind in (K.GIL_RELEASE, K.GIL_YIELD):
            thread.holds = None
        elif kind == K.GIL_LOST:
            for other in self._threads:
                if other.waits_for == gil:
                    self._end_waits(other, time)
                if gil in (other.waits_for, other.holds):
                    other.waits_for = other.holds = None
        elif kind in (K.THREAD_END, K.THREAD_LOST):
            self._end_all(thread, time, lives=kind == K.THREAD_LOST)
        elif kind == K.PROCESS_END:
            for other in self._threads:
                if other.process == process:
                    self._end_all(other, time, lives=False)
        elif kind == K.ATOMIC_ENTER:
            thread.depth += 1
            if thread.depth == 1:
                thread.section = [time, 0]
        elif kind == K.ATOMIC_DEFERRED:
            self.sections[process].deferred += thread.depth > 0
        elif kind == K.ATOMIC_EXIT and thread.depth:
            thread.depth -= 1
            if not thread.depth:
                self._end_section(thread, time)

    def _sync(self, time: int, arg: int, number: int, kind: K) -> None:
        thread, about = self._threads[number], object_of(kind, arg)
        entry = self.objects[thread.process, about]
        detail = arg >> SYNC_DETAIL_SHIFT
        if kind in (K.COND_WAIT, K.LOCK_WAIT):
            thread.own.append((about, time))
            thread.woken = None
        elif kind in (K.COND_NOTIFY, K.LOCK_RELEASE):
            entry.notifies += 1
            woken = detail if kind == K.COND_NOTIFY else 1
            self._wakers.put(thread.process, about, time, number, woken)
        elif thread.own:
            about, since = thread.own.pop()
            entry.waits.append(time - since)
            entry.timeouts += detail
            thread.woken = None
            waker = None if detail else self._wakers.take(thread.process, about, since)
            if waker:
                entry.wakeups.append(time - waker[0])
                thread.woken = about, waker[0]

    def _end_waits(self, thread: _Thread, time: int) -> None:
        for about, since in thread.own:
            self.objects[thread.process, about].waits.append(max(time - since, 0))
            thread.woken = None
        thread.own = []

    def _end_section(self, thread: _Thread, time: int) -> None:
        since, held = thread.section
        self.sections[thread.process].lengths.append(time - since)
        self.sections[thread.process].held.append(held)

    def _end_all(self, thread: _Thread, time: int, *, lives: bool) -> None:
        self._end_waits(thread, time)
        if thread.depth:
            self._end_section(thread, time)
        thread.depth = 0
        if not lives:
            thread.waits_for = thread.holds = None

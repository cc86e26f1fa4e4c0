"""Blame and totals a second time: event by event, in plain Python, with none of the C's arrays."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from support.stories import MemorySource

from gilscope.trace.schema import EventKind as K

UNKNOWN = "unknown"


@dataclass
class _Wait:
    start: int
    told: bool  # something about the GIL was seen since the gap in which it began
    pending: int = 0  # free time of which nobody has made use yet
    woken: int | None = None  # when a wakeup last named it
    parts: Counter[tuple[int | None, str]] = field(default_factory=Counter)


@dataclass
class _Gil:
    now: int
    holder: int | str | None = UNKNOWN
    since: int = 0
    lost_at: int | None = None  # begin of the gap that it is in
    waits: dict[int, _Wait] = field(default_factory=dict)


class Oracle:
    """What a possible story adds up to, by thread and by GIL."""

    def __init__(self, source: MemorySource) -> None:
        self.blame_ns: Counter[tuple[int, int | None, str]] = Counter()
        self.blame_waits: Counter[tuple[int, int | None, str]] = Counter()
        self.wakeups: dict[int, list[int]] = defaultdict(list)
        self.holds: dict[int, list[int]] = defaultdict(list)
        self.waits: dict[int, list[int]] = defaultdict(list)
        self.contended: Counter[int] = Counter()
        self.gaps: dict[int, list[tuple[int, int]]] = defaultdict(list)  # where records were lost
        self._waited: dict[int, list[tuple[int, int]]] = defaultdict(list)
        self._process_of = [t.process for t in source.metadata.threads]
        self._gils: dict[int, _Gil] = {}
        self._gil_process = [g.process for g in source.metadata.gils]
        for batch in source.batches():
            for time, arg, thread, gil, kind, flags in batch.tolist():
                self._take(time, thread, gil, K(kind), flags, arg)

    def _take(  # noqa: PLR0912, PLR0917 - an event's fields; an arm an event
        self, time: int, thread: int, number: int, kind: K, flags: int, arg: int
    ) -> None:
        if kind in (K.THREAD_END, K.PROCESS_END):
            process = self._process_of[thread]
            for other, gil in self._gils.items():
                if self._gil_process[other] == process:
                    mine = None if kind == K.PROCESS_END else thread
                    if mine is None:
                        self._end_gap(other, gil, max(time, gil.now))
                    self._close(other, gil, time, mine)
            return
        if not kind.label.startswith("gil."):
            return
        gil = self._gils.setdefault(number, _Gil(now=time))
        self._pass(number, gil, time)
        if kind in (K.GIL_ACQUIRE, K.GIL_RELEASE, K.GIL_YIELD, K.GIL_LOST):
            self._end_gap(number, gil, time)
        if kind == K.GIL_WAIT:
            gil.waits[thread] = _Wait(time, told=gil.holder != UNKNOWN)
        elif kind == K.GIL_ACQUIRE:
            if flags & 1 and thread in gil.waits:
                wait = gil.waits[thread]
                if wait.woken is not None:
                    self.wakeups[thread].append(time - wait.woken)
                elif wait.told:
                    self.wakeups[thread].append(wait.pending)
                wait.parts[None, "wakeup"] += wait.pending
                wait.pending = 0
                self._end_wait(gil, thread, time)
            for wait in gil.waits.values():
                wait.parts[None, "idle"] += wait.pending
                wait.pending, wait.told = 0, True
            gil.holder, gil.since = thread, time
        elif kind in (K.GIL_RELEASE, K.GIL_YIELD):
            if gil.holder == thread:
                self.holds[thread].append(time - gil.since)
            gil.holder = None
        elif kind == K.GIL_WAKEUP:
            if arg - 1 in gil.waits:
                gil.waits[arg - 1].woken = time
        elif kind == K.GIL_LOST:
            self._close(number, gil, time, None)
            gil.holder, gil.lost_at = UNKNOWN, time

    def unknown(self, thread: int, gil: int | None, life: tuple[int, int]) -> int:
        """Of a thread that used one GIL or none: in gaps, and not seen to wait."""
        gaps = [] if gil is None else self.gaps[gil]
        in_life = sum(_overlap(gap, life) for gap in gaps)
        return in_life - sum(_overlap(gap, wait) for gap in gaps for wait in self._waited[thread])

    def _end_gap(self, number: int, gil: _Gil, time: int) -> None:
        if gil.lost_at is not None:
            self.gaps[number].append((gil.lost_at, time))
        gil.lost_at = None

    def _pass(self, number: int, gil: _Gil, time: int) -> None:
        passed, gil.now = time - gil.now, time
        if not passed:
            return
        if gil.waits and isinstance(gil.holder, int):
            self.contended[number] += passed
        for wait in gil.waits.values():
            if gil.holder is None:
                wait.pending += passed
            elif gil.holder == UNKNOWN:
                wait.parts[None, "held"] += passed
                continue
            else:
                wait.parts[gil.holder, "held"] += passed
            wait.told = True

    def _close(self, number: int, gil: _Gil, time: int, thread: int | None) -> None:
        """End what `thread` (None: everybody) has open on this GIL."""
        everybody = thread is None
        if not everybody and thread not in gil.waits and gil.holder != thread:
            return
        self._pass(number, gil, time)
        if isinstance(gil.holder, int) and (everybody or gil.holder == thread):
            self.holds[gil.holder].append(time - gil.since)
            gil.holder = None
        for waiter in list(gil.waits):
            if everybody or waiter == thread:
                self._end_wait(gil, waiter, time)

    def _end_wait(self, gil: _Gil, thread: int, time: int) -> None:
        wait = gil.waits.pop(thread)
        self.waits[thread].append(time - wait.start)
        self._waited[thread].append((wait.start, time))
        wait.parts[None, "idle"] += wait.pending
        for (holder, reason), ns in wait.parts.items():
            if ns:
                self.blame_ns[thread, holder, reason] += ns
                self.blame_waits[thread, holder, reason] += 1


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> int:
    return max(min(one[1], other[1]) - max(one[0], other[0]), 0)

"""A part of a trace, itself a whole one: some time of it, or what concerns some of its threads.

What is known at the cut stays known: who holds a GIL then begins to hold it at the cut, who waits
begins to wait. At its end everything open ends there, as where records are lost: it lasted at least
so long. So each GIL's and thread's times, and blame, are those of the whole trace in this stretch,
and of two parts that meet they add up to those of both.

Of threads, all events of the GILs that they used stay, whoever made them: those tell whom they
waited for. Waits for locks and atomic sections of other threads go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from gilscope.errors import UsageError
from gilscope.trace.schema import (
    EVENT_DTYPE,
    FLAG_CPU,
    NO_GIL,
    PROCESSOR_EVENTS,
    PROCESSOR_WHY_SHIFT,
    UNSEEN,
    EventKind,
    EventSource,
    Look,
    LookFrame,
    Metadata,
    Process,
    Totals,
)
from gilscope.trace.story import HOLDING, OF_CONDITION, OUTSIDE, WAITING, Story

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

K = EventKind
_Row = tuple[int, int, int, int, int, int]  # the fields of EVENT_DTYPE
_NONE = 0xFFFFFFFF
_MOST = 4095  # waiters that an event tells
_MOST_LOST = 1 << 40  # what damaged numbers tell must still be one when added up
_FIRST_GIL, _LAST_GIL = int(K.GIL_WAIT), int(K.GIL_WAKEUP)
_OFF, _UNSEEN = int(K.PROCESSOR_OFF), UNSEEN << PROCESSOR_WHY_SHIFT
# Told in the name of a thread that has no part in it.
_OF_NO_THREAD = [int(kind) for kind in (K.PROCESS_START, K.PROCESS_END, K.GIL_LOST)]
_LIVES = [int(kind) for kind in (K.THREAD_START, K.THREAD_END, K.PROCESS_START, K.PROCESS_END)]


class Cut:
    """An EventSource: the events of `source` from one time to before another, in ns.

    `patterns` are names of threads as the shell's wildcards have them; none: all threads. It reads
    its source twice. Raises UsageError where nothing is left.
    """

    def __init__(
        self, source: EventSource, from_ns: int, to_ns: int, patterns: Sequence[str] = ()
    ) -> None:
        self._source = source
        self._from_ns, self._to_ns = from_ns, to_ns
        self._wanted = _wanted(source.metadata, patterns)
        self._survey()
        self.metadata = self._cut_metadata()
        self._totals: Totals | None = None

    @property
    def name(self) -> str:
        """That of its source."""
        return self._source.name

    @property
    def totals(self) -> Totals:
        """Raises RuntimeError before `batches` has ended."""
        if self._totals is None:
            raise RuntimeError("totals are known when all events have been read")
        return self._totals

    def locate(self, index: int) -> int:
        """Its events have no places of their own."""
        return 0

    # ---- what is in it --------------------------------------------------------------------

    def _survey(self) -> None:
        """Find what the state is at the begin, and which rows and stacks are needed."""
        metadata = self._source.metadata
        n_threads, n_gils = len(metadata.threads), len(metadata.gils)
        before = Story(self._source, keep=False)
        used = np.zeros((n_threads, n_gils + 1), bool) if self._wanted is not None else None
        seen = np.zeros(n_threads, bool)
        leaves = np.zeros(len(metadata.stacks), bool)
        lost = 0
        self._processors: dict[int, tuple[int, int]] = {}  # thread: the last event of its processor
        for batch in self._source.batches():
            early = batch["time_ns"] < self._from_ns
            before.feed(np.ascontiguousarray(batch[early]))
            inside = batch[~early & (batch["time_ns"] < self._to_ns)]
            seen[inside["thread"]] = True
            if used is not None:
                gil = np.where(inside["gil"] == NO_GIL, n_gils, inside["gil"])
                used[inside["thread"], gil] = True
            leaves[inside["arg"][inside["kind"] == K.STACK].astype(np.int64)] = True
            missing = inside["arg"][inside["kind"] == K.GIL_LOST]
            lost += int(np.minimum(missing, np.uint64(_MOST_LOST)).sum())
            switched = np.isin(batch["kind"], PROCESSOR_EVENTS)
            for row in batch[switched & early]:
                self._processors[int(row["thread"])] = (int(row["kind"]), int(row["arg"]))
        self._now, self._gils_now = before.now()
        self._stats = before.array_of_processes()
        self._lost = lost
        now = self._now
        lives: NDArray[np.bool_] = np.logical_and(now["started"] != 0, now["ended"] == 0)
        over = np.array([bool(self._stats["ended"][t.process]) for t in metadata.threads], bool)
        lives = np.logical_and(lives, ~over)
        gils: NDArray[np.bool_] = np.ones(n_gils, bool)
        keep: NDArray[np.bool_] = seen | lives
        if used is not None and self._wanted is not None:
            busy = np.flatnonzero(now["state"] != OUTSIDE)
            used[busy, now["gil"][busy]] = True
            gils = np.logical_or.reduce(used[self._wanted, :n_gils], axis=0)
            keep = keep & (self._wanted | used[:, :n_gils][:, gils].any(axis=1))
        self._threads = np.flatnonzero(keep)
        processes = {metadata.threads[t].process for t in self._threads.tolist()}
        of_kept = np.array([g.process in processes for g in metadata.gils], bool)
        self._gils = np.flatnonzero(gils & of_kept) if n_gils else np.zeros(0, np.int64)
        self._processes = np.array(sorted(processes), np.int64)
        self._lives = lives
        if not len(self._threads):
            raise UsageError(
                f"{self.name}: nothing is left of it; see `gilscope dump` for its times"
            )
        self._leaves = _with_callers(metadata, leaves)

    def _cut_metadata(self) -> Metadata:
        metadata = self._source.metadata
        first, end = self._from_ns, self._to_ns

        def lived(start_ns: int, end_ns: int) -> dict[str, int]:
            begin = max(start_ns, first)
            return {"start_ns": begin, "end_ns": max(begin, min(end_ns, end)), "lost_events": 0}

        self._process_ids = _renumbered(self._processes, len(metadata.processes))
        self._thread_ids = _renumbered(self._threads, len(metadata.threads))
        self._gil_ids = _renumbered(self._gils, len(metadata.gils))
        self._spokesmen = self._thread_ids.copy()
        kept_of = {metadata.threads[t].process: n for n, t in enumerate(self._threads.tolist())}
        for thread in metadata.threads:
            if self._spokesmen[thread.id] == _NONE:
                self._spokesmen[thread.id] = kept_of.get(thread.process, _NONE)
        self._stack_ids = _renumbered(self._leaves, len(metadata.stacks))
        processes: list[Process] = []
        for number in self._processes.tolist():
            row = metadata.processes[number]
            parent = None if row.parent is None else int(self._process_ids[row.parent])
            processes.append(
                replace(
                    row,
                    id=len(processes),
                    parent=None if parent == _NONE else parent,
                    attached=row.attached and row.start_ns >= first,
                    **lived(row.start_ns, row.end_ns),
                )
            )
        threads = [
            replace(
                row,
                id=number,
                process=int(self._process_ids[row.process]),
                short_sleeps=None,
                **lived(row.start_ns, row.end_ns),
            )
            for number, row in enumerate(metadata.threads[t] for t in self._threads.tolist())
        ]
        gils = [
            replace(row, id=number, process=int(self._process_ids[row.process]))
            for number, row in enumerate(metadata.gils[g] for g in self._gils.tolist())
        ]
        stacks = [
            replace(
                row,
                id=number,
                parent=None if row.parent is None else int(self._stack_ids[row.parent]),
            )
            for number, row in enumerate(metadata.stacks[s] for s in self._leaves.tolist())
        ]
        stop = metadata.stopped_ns is not None and metadata.stopped_ns < end
        looks, look_frames = self._cut_looks()
        return replace(
            metadata,
            start_ns=max(metadata.start_ns, first),
            end_ns=min(metadata.end_ns, end),
            lost_events=self._lost,
            stopped=metadata.stopped if stop else None,
            stopped_ns=metadata.stopped_ns if stop else None,
            processes=tuple(processes),
            threads=tuple(threads),
            gils=tuple(gils),
            stacks=tuple(stacks),
            looks=looks,
            look_frames=look_frames,
        )

    def _cut_looks(self) -> tuple[tuple[Look, ...], tuple[LookFrame, ...]]:
        """Those of the threads and the time that are kept. A circle stays only as a whole."""
        metadata = self._source.metadata
        kept = [
            look
            for look in metadata.looks
            if self._from_ns <= look.time_ns < self._to_ns
            and self._thread_ids[look.thread] != _NONE
        ]
        whole = Counter(look.circle for look in metadata.looks)
        left = Counter(look.circle for look in kept)
        ids = {look.id: number for number, look in enumerate(kept)}
        looks = []
        for look in kept:
            holder = None if look.holder is None else int(self._thread_ids[look.holder])
            looks.append(
                replace(
                    look,
                    id=ids[look.id],
                    thread=int(self._thread_ids[look.thread]),
                    holder=None if holder == _NONE else holder,
                    circle=look.circle if whole[look.circle] == left[look.circle] else None,
                )
            )
        frames = [
            replace(frame, look=ids[frame.look])
            for frame in metadata.look_frames
            if frame.look in ids
        ]
        return tuple(looks), tuple(frames)

    # ---- events ---------------------------------------------------------------------------

    def batches(self) -> Iterator[NDArray[np.void]]:
        """Yield the events. Raises TraceError, ImpossibleStory."""
        story = Story(self, keep=False)
        running: dict[int, NDArray[np.void]] = {}  # thread: the last event of its processor
        events = 0
        mapped = map(self._mapped, self._source.batches())
        for batch in chain([self._begin()], mapped):
            story.feed(batch)
            events += len(batch)
            for row in batch[np.isin(batch["kind"], PROCESSOR_EVENTS)]:
                running[int(row["thread"])] = row
            if len(batch):
                yield batch
        end = self._end(story, running)
        if len(end):
            yield end
        self._totals = Totals(events + len(end), self._source.totals.clamped)

    def _mapped(self, batch: NDArray[np.void]) -> NDArray[np.void]:
        kind = batch["kind"]
        ids = np.isin(kind, _OF_NO_THREAD)
        thread = np.where(ids, self._spokesmen[batch["thread"]], self._thread_ids[batch["thread"]])
        of_gil = (kind >= _FIRST_GIL) & (kind <= _LAST_GIL)
        gil = np.full(len(batch), _NONE, np.uint32)
        gil[of_gil] = self._gil_ids[batch["gil"][of_gil]]
        inside = (batch["time_ns"] >= self._from_ns) & (batch["time_ns"] < self._to_ns)
        inside &= (thread != _NONE) & (~of_gil | (gil != _NONE))
        if self._wanted is not None:
            concerned = of_gil | np.isin(kind, [*_LIVES, int(K.STACK)])
            inside &= concerned | self._wanted[batch["thread"]]
        mine: NDArray[np.void] = batch[inside].copy()
        mine["thread"] = thread[inside]
        mine["gil"] = np.where(of_gil[inside], gil[inside], NO_GIL)
        stacks = mine["kind"] == K.STACK
        mine["arg"][stacks] = self._stack_ids[mine["arg"][stacks].astype(np.int64)]
        wakeups = (mine["kind"] == K.GIL_WAKEUP) & (mine["arg"] > 0)
        woken = self._thread_ids[mine["arg"][wakeups].astype(np.int64) - 1]
        mine["arg"][wakeups] = np.where(woken == _NONE, 0, woken.astype(np.uint64) + 1)
        return mine

    def _begin(self) -> NDArray[np.void]:
        """Events that say at the begin what goes on then."""
        table = self._source.metadata.threads
        rows: list[_Row] = []
        living = [t for t in self._threads.tolist() if self._lives[t]]
        begun: set[int] = set()
        for number in living:
            process = table[number].process
            if process not in begun and self._stats["started"][process]:
                begun.add(process)
                rows.append(self._row(number, K.PROCESS_START))
        rows += [self._row(number, K.THREAD_START) for number in living]
        for gil in self._gils.tolist():
            process = self._source.metadata.gils[gil].process
            first = next((t for t in living if table[t].process == process), None)
            if first is not None and self._gils_now["unknown"][gil] and self._gils_now["lost"][gil]:
                rows.append(self._row(first, K.GIL_LOST, gil=gil))
        rows += [
            self._row(number, K(self._processors[number][0]), self._processors[number][1])
            for number in living
            if number in self._processors and (self._wanted is None or self._wanted[number])
        ]
        rows += self._begin_of_gils(living)
        for number in living:
            if self._wanted is None or self._wanted[number]:
                rows += self._begin_of_own(number)
        return np.array(rows, EVENT_DTYPE)

    def _begin_of_gils(self, living: list[int]) -> Iterator[_Row]:
        """Holders before those that wait."""
        waiting: dict[int, int] = {}
        for state in (HOLDING, WAITING):
            for number in living:
                now = self._now[number]
                gil = int(now["gil"])
                if now["state"] != state or self._gil_ids[gil] == _NONE:
                    continue
                if state == HOLDING:
                    yield self._row(number, K.GIL_ACQUIRE, gil=gil)
                    continue
                waiting[gil] = waiting.get(gil, 0) + 1
                flags = FLAG_CPU if now["cpu"] else 0
                yield self._row(number, K.GIL_WAIT, min(waiting[gil], _MOST), gil, flags)

    def _begin_of_own(self, number: int) -> Iterator[_Row]:
        """What else a thread waits for, and its atomic sections."""
        now = self._now[number]
        for about in now["sync"][: now["n_sync"]].tolist():
            kind = K.COND_WAIT if about & OF_CONDITION else K.LOCK_WAIT
            yield self._row(number, kind, about & ~OF_CONDITION)
        depth, sections = int(now["depth"]), int(now["sections"])
        for level in range(depth - sections + 1, depth + 1):
            yield self._row(number, K.ATOMIC_ENTER, level)

    def _row(
        self, thread: int, kind: EventKind, arg: int = 0, gil: int | None = None, flags: int = 0
    ) -> _Row:
        number = NO_GIL if gil is None else int(self._gil_ids[gil])
        start_ns = self.metadata.start_ns
        return start_ns, arg, int(self._thread_ids[thread]), number, int(kind), flags

    def _end(self, story: Story, running: dict[int, NDArray[np.void]]) -> NDArray[np.void]:
        """Events that end what goes on at the end."""
        threads, _ = story.now()
        stats = story.array_of_processes()
        at = max(self.metadata.end_ns, self.metadata.start_ns)
        at = max([at, *stats["last_ns"][stats["last_ns"] > 0].tolist()])
        rows: list[_Row] = [
            (max(at, int(row["time_ns"])), int(row["arg"]) | _UNSEEN, number, NO_GIL, _OFF, 0)
            for number, row in running.items()
            if row["kind"] == K.PROCESSOR_ON
        ]
        ended: set[int] = set()
        told: set[int] = set()
        for number, now in enumerate(threads):
            gil = int(now["gil"])
            if now["state"] != OUTSIDE and gil not in told:
                told.add(gil)
                rows.append((at, 0, number, gil, int(K.GIL_LOST), 0))
        over = [bool(stats["ended"][thread.process]) for thread in self.metadata.threads]
        for number, now in enumerate(threads):
            if (now["n_sync"] or now["sections"]) and not over[number]:
                rows.append((at, 0, number, NO_GIL, int(K.THREAD_LOST), 0))
        for number, thread in enumerate(self.metadata.threads):
            if not over[number] and thread.process not in ended:
                ended.add(thread.process)
                rows.append((at, 0, number, NO_GIL, int(K.PROCESS_END), 0))
        return np.array(rows, EVENT_DTYPE)


def _wanted(metadata: Metadata, patterns: Sequence[str]) -> NDArray[np.bool_] | None:
    if not patterns:
        return None
    names = [thread.name for thread in metadata.threads]
    found = [any(fnmatchcase(name, pattern) for pattern in patterns) for name in names]
    wanted = np.array(found, bool)
    if not wanted.any():
        there = ", ".join(sorted(set(names))[:8])
        raise UsageError(f"no thread is called {' or '.join(patterns)}; there are {there}")
    return wanted


def _with_callers(metadata: Metadata, leaves: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The stacks that are needed: callers stand before those that they call."""
    needed = leaves.copy()
    for row in reversed(metadata.stacks):
        if needed[row.id] and row.parent is not None:
            needed[row.parent] = True
    return np.flatnonzero(needed)


def _renumbered(kept: NDArray[np.int64], n: int) -> NDArray[np.uint32]:
    """The new number of each old one; _NONE: it is left out."""
    numbers = np.full(n, _NONE, np.uint32)
    numbers[kept] = np.arange(len(kept))
    return numbers

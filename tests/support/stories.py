"""Stories in memory: written by hand, drawn by hypothesis, or rolled by a seed.

A story is a `MemorySource`: an event source with its metadata, whose events obey (or, written by
hand, break) the rules of `gilscope/trace/story.c`. `possible_stories()` draws small ones that
shrink well; `rolled_story(seed, …)` makes large ones. Each process has a clock of its own, so the
events of different processes are not in the order of their times.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from gilscope.trace.schema import (
    EVENT_DTYPE,
    FLAG_CPU,
    FLAG_OF_SYNC,
    FLAG_OF_WAIT,
    FLAG_SEEN,
    FLAG_WAITED,
    NO_GIL,
    SYNC_DETAIL_SHIFT,
    SYNC_EVENTS,
    EventKind,
    Gil,
    Metadata,
    Process,
    Stack,
    SyncKind,
    Thread,
    Totals,
)

K = EventKind
START_NS = 1_000_000_000
MAX_WAITERS = 4095

# What the stacks of a story lead through: (parent, file, function, line, in the library).
STACKS = tuple(
    Stack(number, *row)
    for number, row in enumerate(
        (
            (None, "/app/main.py", "<module>", 30, False),
            (0, "/app/main.py", "serve", 17, False),
            (1, "/usr/lib/python3.13/re/__init__.py", "match", 167, True),
            (2, "/usr/lib/python3.13/re/_compiler.py", "compile", 8, True),
            (None, "/usr/lib/python3.13/threading.py", "Thread._bootstrap", 1012, True),
            (4, "/app/größe.py", "Werk.tue", 0, False),
            (4, "", "", 3, False),
        )
    )
)


@dataclass
class MemorySource:
    """An EventSource over one array; `batch` is the number of events a batch."""

    name: str
    metadata: Metadata
    events: NDArray[np.void]
    batch: int = 1 << 16
    clamped: int = 0

    def batches(self) -> Iterator[NDArray[np.void]]:
        for first in range(0, len(self.events), self.batch):
            yield self.events[first : first + self.batch].copy()

    @property
    def totals(self) -> Totals:
        return Totals(events=len(self.events), clamped=self.clamped)

    def locate(self, index: int) -> int:
        return index * EVENT_DTYPE.itemsize


class StoryBuilder:
    """Collects tables and events; nothing is checked here, so it tells impossible stories too."""

    def __init__(self, start_ns: int = START_NS) -> None:
        self.start_ns = start_ns
        self.processes: list[Process] = []
        self.threads: list[Thread] = []
        self.gils: list[Gil] = []
        self.rows: list[tuple[int, int, int, int, int, int]] = []

    def process(self, pid: int | None = None, **fields: object) -> int:
        number = len(self.processes)
        process = Process(
            id=number,
            pid=4242 + 100 * number if pid is None else pid,
            parent=None,
            command=("python", "app.py"),
            python="3.13.0",
            feed="interposed",
            interpreter="gil",
            start_ns=-1,
            end_ns=-1,
            lost_events=0,
            yields_inferred=True,
        )
        self.processes.append(replace(process, **fields))  # type: ignore[arg-type]
        return number

    def thread(self, process: int = 0, name: str | None = None, **fields: object) -> int:
        number = len(self.threads)
        mine = sum(t.process == process for t in self.threads)
        thread = Thread(
            id=number,
            process=process,
            tid=self.processes[process].pid + mine,
            name=name or ("MainThread" if mine == 0 else f"worker-{mine}"),
            is_main=mine == 0,
            start_ns=-1,
            end_ns=-1,
            lost_events=0,
        )
        self.threads.append(replace(thread, **fields))  # type: ignore[arg-type]
        return number

    def gil(self, process: int = 0) -> int:
        self.gils.append(Gil(id=len(self.gils), process=process))
        return len(self.gils) - 1

    def event(
        self, time: int, kind: K, thread: int, gil: int = NO_GIL, *, arg: int = 0, flags: int = 0
    ) -> None:
        """Append one event; `time` is in ns after the story's start."""
        self.rows.append((self.start_ns + time, arg, thread, gil, int(kind), flags))

    def source(self, name: str = "story", batch: int = 1 << 16, **fields: object) -> MemorySource:
        """The story so far. Lives that were left open (-1) are taken from the events."""
        events = np.array(self.rows, EVENT_DTYPE)
        times = events["time_ns"]
        end_ns = int(times.max()) if len(events) else self.start_ns
        table = np.array([t.process for t in self.threads] or [0], np.int64)
        owner = table[events["thread"]] if self.threads else np.zeros(0, np.int64)
        threads = [self._lived(t, times[events["thread"] == t.id], end_ns) for t in self.threads]
        processes = [self._lived(p, times[owner == p.id], end_ns) for p in self.processes]
        metadata = Metadata(
            command=("python", "app.py"),
            start_ns=self.start_ns,
            end_ns=end_ns,
            realtime_offset_ns=1_700_000_000_000_000_000,
            boottime_offset_ns=5,
            clock_source="tsc",
            lost_events=0,
            stopped=None,
            exit_code=0,
            gilscope="0.1.0",
            processes=tuple(processes),  # type: ignore[arg-type]
            threads=tuple(threads),  # type: ignore[arg-type]
            gils=tuple(self.gils),
            stacks=STACKS if (events["kind"] == K.STACK).any() else (),
        )
        return MemorySource(name, replace(metadata, **fields), events, batch)  # type: ignore[arg-type]

    def _lived(
        self, row: Process | Thread, times: NDArray[np.int64], end_ns: int
    ) -> Process | Thread:
        first = int(times.min()) if len(times) else self.start_ns
        last = int(times.max()) if len(times) else end_ns
        return replace(
            row,
            start_ns=first if row.start_ns == -1 else row.start_ns,
            end_ns=last if row.end_ns == -1 else row.end_ns,
        )


def sync_argument(words: Sequence[str], options: dict[str, str]) -> int:
    """The argument of an event of locks and conditions from its words."""
    sorts = {kind.label: kind for kind in SyncKind}
    sort = next((sorts[word] for word in words if word in sorts), SyncKind.UNKNOWN)
    detail = int(options.get("woken", "timed-out" in words))
    return detail << SYNC_DETAIL_SHIFT | int(options.get("object", "0"), 0) | sort


def told(text: str, **fields: object) -> MemorySource:
    """A story of one process and (mostly) one GIL, written as lines `time thread event [words]`.

    A name may hold escapes: `a\\tb`. Words: `io`, `cpu`, `waited`, `gil=N`, `arg=N`, `process=N`
    (on a thread's first line); of locks and conditions `native` or another SyncKind, `object=0x…`,
    `woken=N`, `timed-out`; of atomic sections `depth=N`; of a wakeup `to=NAME`. Threads, GILs and
    processes come to be where they are first named. Blank lines and # comments are free.
    """
    builder = StoryBuilder()
    threads: dict[str, int] = {}
    for line in text.splitlines():
        words = line.split("#")[0].split()
        if not words:
            continue
        time, name, event, *rest = words
        name = name.encode().decode("unicode_escape")
        options = dict(word.split("=") for word in rest if "=" in word)
        process = int(options.get("process", 0))
        while len(builder.processes) <= process:
            builder.process()
        if name not in threads:
            threads[name] = builder.thread(process, name)
        kind = K[event.upper().replace(".", "_")]
        gil = int(options.get("gil", 0)) if event.startswith("gil.") else NO_GIL
        while gil != NO_GIL and len(builder.gils) <= gil:
            builder.gil(builder.threads[threads[name]].process)
        flags = int("cpu" in rest or "waited" in rest or "wait" in rest) | 2 * ("seen" in rest)
        flags |= {"sync-wait": FLAG_OF_SYNC | FLAG_OF_WAIT, "waker": FLAG_OF_SYNC}.get(
            rest[-1] if rest else "", 0
        )
        arg = int(options.get("arg", options.get("depth", 0)))
        if kind in SYNC_EVENTS:
            arg = sync_argument(rest, options)
        elif "to" in options:
            arg = 1 + threads[options["to"]]
        builder.event(int(time.replace("_", "")), kind, threads[name], gil, arg=arg, flags=flags)
    return builder.source(**fields)  # type: ignore[arg-type]


@dataclass
class _Player:
    """A thread of the simulation. `gil` is what it holds or waits for."""

    id: int
    is_main: bool
    state: str = "new"  # new, outside, asking, waiting, holding, ended
    gil: int = NO_GIL
    forced: bool = False
    known: dict[int, int] = field(default_factory=dict)  # GIL -> epoch of its last event there
    waits: list[tuple[K, int]] = field(default_factory=list)  # for locks and conditions, open ones
    sync_known: bool = False
    depth: int | None = None  # of atomic sections


@dataclass
class _Lock:
    """A GIL of the simulation; `holder` is a player, None (free) or "unknown"."""

    id: int
    holder: _Player | str | None = "unknown"
    epoch: int = 1
    waiters: int = 0


# Some kinds and addresses, among them none and the largest.
_OBJECTS = (0x7F0000001002, 0x7F0000001007, 0, 0xFFFF_FFFF_FFF0 | 1)


class _World:
    """One process of the simulation: at every step it knows all that may happen next."""

    def __init__(
        self, builder: StoryBuilder, n_threads: int, n_gils: int, rare: bool, start: int
    ) -> None:
        self.builder = builder
        process = builder.process()
        self.players = [_Player(builder.thread(process), i == 0) for i in range(n_threads)]
        self.locks = {
            number: _Lock(number) for number in (builder.gil(process) for _ in range(n_gils))
        }
        self.rare = rare
        self.now = start
        self.over = False
        self.turn = 0
        self._emit(K.PROCESS_START, self.players[0])

    def _emit(self, kind: K, who: _Player, gil: int = NO_GIL, arg: int = 0, flags: int = 0) -> None:
        self.builder.event(self.now, kind, who.id, gil, arg=arg, flags=flags)

    def moves(self, who: _Player, lock: _Lock, rare: bool) -> list[Callable[[], None]]:
        """What `who` may do next (with `lock`, where it is free to choose)."""
        if self.over or who.state == "ended":
            return []
        if who.state == "new":
            return [lambda: self._start(who)]
        mine = lock if who.state == "outside" else self.locks[who.gil]
        if who.waits:
            moves = self._moves_waiting(who, mine)
        elif who.state == "outside":
            moves = self._moves_outside(who, lock, rare)
        else:
            moves = self._moves_inside(who, mine)
        others = [*self._moves_sync(who, rare), *self._moves_atomic(who, mine, rare)]
        self.turn += 1
        moves.append(others[self.turn % len(others)])
        if rare:
            moves.append(lambda: self._lose(who, lock))
            moves.append(lambda: self._lose_own(who))
            if not who.is_main and self.now % 5 == 0:
                moves.append(lambda: self._leave(who))
        return moves

    def _moves_outside(self, who: _Player, lock: _Lock, rare: bool) -> list[Callable[[], None]]:
        may_acquire = lock.holder in (None, "unknown")
        moves: list[Callable[[], None]] = [lambda: self._wait(who, lock)]
        if may_acquire:
            moves.append(lambda: self._acquire(who, lock, 0))
        if rare and who.known.get(lock.id) != lock.epoch:
            moves.append(lambda: self._ask(who, lock))
            if may_acquire:
                moves.append(lambda: self._acquire(who, lock, FLAG_WAITED))
            if lock.holder == "unknown":
                moves.append(lambda: self._release(who, lock, K.GIL_RELEASE))
                moves.append(lambda: self._release(who, lock, K.GIL_YIELD))
        return moves

    def _moves_inside(self, who: _Player, lock: _Lock) -> list[Callable[[], None]]:
        moves: list[Callable[[], None]] = []
        if who.state == "holding":
            moves.append(lambda: self._release(who, lock, K.GIL_RELEASE))
            if lock.waiters:
                moves.append(lambda: self._release(who, lock, K.GIL_YIELD))
            return moves
        if lock.holder in (None, "unknown"):
            moves.append(lambda: self._acquire(who, lock, FLAG_WAITED))
        if lock.holder is not None:
            moves.append(lambda: self._emit(K.GIL_REQUEST, who, lock.id, lock.waiters))
        return moves

    def _moves_waiting(self, who: _Player, lock: _Lock) -> list[Callable[[], None]]:
        """Of a thread that waits for a lock or a condition."""
        moves: list[Callable[[], None]] = [
            lambda: self._end_wait(who, timed_out=False),
            lambda: self._end_wait(who, timed_out=True),
        ]
        if who.state == "waiting" and lock.holder is not None:
            moves.append(lambda: self._emit(K.GIL_REQUEST, who, lock.id, lock.waiters))
        return moves

    def _moves_sync(self, who: _Player, rare: bool) -> list[Callable[[], None]]:
        about = _OBJECTS[self.turn % len(_OBJECTS)]
        woken = self.turn % 4 << SYNC_DETAIL_SHIFT
        moves: list[Callable[[], None]] = [
            lambda: self._emit(K.COND_NOTIFY, who, arg=about | woken),
            lambda: self._emit(K.LOCK_RELEASE, who, arg=about),
        ]
        if who.state != "holding" and len(who.waits) < 4:
            moves.append(lambda: self._begin_wait(who, K.COND_WAIT, about))
            moves.append(lambda: self._begin_wait(who, K.LOCK_WAIT, about))
        if rare and not who.waits and not who.sync_known:
            moves.append(lambda: self._emit(K.COND_WAKE, who, arg=about))
            moves.append(lambda: self._emit(K.LOCK_ACQUIRE, who, arg=about | 1 << 48))
        return moves

    def _begin_wait(self, who: _Player, kind: K, about: int) -> None:
        who.waits.append((kind, about))
        who.sync_known = True
        self._emit(kind, who, arg=about)

    def _end_wait(self, who: _Player, *, timed_out: bool) -> None:
        kind, about = who.waits.pop()
        ends = K.LOCK_ACQUIRE if kind == K.LOCK_WAIT else K.COND_WAKE
        self._emit(ends, who, arg=about | timed_out << SYNC_DETAIL_SHIFT)

    def _moves_atomic(self, who: _Player, lock: _Lock, rare: bool) -> list[Callable[[], None]]:
        depth = who.depth
        if depth is None:
            depth = self.turn % 3 if rare else 0
        moves: list[Callable[[], None]] = [
            lambda: self._atomic(who, K.ATOMIC_ENTER, depth + 1, depth + 1),
            lambda: self._emit(K.GIL_WAKEUP, who, lock.id),
        ]
        moves += [
            lambda woken=player: self._emit(K.GIL_WAKEUP, who, lock.id, arg=1 + woken.id)
            for player in self.players
            if player.state == "waiting" and player.gil == lock.id
        ]
        if depth:
            moves.append(lambda: self._atomic(who, K.ATOMIC_EXIT, depth, depth - 1))
            moves.append(lambda: self._atomic(who, K.ATOMIC_DEFERRED, depth, who.depth))
        return moves

    def _atomic(self, who: _Player, kind: K, depth: int, after: int | None) -> None:
        who.depth = after
        self._emit(kind, who, arg=depth)

    def _lose_own(self, who: _Player) -> None:
        who.waits, who.sync_known, who.depth = [], False, None
        self._emit(K.THREAD_LOST, who, arg=self.now % 3)

    def _ask(self, who: _Player, lock: _Lock) -> None:
        """A request by a thread whose wait began where nobody saw it."""
        who.state, who.gil = "asking", lock.id
        self._emit(K.GIL_REQUEST, who, lock.id, lock.waiters)

    def _start(self, who: _Player) -> None:
        who.state = "outside"
        self._emit(K.THREAD_START, who)

    def _wait(self, who: _Player, lock: _Lock) -> None:
        who.sync_known = True
        lock.waiters += 1
        who.state, who.gil = "waiting", lock.id
        who.known[lock.id] = lock.epoch
        arg = min(lock.waiters, MAX_WAITERS)
        self._emit(K.GIL_WAIT, who, lock.id, arg, FLAG_CPU if who.forced else 0)

    def _acquire(self, who: _Player, lock: _Lock, flags: int) -> None:
        who.sync_known = True
        if who.state == "waiting":
            lock.waiters -= 1
            self._stack(who, FLAG_OF_WAIT)
        lock.holder = who
        who.state, who.gil = "holding", lock.id
        who.known[lock.id] = lock.epoch
        self._emit(K.GIL_ACQUIRE, who, lock.id, min(lock.waiters, MAX_WAITERS), flags)

    def _release(self, who: _Player, lock: _Lock, kind: K) -> None:
        who.sync_known = True
        if who.state == "holding":
            self._stack(who, FLAG_SEEN * (kind == K.GIL_YIELD))
        lock.holder = None
        who.state, who.gil = "outside", NO_GIL
        who.forced = kind == K.GIL_YIELD
        who.known[lock.id] = lock.epoch
        self._emit(kind, who, lock.id, min(lock.waiters, MAX_WAITERS))

    def _stack(self, who: _Player, flags: int) -> None:
        """Of every other hold and wait."""
        if self.now % 2:
            self._emit(K.STACK, who, arg=self.now // 2 % len(STACKS), flags=flags)

    def _lose(self, next_one: _Player, lock: _Lock) -> None:
        for player in self.players:
            if player.gil == lock.id:
                if player.state == "waiting" and player.waits:
                    player.waits, player.sync_known = [], False
                player.state, player.gil = "outside", NO_GIL
        lock.holder, lock.waiters = "unknown", 0
        lock.epoch += 1
        self._emit(K.GIL_LOST, next_one, lock.id, self.now % 3)
        # A gap is told by the event behind it, so that event follows at once, of that thread.
        if next_one.state == "outside" and not next_one.waits:
            self._acquire(next_one, lock, 0)

    def _leave(self, who: _Player) -> None:
        if who.state == "waiting":
            self.locks[who.gil].waiters -= 1
        elif who.state == "holding":
            self.locks[who.gil].holder = None
        who.state, who.gil = "ended", NO_GIL
        self._emit(K.THREAD_END, who)

    def end(self, unclean: bool) -> None:
        if not self.over:
            self.over = True
            self._emit(K.PROCESS_END, self.players[0], arg=int(unclean))


Choice = tuple[int, int, int, int]  # which process and thread, which GIL, which move, time passed


def played(
    shape: Sequence[tuple[int, int]], choices: Iterator[Choice] | Sequence[Choice], rare: int = 8
) -> StoryBuilder:
    """Plays a story: `shape` gives (threads, GILs) a process; every `rare`-th step may lose records
    or end a thread (0: never). Always possible, always closed."""
    builder = StoryBuilder()
    worlds = [
        _World(builder, max(1, n), max(1, g), bool(rare), 7 * i) for i, (n, g) in enumerate(shape)
    ]
    for world in worlds:
        world._start(world.players[0])
    everyone = [(world, player) for world in worlds for player in world.players]
    for step, (who, which, move, passed) in enumerate(choices):
        world, player = everyone[who % len(everyone)]
        locks = list(world.locks.values())
        special = rare > 0 and (step + move) % rare == 0
        moves = world.moves(player, locks[which % len(locks)], special)
        if moves:
            world.now += passed
            moves[move % len(moves)]()
    for number, world in enumerate(worlds):
        world.now += number
        world.end(unclean=number % 2 == 1)
    return builder


_SHAPES = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 2)), min_size=1, max_size=3)
_CHOICES = st.lists(
    st.tuples(
        st.integers(0, 14),
        st.integers(0, 1),
        st.integers(0, 9),
        st.sampled_from((0, 1, 3, 50, 3_000_000)),
    ),
    max_size=120,
)


def possible_stories() -> st.SearchStrategy[MemorySource]:
    """Small stories that could have happened, unknown states, losses and sudden ends included."""
    return st.builds(
        lambda shape, choices, rare, batch: played(shape, choices, rare).source(batch=batch),
        _SHAPES,
        _CHOICES,
        st.sampled_from((0, 2, 8)),
        st.sampled_from((1, 7, 1 << 16)),
    )


def rolled_story(
    seed: int, steps: int, shape: Sequence[tuple[int, int]] = ((4, 1),), rare: int = 50
) -> MemorySource:
    """A larger story from a seed; it has somewhat fewer events than `steps`."""
    dice = random.Random(seed)
    total = sum(threads for threads, _ in shape)
    choices = (
        (dice.randrange(total), dice.randrange(8), dice.randrange(840), dice.randrange(5_000))
        for _ in range(steps)
    )
    return played(shape, choices, rare).source()  # type: ignore[arg-type]

"""A recording that never was: an event source of any length, in bounded memory.

Each process has threads that serve IO (short holds, then a pause) and threads that compute (they
keep the GIL until asked). A block of some ten thousand events is played through once, with the
rules of `take_gil` and `drop_gil`; it begins and ends with a free GIL, so it can be told over and
over, each time later. The story is possible by construction; a test holds it to story.c.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np

from gilscope.trace.schema import (
    EVENT_DTYPE,
    FLAG_CPU,
    FLAG_WAITED,
    NO_GIL,
    EventKind,
    Gil,
    Metadata,
    Policy,
    Process,
    Thread,
    Totals,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

START_NS = 1_000_000_000_000
SWITCH_INTERVAL_NS = 5_000_000
_BLOCK_EVENTS = 30_000
_GAP_NS = 100_000  # between two tellings of a block

Row = tuple[int, int, int, int, int, int]  # the fields of EVENT_DTYPE


class _Block:
    """Plays one process for `_BLOCK_EVENTS` events and then lets it come to rest.

    Threads are numbered from 0; the first `n_cpu` compute. Times are ns from the block's beginning.
    """

    def __init__(self, seed: int, n_io: int, n_cpu: int) -> None:
        self._dice = random.Random(seed)
        self._n_cpu = n_cpu
        self.rows: list[Row] = []
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        self._planned = 0
        self._now = 0
        self._holder: int | None = None
        self._switches = 0
        self._waiting: list[int] = []  # in the order in which they came
        self._forced = [False] * (n_io + n_cpu)
        for thread in range(n_io + n_cpu):
            self._plan(self._about(200_000), partial(self._want, thread))
        while self._agenda:
            self._now, _, act = heapq.heappop(self._agenda)
            act()

    def _about(self, mean_ns: int) -> int:
        return 200 + int(self._dice.expovariate(1 / mean_ns))

    def _plan(self, delay_ns: int, act: Callable[[], None]) -> None:
        self._planned += 1  # breaks ties, first come first served
        heapq.heappush(self._agenda, (self._now + delay_ns, self._planned, act))

    def _emit(self, kind: EventKind, thread: int, flags: int = 0) -> None:
        self.rows.append((self._now, len(self._waiting), thread, 0, kind, flags))

    def _want(self, thread: int) -> None:
        if self._holder is None:
            self._acquire(thread, 0)
            return
        self._waiting.append(thread)
        self._emit(EventKind.GIL_WAIT, thread, FLAG_CPU if self._forced[thread] else 0)
        self._watch(thread)

    def _watch(self, thread: int) -> None:
        """Ask for the GIL when a whole interval passes without a switch."""
        seen = self._switches

        def time_out() -> None:
            if thread not in self._waiting:
                return
            if self._holder is not None and self._switches == seen:
                self._emit(EventKind.GIL_REQUEST, thread)
                self._plan(self._about(8_000), lambda: self._release(seen, EventKind.GIL_YIELD))
            self._watch(thread)

        self._plan(SWITCH_INTERVAL_NS + self._dice.randrange(60_000), time_out)

    def _acquire(self, thread: int, flags: int) -> None:
        self._holder = thread
        self._switches += 1
        self._emit(EventKind.GIL_ACQUIRE, thread, flags)
        mean_ns = 12_000_000 if thread < self._n_cpu and not self._resting else 25_000
        seen = self._switches
        self._plan(self._about(mean_ns), lambda: self._release(seen, EventKind.GIL_RELEASE))

    @property
    def _resting(self) -> bool:
        return len(self.rows) >= _BLOCK_EVENTS

    def _release(self, switch: int, kind: EventKind) -> None:
        """End the hold that began with that switch, unless it is over."""
        if self._holder is None or self._switches != switch:
            return
        thread, self._holder = self._holder, None
        self._forced[thread] = kind == EventKind.GIL_YIELD
        self._emit(kind, thread)
        if self._waiting:
            self._plan(self._about(9_000), self._wake)
        if self._forced[thread]:
            self._plan(self._about(20_000), lambda: self._want(thread))
        elif not self._resting:
            self._plan(self._about(150_000), lambda: self._want(thread))

    def _wake(self) -> None:
        if self._holder is None and self._waiting:
            self._acquire(self._waiting.pop(0), FLAG_WAITED)


@cache
def _block(seed: int, n_io: int, n_cpu: int) -> tuple[Row, ...]:
    return tuple(_Block(seed, n_io, n_cpu).rows)


class SyntheticSource:
    """An EventSource of exactly `n_events` events.

    Raises ValueError when they are too few for the threads to begin and end.
    """

    def __init__(
        self,
        n_events: int,
        *,
        n_processes: int = 1,
        n_io: int = 6,
        n_cpu: int = 2,
        seed: int = 1,
    ) -> None:
        self.name = f"synthetic {n_events}"
        n_threads = n_io + n_cpu
        least = n_processes * (2 * n_threads + 2)
        if n_events < least:
            raise ValueError(f"{n_events} events are too few: {n_processes} processes need {least}")
        self._tellings = [
            _Telling(
                process,
                n_threads,
                _block(seed + process, n_io, n_cpu),
                n_events // n_processes + (process < n_events % n_processes),
            )
            for process in range(n_processes)
        ]
        end_ns = max(telling.end_ns for telling in self._tellings)
        command = ("python3", "server.py")
        self.metadata = Metadata(
            command=command,
            start_ns=START_NS,
            end_ns=end_ns,
            realtime_offset_ns=1_790_000_000_000_000_000,
            boottime_offset_ns=0,
            clock_source="tsc",
            lost_events=0,
            stopped=None,
            exit_code=0,
            gilscope="synthetic",
            policy=Policy(switch_interval_ns=SWITCH_INTERVAL_NS),
            processes=tuple(
                Process(
                    id=telling.process,
                    pid=4242 + 100 * telling.process,
                    parent=None if telling.process == 0 else 0,
                    command=command,
                    python="3.13.5",
                    feed="interposed",
                    interpreter="gil",
                    start_ns=START_NS,
                    end_ns=telling.end_ns,
                    lost_events=0,
                )
                for telling in self._tellings
            ),
            threads=tuple(
                Thread(
                    id=telling.process * n_threads + number,
                    process=telling.process,
                    tid=4242 + 100 * telling.process + number,
                    name="MainThread" if number == 0 else f"worker-{number}",
                    is_main=number == 0,
                    start_ns=START_NS,
                    end_ns=telling.end_ns,
                    lost_events=0,
                )
                for telling in self._tellings
                for number in range(n_threads)
            ),
            gils=tuple(Gil(id=t.process, process=t.process) for t in self._tellings),
        )
        self.totals = Totals(events=n_events, clamped=0)

    def batches(self) -> Iterator[NDArray[np.void]]:
        """Yield the processes' stories in turns, some ten thousand events each time."""
        turns = [telling.batches() for telling in self._tellings]
        while turns:
            for turn in list(turns):
                batch = next(turn, None)
                if batch is None:
                    turns.remove(turn)
                else:
                    yield batch

    def locate(self, index: int) -> int:
        """Return where the event would lie in an array of all."""
        return index * EVENT_DTYPE.itemsize


class _Telling:
    """One process's story: its threads start, its block is told over and over, its threads end."""

    def __init__(self, process: int, n_threads: int, rows: tuple[Row, ...], n_events: int) -> None:
        self.process = process
        self._first_thread = process * n_threads
        self._n_threads = n_threads
        self._block = np.array(list(rows), dtype=EVENT_DTYPE)
        self._block["thread"] += self._first_thread
        self._block["gil"] = process
        self._span_ns = int(self._block["time_ns"][-1]) + _GAP_NS
        self._whole, self._rest = divmod(n_events - 2 * n_threads - 2, len(rows))
        last_ns = int(self._block["time_ns"][self._rest - 1]) if self._rest else 0
        self.end_ns = START_NS + self._whole * self._span_ns + last_ns + 1

    def batches(self) -> Iterator[NDArray[np.void]]:
        threads = range(self._first_thread, self._first_thread + self._n_threads)
        main = threads[0]
        yield self._lives(
            START_NS,
            [(EventKind.PROCESS_START, main), *((EventKind.THREAD_START, t) for t in threads)],
        )
        block = self._block.copy()
        block["time_ns"] += START_NS
        for _ in range(self._whole):
            yield block
            block["time_ns"] += self._span_ns
        if self._rest:
            yield block[: self._rest]
        yield self._lives(
            self.end_ns,
            [*((EventKind.THREAD_END, t) for t in threads), (EventKind.PROCESS_END, main)],
        )

    @staticmethod
    def _lives(time_ns: int, events: list[tuple[EventKind, int]]) -> NDArray[np.void]:
        rows = [(time_ns, 0, thread, NO_GIL, kind, 0) for kind, thread in events]
        return np.array(rows, dtype=EVENT_DTYPE)

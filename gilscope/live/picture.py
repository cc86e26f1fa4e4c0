"""What a process does now, as one picture: threads, what each waits for, who waits in a circle.

A circle is told where two looks some milliseconds apart agree on it: what each look sees of one
thread is a little older than what it sees of the next. So there are up to five looks, until nobody
is undecided; the last one is the picture.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from gilscope.live.deadlocks import cycles
from gilscope.live.frames import Frames
from gilscope.live.locks import Locks
from gilscope.live.memory import Memory
from gilscope.live.modules import full_version
from gilscope.live.objects import Objects
from gilscope.live.runtime import Runtime
from gilscope.live.threads import Look, Thread, look
from gilscope.live.waits import Wait, Waits

_PAUSE_S = 0.02
_LOOKS = 5  # at most: who waits for the GIL wakes up every few milliseconds, and goes on waiting


@dataclass(frozen=True)
class Picture:
    """A process at one moment."""

    pid: int
    command: tuple[str, ...]
    python: str  # the version, as far as it tells
    time_ns: int  # CLOCK_MONOTONIC
    look: Look
    waits: dict[int, Wait]  # by the address of the waiting thread's state
    deadlocks: tuple[tuple[Thread, ...], ...]  # each thread waits for what the next one has


def take(pid: int) -> Picture:
    """The picture of process `pid`. Raises NotAttachable."""
    with Memory(pid) as memory:
        runtime = Runtime.open(memory)
        return take_of(runtime)


def take_of(runtime: Runtime, only: Collection[int] | None = None) -> Picture:
    """The picture of a process that was opened before, or of these threads of it."""
    times: Counter[frozenset[tuple[int, object]]] = Counter()  # that a circle was seen
    for number in range(_LOOKS):
        if number:
            time.sleep(_PAUSE_S)
        seen, waits = _look(runtime, only)
        circles = _cycles(seen, waits)
        times.update(frozenset(map(_key, circle)) for circle in circles)
        found = [circle for circle in circles if times[frozenset(map(_key, circle))] > 1]
        undecided = any(one.waits_for_gil is None for one in seen.threads)
        if len(found) == len(times) and not undecided:
            break
    return Picture(
        pid=runtime.pid,
        command=_command(runtime.pid),
        python=full_version(runtime.memory, runtime.python),
        time_ns=time.monotonic_ns(),
        look=seen,
        waits=waits,
        deadlocks=tuple(map(tuple, found)),
    )


def _look(runtime: Runtime, only: Collection[int] | None = None) -> tuple[Look, dict[int, Wait]]:
    seen = look(runtime, only)
    objects = Objects(runtime.memory, runtime.layout)
    frames = Frames(runtime.memory, runtime.layout, objects)
    locks = Locks(runtime.memory, runtime.layout, objects, frames)
    told = Waits(runtime.memory, locks, objects, seen)
    waits = {one.state.address: wait for one in seen.threads if (wait := told.of(one)) is not None}
    return seen, waits


def _cycles(seen: Look, waits: dict[int, Wait]) -> list[list[Thread]]:
    by_address = {one.state.address: one for one in seen.threads}
    on = {
        address: None
        if (wait := waits.get(address)) is None or wait.holder is None
        else wait.holder.state.address
        for address in by_address
    }
    return [[by_address[at] for at in cycle] for cycle in cycles(on)]


def _key(thread: Thread) -> tuple[int, object]:
    frames = thread.stack.frames
    return thread.state.address, frames[0].raw if frames else None


def _command(pid: int) -> tuple[str, ...]:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return ()
    return tuple(word.decode("utf-8", "surrogateescape") for word in words[:-1])

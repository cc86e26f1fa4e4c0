"""The condition variable of probe/condvar.c and probe/park.c, checked exhaustively as a model.

Waiters and a signaller take steps that each touch shared memory once, in every order; a waiter's
time may be up at any moment, and it may wait again. Invariants, the promises of condvar.h:
  - a signal wakes only a thread that waited when it was given, the one that waited longest;
  - no signal is lost: as many waits end signalled as signals met a waiter;
  - nobody sleeps for ever after it was woken, and nothing stays linked.
That the checks can fail is shown by protocols that are broken in one place each: the bare counting
semaphore that all waiters share is one of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest

WAITS = 2  # of each waiter


class Waiter(NamedTuple):
    """`at`: lock, enqueue, unlock, sleep, relock, leave, rest. A wait has a number of its own."""

    at: str = "lock"
    wait: int = 0
    woken: bool = False  # its parker's flag, under the mutex
    posted: bool = False  # its parker's semaphore or futex word
    timed_out: bool = False


class State(NamedTuple):
    """`owed`: waits (waiter, number) that a signal was given to and that have not ended yet."""

    waiters: tuple[Waiter, ...]
    signals: int
    mutex: int = -1  # who has it; the signaller is len(waiters)
    signaller: str = "lock"
    queue: tuple[int, ...] = ()
    shared: int = 0  # the count of the broken protocol's one semaphore
    owed: frozenset[tuple[int, int]] = frozenset()


class Violation(Exception):
    """A promise does not hold."""


class Model:
    """The protocol, or one that is `broken` in one place."""

    def __init__(self, waiters: int, signals: int, broken: str = "") -> None:
        self.start = State((Waiter(),) * waiters, signals)
        self.broken = broken

    def explore(self) -> int:
        """Visit every reachable state; return their number. Raises Violation."""
        seen, todo = {self.start}, [self.start]
        while todo:
            state = todo.pop()
            after = list(self.steps(state))
            if not after:
                self.end(state)
            for step in after:
                if step not in seen:
                    seen.add(step)
                    todo.append(step)
        return len(seen)

    @staticmethod
    def end(state: State) -> None:
        """Nobody can move: everybody must be through, and nothing may be left."""
        if any(w.at != "rest" for w in state.waiters) or state.signals:
            raise Violation("somebody sleeps for ever")
        if state.queue or state.owed:
            raise Violation("a waiter is still linked or a signal was lost")

    def steps(self, state: State) -> Iterator[State]:
        yield from self.signal(state)
        for who, waiter in enumerate(state.waiters):
            yield from self.wait(state, who, waiter)

    # ---- gs_condvar_signal -------------------------------------------------------------------

    def signal(self, state: State) -> Iterator[State]:
        me = len(state.waiters)
        if state.signaller == "lock" and state.signals and state.mutex == -1:
            yield state._replace(mutex=me, signaller="pop")
        elif state.signaller == "pop":
            state = state._replace(signals=state.signals - 1, signaller="unlock")
            if not state.queue:
                yield state
                return
            first, *rest = state.queue
            if self.broken == "the last one first":
                *rest, first = state.queue
            waiter = state.waiters[first]
            if first != state.queue[0]:
                raise Violation("a signal passed over who had waited longest")
            state = state._replace(queue=tuple(rest), owed=state.owed | {(first, waiter.wait)})
            if self.broken == "one semaphore for all":
                yield state._replace(shared=state.shared + 1)
            else:
                yield self.put(state, first, waiter._replace(woken=True, posted=True))
        elif state.signaller == "unlock":
            yield state._replace(mutex=-1, signaller="lock")

    # ---- gs_condvar_wait ---------------------------------------------------------------------

    def wait(self, state: State, who: int, waiter: Waiter) -> Iterator[State]:
        shared = self.broken == "one semaphore for all"
        if waiter.at == "lock" and state.mutex == -1:
            yield self.put(state._replace(mutex=who), who, waiter._replace(at="enqueue"))
        elif waiter.at == "enqueue":
            fresh = waiter._replace(at="unlock", woken=False, posted=False, timed_out=False)
            yield self.put(state._replace(queue=(*state.queue, who)), who, fresh)
        elif waiter.at == "unlock":
            yield self.put(state._replace(mutex=-1), who, waiter._replace(at="sleep"))
        elif waiter.at == "sleep":
            if shared and state.shared:
                yield self.put(
                    state._replace(shared=state.shared - 1),
                    who,
                    waiter._replace(at="relock", woken=True),
                )
            if waiter.posted:
                yield self.put(state, who, waiter._replace(at="relock", posted=False))
            yield self.put(state, who, waiter._replace(at="relock", timed_out=True))
        elif waiter.at == "relock" and state.mutex == -1:
            yield self.put(state._replace(mutex=who), who, waiter._replace(at="leave"))
        elif waiter.at == "leave":
            yield self.leave(state, who, waiter)

    def leave(self, state: State, who: int, waiter: Waiter) -> State:
        """With the mutex: it was signalled, or it takes itself out of the queue."""
        signalled = waiter.woken
        if self.broken == "a timeout is believed":
            signalled = waiter.woken and not waiter.timed_out
        if signalled and (who, waiter.wait) not in state.owed:
            raise Violation("a signal was stolen")
        if signalled:
            state = state._replace(owed=state.owed - {(who, waiter.wait)})
        elif who in state.queue:
            state = state._replace(queue=tuple(w for w in state.queue if w != who))
        number = waiter.wait + 1
        after = Waiter(at="lock" if number < WAITS else "rest", wait=number)
        return self.put(state._replace(mutex=-1), who, after)

    @staticmethod
    def put(state: State, who: int, waiter: Waiter) -> State:
        waiters = (*state.waiters[:who], waiter, *state.waiters[who + 1 :])
        return state._replace(waiters=waiters)


@pytest.mark.parametrize(("waiters", "signals"), [(2, 3), (3, 2)])
def test_no_order_of_steps_breaks_a_promise(waiters: int, signals: int) -> None:
    states = Model(waiters, signals).explore()
    print(f"{waiters} waiters, {signals} signals: {states} states")
    assert states > 1_000


@pytest.mark.parametrize(
    ("broken", "caught"),
    [
        ("one semaphore for all", "stolen|lost"),
        ("the last one first", "waited longest"),
        ("a timeout is believed", "lost"),
    ],
)
def test_a_broken_protocol_is_caught(broken: str, caught: str) -> None:
    with pytest.raises(Violation, match=caught):
        Model(2, 3, broken).explore()

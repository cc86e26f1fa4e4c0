"""Who asks the holder of a GIL to yield (probe/request.h), checked exhaustively as a model.

A thread that computes in atomic sections and a waiter take steps that each touch shared memory
once, in every order. What the thread stores may stay in its processor's buffer for any time, until
a fence. Its signal handlers run between any two of its bytecodes: they have sections of their own,
or block. It may fork, and goes on in the child. The kernel may refuse to execute fences from any
moment on, and a thread that leaves its wait to exit may take CPython's request back, as it does up
to 3.12. Promises:
  - no waiter stays unasked: at the end it has had all its turns. A request is made once in each
    hold, and once more (a switch interval later) for each fence refused or request taken back;
  - no section is disturbed: CPython is told of no request that it could take up inside one;
  - a fork's child is not asked by threads of its parent.
That the checks can fail is shown by protocols that are broken in one place each. One of them is
what gilscope had before: the waiter noted beside the request that the section held it back.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest


class Holder(NamedTuple):
    """The thread with the sections.

    `at`: out, enter, enter looks, in, nested, exit, exit looks; with `away` it is without the GIL
    and goes on there. `stores` are values of its depth on their way to memory, the oldest first.
    """

    at: str = "out"
    away: bool = False
    sections: int = 2
    handlers: int = 1
    forks: int = 1
    stores: tuple[int, ...] = ()
    own_fence: bool = False  # it has to execute the fence itself, as it read when it stored


class Waiter(NamedTuple):
    """`at`: rest, wait, fence, fenced or unfenced, hold."""

    at: str = "rest"
    turns: int = 2
    asked: bool = False  # it has asked in this hold


class State(NamedTuple):
    """`mutex`: the waiter has it. `again`: how often it may ask once more in a hold."""

    holder: Holder
    waiter: Waiter = Waiter()
    gil: str = "holder"
    mutex: bool = False
    depth: int = 0  # as the waiter sees it
    asked: bool = False
    told: bool = False  # CPython is
    beside: bool = False  # where the broken protocol notes what was held back
    refused: bool = False  # the kernel executes no fences (any more)
    faults: int = 0  # still to come
    again: int = 0


class Violation(Exception):
    """A promise does not hold."""


class Model:
    """The protocol, or one that is `broken` in one place."""

    def __init__(self, faults: int, broken: str = "") -> None:
        self.start = State(Holder(), faults=faults)
        self.broken = broken

    def explore(self) -> int:
        """Visit every reachable state; return their number. Raises Violation."""
        seen, todo = {self.start}, [self.start]
        while todo:
            state = todo.pop()
            after = list(self.steps(state))
            if not after and (state.waiter.turns or state.waiter.at != "rest"):
                raise Violation(f"a waiter stays unasked: {state}")
            for step in after:
                if step not in seen:
                    seen.add(step)
                    todo.append(step)
        return len(seen)

    def steps(self, state: State) -> Iterator[State]:
        yield from self.arrive(state)
        yield from self.compute(state)
        yield from self.wait(state)
        yield from self.fail(state)

    # ---- memory and the kernel ---------------------------------------------------------------

    @staticmethod
    def arrive(state: State) -> Iterator[State]:
        """The oldest store leaves the processor's buffer."""
        if state.holder.stores:
            first, *rest = state.holder.stores
            yield state._replace(depth=first, holder=state.holder._replace(stores=tuple(rest)))

    @staticmethod
    def flushed(state: State) -> State:
        stores = state.holder.stores
        if not stores:
            return state
        return state._replace(depth=stores[-1], holder=state.holder._replace(stores=()))

    @staticmethod
    def fail(state: State) -> Iterator[State]:
        """A thread that leaves takes CPython's request back."""
        if state.faults and state.told and not state.mutex:
            yield state._replace(told=False, faults=state.faults - 1, again=state.again + 1)

    # ---- the thread with the sections --------------------------------------------------------

    def compute(self, state: State) -> Iterator[State]:
        me = state.holder
        if me.away:
            if not state.mutex and not state.gil:
                answered = self.acquired(state._replace(gil="holder"))
                yield answered._replace(holder=me._replace(away=False))
        elif me.at in ("out", "in"):
            yield from self.between_bytecodes(state)
        elif me.at == "nested":  # the end of a section inside another
            yield self.store(state, 1, "in")
        elif me.at in ("enter", "exit"):
            ready = self.flushed(state) if me.own_fence else state
            yield ready._replace(holder=ready.holder._replace(at=f"{me.at} looks"))
        else:
            yield from self.look(state)

    def between_bytecodes(self, state: State) -> Iterator[State]:
        me = state.holder
        inside = me.at == "in"
        if state.told:
            if inside:
                raise Violation(f"a section is disturbed: {state}")
            yield from self.release(state, "out")
            return
        if inside:
            yield self.store(state, 0, "exit")
        elif me.sections:
            less = state._replace(holder=me._replace(sections=me.sections - 1))
            yield self.store(less, 1, "enter")
        if me.handlers:
            less = state._replace(holder=me._replace(handlers=me.handlers - 1))
            yield from self.release(less, me.at)  # it blocks
            yield self.store(less, 2, "nested") if inside else self.store(less, 1, "enter")
        if me.forks:
            yield self.fork(state)

    def store(self, state: State, depth: int, to: str) -> State:
        """Its depth; and how the fence is executed, which it may read before that store arrives."""
        beside = state.beside and (to, depth) != ("enter", 1)
        own_fence = state.refused and self.broken != "no fence"
        me = state.holder
        me = me._replace(at=to, stores=(*me.stores, depth), own_fence=own_fence)
        return state._replace(holder=me, beside=beside)

    def look(self, state: State) -> Iterator[State]:
        me = state.holder
        enters = me.at == "enter looks"
        to = "in" if enters else "out"
        asked = state.asked
        if self.broken == "noted beside the request":
            asked = state.asked if enters else state.beside
        if self.broken == "nobody looks when a section begins" and enters:
            asked = False
        if self.broken == "nobody looks when a section ends" and not enters:
            asked = False
        if asked:
            yield from self.release(state._replace(beside=False), to)
        else:
            yield state._replace(holder=me._replace(at=to))

    @staticmethod
    def release(state: State, to: str) -> Iterator[State]:
        """With the mutex. The release executes a fence."""
        if not state.mutex:
            free = Model.flushed(state)
            yield free._replace(gil="", holder=free.holder._replace(at=to, away=True))

    def fork(self, state: State) -> State:
        """The child: its memory is what the forking thread sees. A thread of its own will wait."""
        child = self.flushed(state)
        asked = child.asked and self.broken == "a child keeps its parent's request"
        if asked:
            raise Violation("a child is asked by a thread that it has not")
        me = child.holder._replace(forks=child.holder.forks - 1)
        waiter = Waiter(turns=max(child.waiter.turns, 1))
        return child._replace(holder=me, waiter=waiter, mutex=False, asked=asked, told=False)

    # ---- the waiter --------------------------------------------------------------------------

    def wait(self, state: State) -> Iterator[State]:
        me = state.waiter
        if me.at == "rest" and me.turns:
            yield state._replace(waiter=me._replace(at="wait", asked=False))
        elif me.at == "wait":
            if not state.gil:
                taken = self.acquired(state._replace(gil="waiter"))
                yield taken._replace(waiter=taken.waiter._replace(at="hold"))
            elif not me.asked:
                yield self.ask(state)
            elif state.again and not state.holder.stores and self.broken != "asked but once":
                yield self.ask(state._replace(again=state.again - 1))
        elif me.at == "fence":
            yield from self.fence(state)
        elif me.at in ("fenced", "unfenced"):
            yield self.see(state)
        elif me.at == "hold":
            less = me._replace(at="rest", turns=me.turns - 1)
            yield state._replace(gil="", waiter=less)

    @staticmethod
    def ask(state: State) -> State:
        me = state.waiter._replace(at="fence", asked=True)
        return state._replace(asked=True, mutex=True, waiter=me)

    def fence(self, state: State) -> Iterator[State]:
        me = state.waiter
        if self.broken == "no fence" or state.refused:
            yield state._replace(waiter=me._replace(at="fenced"))
        else:
            done = self.flushed(state)
            yield done._replace(waiter=me._replace(at="fenced"))
            if state.faults:
                yield state._replace(
                    refused=True, faults=state.faults - 1, again=state.again + 1,
                    waiter=me._replace(at="unfenced"),
                )  # fmt: skip

    def see(self, state: State) -> State:
        """With the holder's depth in sight: CPython is told, or the section has it."""
        fenced = state.waiter.at == "fenced" or self.broken == "a refused fence is believed"
        done = state._replace(mutex=False, waiter=state.waiter._replace(at="wait"))
        if fenced and not state.depth:
            return done._replace(told=True)
        if self.broken == "noted beside the request":
            return done._replace(asked=False, beside=bool(state.depth))
        return done

    @staticmethod
    def acquired(state: State) -> State:
        """A new hold: the request is answered, and nobody has asked."""
        waiter = state.waiter._replace(asked=False)
        return state._replace(asked=False, told=False, waiter=waiter)


@pytest.mark.parametrize("faults", [0, 1, 2])
def test_no_order_of_steps_leaves_a_waiter_unasked(faults: int) -> None:
    states = Model(faults).explore()
    print(f"{faults} faults: {states} states")
    assert states > 1_000


@pytest.mark.parametrize(
    ("broken", "faults", "caught"),
    [
        ("noted beside the request", 0, "stays unasked"),
        ("noted beside the request", 1, "disturbed|unasked"),
        ("no fence", 0, "disturbed|unasked"),
        ("nobody looks when a section begins", 0, "disturbed"),
        ("nobody looks when a section ends", 0, "stays unasked"),
        ("a refused fence is believed", 1, "disturbed"),
        ("asked but once", 1, "stays unasked"),
        ("a child keeps its parent's request", 0, "a child is asked"),
    ],
)
def test_a_broken_protocol_is_caught(broken: str, faults: int, caught: str) -> None:
    with pytest.raises(Violation, match=caught):
        Model(faults, broken).explore()

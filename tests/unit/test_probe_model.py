"""The ring protocol, checked exhaustively as a model.

The model takes ring.c, process.c and emit.h apart into steps that each touch shared memory once,
and visits every state that any interleaving of writers and recorder can reach. The reader runs in
every one of these states: so it sees what is left when any of the writers is killed at any step,
which for a model is nothing but a writer that takes no further step.

A unit of the model holds a header and one record; a page is one unit, a chunk two. Invariants:
  - a unit has one taker;
  - no store at or past what the recorder has backed (it would be SIGBUS);
  - the reader never meets a torn header or record, nor another writer's, nor one out of order;
  - written = read + lost, at every step.
That the checks can fail is shown by protocols that are broken in one place each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

import pytest

PAGE, CHUNK = 1, 2  # magic words; also the lengths in units
LIMIT = 6  # units of the file, the header's included
STEP = 2  # units that the recorder adds at once


class Unit(NamedTuple):
    """A unit's memory, and who took it (not memory: the model's own knowledge)."""

    magic: int = 0
    length: int = 0
    owner: int = 0  # page: 1 + writer; chunk: the unit of its writer's page
    lost: int = 0
    payload: tuple[int, int] = (0, 0)  # (1 + writer, event)
    stamp: int = 0
    taker: int = 0


class Writer(NamedTuple):
    """A writer's registers. `event` counts the events that it is through with."""

    at: str = "emit"
    event: int = 0
    ready: int = 0
    next: int = 0
    page: int = 0
    cursor: int = 0
    end: int = 0

    @property
    def size(self) -> int:
        """Of what it takes next, in units."""
        return CHUNK if self.page else PAGE


class State(NamedTuple):
    """Everything. `dropped` counts events after the stop, which nobody promised to keep."""

    units: tuple[Unit, ...]
    writers: tuple[Writer, ...]
    ready: int = 1
    backed: int = 1
    next: int = 1
    limit: int = LIMIT
    stop: int = 0
    unattached: int = 0
    dropped: int = 0
    recorder: str = "back"


class Violation(Exception):
    """An invariant does not hold."""


class Model:
    """The protocol, or a protocol that is `broken` in one place."""

    def __init__(self, writers: int, events: int, broken: str = "") -> None:
        self.events = events
        self.broken = broken
        self.start = State((Unit(),) * LIMIT, (Writer(),) * writers)
        fill = ["length", "owner", "magic"]  # gs_attach and gs_refill, up to gs_ring_publish
        record = ["payload", "stamp"]  # gs_emit
        if broken == "publish before fill":
            fill = ["magic", "length", "owner"]
        if broken == "stamp before payload":
            record.reverse()
        self.fill, self.record = fill, record
        self.then = {a: b for order in (fill, record) for a, b in pairwise(order)}

    def explore(self) -> int:
        """Visit every reachable state; return their number. Raises Violation."""
        seen = {self.start}
        todo = [self.start]
        while todo:
            state = todo.pop()
            for after in self.steps(state):
                if after not in seen:
                    seen.add(after)
                    self.read(after)
                    todo.append(after)
        return len(seen)

    def steps(self, state: State) -> Iterator[State]:
        """What can happen next."""
        yield from self.recorder(state)
        for who, writer in enumerate(state.writers):
            if writer.event < self.events:
                yield self.write(state, who, writer)

    # ---- gs_ring_extend ---------------------------------------------------------------------

    def recorder(self, state: State) -> Iterator[State]:
        """Back some units, then say so; or find the file system full."""
        wanted = min(state.ready + STEP, state.limit)
        if wanted <= state.ready and state.recorder == "back":
            return
        order = ["back", "say"] if self.broken != "ready before backed" else ["say", "back"]
        other = order[1] if state.recorder == order[0] else order[0]
        if state.recorder == "back":
            backed = max(state.backed, state.ready if order[0] == "say" else wanted)
            yield state._replace(backed=backed, recorder=other)
            yield state._replace(limit=state.ready)
        else:
            yield state._replace(ready=wanted, recorder=other)

    # ---- the writers ------------------------------------------------------------------------

    def write(self, state: State, who: int, writer: Writer) -> State:
        """One step of one writer."""
        if writer.at in self.fill:
            return self.fill_in(state, who, writer)
        if writer.at in self.record:
            return self.put(state, who, writer)
        step: Callable[[State, int, Writer], State] = getattr(self, writer.at)
        return step(state, who, writer)

    def emit(self, state: State, who: int, writer: Writer) -> State:
        """gs_recording, then gs_emit."""
        if state.stop:
            return self.through(state._replace(dropped=state.dropped + 1), who, writer)
        room = writer.cursor < writer.end
        return self.go(state, who, writer, self.record[0] if room else "load_ready")

    def load_ready(self, state: State, who: int, writer: Writer) -> State:
        """gs_ring_take, up to its end."""
        return self.go(state, who, writer._replace(ready=state.ready), "load_next")

    def load_next(self, state: State, who: int, writer: Writer) -> State:
        fits = state.next + writer.size <= writer.ready
        # A register that is not read again is cleared: it would only multiply the states.
        keeps = not fits or self.broken == "load, then store"
        writer = writer._replace(next=state.next if keeps else 0)
        return self.go(state, who, writer, "add" if fits else "full")

    def full(self, state: State, who: int, writer: Writer) -> State:
        stop = int(bool(state.stop) or writer.next + writer.size > state.limit)
        writer = writer._replace(ready=0, next=0)
        return self.go(state._replace(stop=stop), who, writer, "lose")

    def add(self, state: State, who: int, writer: Writer) -> State:
        unit, size = state.next, writer.size
        if self.broken == "load, then store":
            unit = writer.next
        state = state._replace(next=unit + size)
        if unit + size > writer.ready and self.broken != "no check after the add":
            return self.go(state, who, writer._replace(ready=0, next=0), "lose")
        units = list(state.units)
        for at in range(unit, min(unit + size, LIMIT)):
            if units[at].taker:
                raise Violation(f"unit {at} has two takers")
            units[at] = units[at]._replace(taker=1 + who)
        writer = writer._replace(ready=0, next=unit)
        return self.go(state._replace(units=tuple(units)), who, writer, self.fill[0])

    def lose(self, state: State, who: int, writer: Writer) -> State:
        """count_loss."""
        if state.stop:
            state = state._replace(dropped=state.dropped + 1)
        elif writer.page:
            state = self.store(state, writer.page, lost=state.units[writer.page].lost + 1)
        else:
            state = state._replace(unattached=state.unattached + 1)
        return self.through(state, who, writer)

    def fill_in(self, state: State, who: int, writer: Writer) -> State:
        """gs_attach and gs_refill behind gs_ring_take."""
        size = writer.size
        values = {"length": size, "magic": size, "owner": writer.page or 1 + who}
        state = self.store(state, writer.next, **{writer.at: values[writer.at]})
        if writer.at in self.then:
            return self.go(state, who, writer, self.then[writer.at])
        unit = writer.next
        writer = writer._replace(page=writer.page or unit, cursor=unit, end=unit + size, next=0)
        return self.go(state, who, writer, self.record[0])

    def put(self, state: State, who: int, writer: Writer) -> State:
        """gs_emit's two stores."""
        if writer.at == "payload":
            state = self.store(state, writer.cursor, payload=(1 + who, 1 + writer.event))
        else:
            state = self.store(state, writer.cursor, stamp=1)
        if writer.at in self.then:
            return self.go(state, who, writer, self.then[writer.at])
        return self.through(state, who, writer._replace(cursor=writer.cursor + 1))

    def through(self, state: State, who: int, writer: Writer) -> State:
        return self.go(state, who, writer._replace(event=writer.event + 1), "emit")

    @staticmethod
    def go(state: State, who: int, writer: Writer, at: str) -> State:
        after = writer._replace(at=at)
        return state._replace(writers=(*state.writers[:who], after, *state.writers[who + 1 :]))

    @staticmethod
    def store(state: State, unit: int, **fields: object) -> State:
        if unit >= state.backed:
            raise Violation(f"a store to unit {unit} of {state.backed}")
        after = state.units[unit]._replace(**fields)
        return state._replace(units=(*state.units[:unit], after, *state.units[unit + 1 :]))

    # ---- the reader (trace/order.c) ---------------------------------------------------------

    def read(self, state: State) -> None:
        """Read what is there. Raises Violation."""
        end = min(state.next, state.ready)
        writer_of_page: dict[int, int] = {}
        last: dict[int, int] = {}
        read = lost = 0
        unit = 1
        while unit < end:
            head = state.units[unit]
            if not head.magic:
                unit += 1
                continue
            if head.length != head.magic or unit + head.length > end:
                raise Violation(f"a torn header at unit {unit}")
            if head.magic == PAGE:
                writer_of_page[unit] = head.owner
                lost += head.lost
            writer = writer_of_page.get(unit if head.magic == PAGE else head.owner, 0)
            if not 1 <= writer <= len(state.writers):
                raise Violation(f"unit {unit} has no owner")
            for record in state.units[unit : unit + head.length]:
                if not record.stamp:
                    break
                if record.payload[0] != writer or record.payload[1] <= last.get(writer, 0):
                    raise Violation(f"a torn or foreign record {record.payload} in unit {unit}")
                last[writer] = record.payload[1]
                read += 1
            unit += head.length
        # A record is out of its writer's hands with its last store; a broken order may differ.
        through = sum(writer.event for writer in state.writers)
        if through != read + lost + state.unattached + state.dropped:
            raise Violation(f"{through} events, {read} read, {lost} lost")


@pytest.mark.parametrize(("writers", "events"), [(2, 3), (3, 1)])
def test_no_interleaving_and_no_kill_breaks_the_protocol(writers: int, events: int) -> None:
    states = Model(writers, events).explore()
    print(f"{writers} writers, {events} events each: {states} states")
    assert states > 10_000


@pytest.mark.parametrize(
    ("broken", "caught"),
    [
        ("publish before fill", "torn header"),
        ("no check after the add", "a store to unit"),
        ("load, then store", "two takers"),
        ("stamp before payload", "torn or foreign record"),
        ("ready before backed", "a store to unit"),
    ],
)
def test_a_broken_protocol_is_caught(broken: str, caught: str) -> None:
    with pytest.raises(Violation, match=caught):
        Model(2, 3, broken).explore()

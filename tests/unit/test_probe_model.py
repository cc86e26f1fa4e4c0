"""The ring protocol, checked exhaustively as a model.

The model takes ring.c, threads.c, emit.h and the recorder's rooms apart into steps that each touch
shared memory once, and visits every state that any interleaving of writers, recorder and a reader
that copies can reach, with a kill of any writer at any step. A room of the model holds a header and
one record. The file is read in every one of these states: so it is seen what is left when the
recorder is killed there, which for a model is nothing but a recorder that takes no further step.

Invariants:
  - a room has one taker at a time, and only that one stores there;
  - a room that is offered is zero throughout, and whoever looks for one finds it;
  - every record that was written and is not older than the cut is in the file, whole; what is read
    there is no other's and was written;
  - a reader that copies a record while the recorder is at work, and then finds that it is not older
    than the cut, has copied it whole;
  - when all writers are through or dead, the recorder can get every room back.
That the checks can fail is shown by protocols that are broken in one place each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest

SLOTS = 2
Slot = tuple[int, int] | None  # room, 1 + its taker or 0: offered; None: empty
FREE, OFFERED, TAKEN = range(3)  # what the recorder knows of a room


class Room(NamedTuple):
    """A room's memory, and who took it (not memory: the model's own knowledge)."""

    magic: int = 0
    owner: int = 0
    payload: int = 0  # the event's number
    stamp: int = 0
    taker: int = 0  # 1 + writer


class Writer(NamedTuple):
    """A writer's registers. `event` counts the events that it is through with."""

    at: str = "emit"
    event: int = 0
    number: int = 0  # of the offer
    slot: Slot = None
    room: int = -1  # where it writes
    before: int = -1  # the room that it left
    now: int = 0  # the time stamp that it took
    dead: bool = False


class Copier(NamedTuple):
    """A reader that copies one record, as another process does."""

    at: str = "stamp"
    stamp: int = 0
    payload: int = 0


class State(NamedTuple):
    """Everything. `log` has the stamp of each event that was written, by its number."""

    rooms: tuple[Room, ...]
    writers: tuple[Writer, ...]
    known: tuple[int, ...]
    slots: tuple[Slot, ...] = (None,) * SLOTS
    ready: int = 0
    next: int = 0
    cut: int = 0
    clock: int = 1
    log: tuple[tuple[int, int], ...] = ()
    recorder: tuple[str, int] = ("look", -1)
    copier: Copier | None = None


class Violation(Exception):
    """An invariant does not hold."""


class Model:
    """The protocol, or a protocol that is `broken` in one place."""

    def __init__(
        self, writers: int, events: int, rooms: int, broken: str = "", copies: bool = False
    ) -> None:
        self.events = events
        self.broken = broken
        self.start = State(
            (Room(),) * rooms, (Writer(),) * writers, (FREE,) * rooms,
            copier=Copier() if copies else None,
        )  # fmt: skip

    def explore(self) -> int:
        """Visit every reachable state; return their number. Raises Violation."""
        seen = {self.start}
        todo = [self.start]
        while todo:
            state = todo.pop()
            self.read(state)
            if all(w.dead or w.event == self.events for w in state.writers):
                self.all_comes_back(state)
            for after in self.steps(state):
                if after not in seen:
                    seen.add(after)
                    todo.append(after)
        return len(seen)

    def steps(self, state: State) -> Iterator[State]:
        """What can happen next."""
        yield from self.record(state)
        for who, writer in enumerate(state.writers):
            if writer.event < self.events and not writer.dead:
                yield self.write(state, who, writer)
                yield self.go(state, who, writer._replace(dead=True))
        if state.copier:
            yield from self.copy(state, state.copier)

    # ---- the recorder -----------------------------------------------------------------------

    def record(self, state: State) -> Iterator[State]:
        """One step of the recorder: what it chooses to do is any of what it may do."""
        step, room = state.recorder
        if step != "look":
            yield self.take_back(state, step, room)
            return
        for at, slot in enumerate(state.slots):  # collect
            if slot and slot[1]:
                yield self.know(self.put(state, at, None), slot[0], TAKEN)
        for candidate, known in enumerate(state.known):
            if known == TAKEN and self.is_old(state, candidate):
                first = "zero" if self.broken == "zero before the cut" else "cut"
                yield state._replace(recorder=(first, candidate))
        if state.slots[state.ready % SLOTS] is None and state.ready - state.next < SLOTS:
            for candidate, known in enumerate(state.known):
                if known == FREE:
                    first = "ready" if self.broken == "ready before the offer" else "offer"
                    yield state._replace(recorder=(first, candidate))
                    break

    def is_old(self, state: State, room: int) -> bool:
        """Whether nobody stores there any more: its writer left it, or is dead."""
        for who, writer in enumerate(state.writers):
            if state.rooms[room].taker == 1 + who:
                settled = (
                    writer.before == room
                    and state.rooms[room].magic
                    and state.rooms[writer.room].magic
                )
                return writer.dead or bool(settled) or self.broken == "a writer that lives"
        return True

    def take_back(self, state: State, step: str, room: int) -> State:
        """gs_rooms_take_back, gs_rooms_free and offer()."""
        its = state.rooms[room]
        order = {"cut": "zero", "zero": "rest", "rest": "free", "offer": "ready", "ready": "look"}
        if self.broken == "zero before the cut":
            order |= {"zero": "rest", "rest": "cut", "cut": "free"}
        if self.broken == "ready before the offer":
            order |= {"ready": "offer", "offer": "look"}
        then = (order.get(step, "look"), room)
        if then[0] == "look":
            then = ("look", -1)
        state = state._replace(recorder=then)
        if step == "cut":
            stamp = its.stamp or max((s for n, s in state.log if n == its.payload), default=0)
            return state._replace(cut=max(state.cut, stamp + 1 if stamp else 0))
        if step == "zero":
            return self.store(state, room, magic=0)
        if step == "rest":
            rest = {} if self.broken == "no zero" else {"stamp": 0, "payload": 0, "owner": 0}
            return self.store(state, room, **rest)
        if step == "free":
            return self.know(self.store(state, room, taker=0), room, FREE)
        if step == "offer":
            if its._replace(taker=0) != Room():
                raise Violation(f"room {room} is offered and not zero")
            at = state.ready - (self.broken == "ready before the offer")
            return self.know(self.put(state, at % SLOTS, (room, 0)), room, OFFERED)
        return state._replace(ready=state.ready + 1)

    # ---- the writers ------------------------------------------------------------------------

    def write(self, state: State, who: int, writer: Writer) -> State:
        """One step of one writer."""
        step: State = getattr(self, writer.at)(state, who, writer)
        return step

    def emit(self, state: State, who: int, writer: Writer) -> State:
        """gs_emit: where there is no room the record is lost (gs_refill)."""
        full = writer.room < 0 or state.rooms[writer.room].stamp
        return self.go(state, who, writer._replace(at="next" if full else "now"))

    def next(self, state: State, who: int, writer: Writer) -> State:
        """gs_ring_take."""
        return self.go(state, who, writer._replace(at="ready", number=state.next))

    def ready(self, state: State, who: int, writer: Writer) -> State:
        if writer.number >= state.ready:
            return self.go(state, who, writer._replace(at="emit", event=writer.event + 1, number=0))
        return self.go(state, who, writer._replace(at="slot"))

    def slot(self, state: State, who: int, writer: Writer) -> State:
        slot = state.slots[writer.number % SLOTS]
        return self.go(state, who, writer._replace(at="take", slot=slot))

    def take(self, state: State, who: int, writer: Writer) -> State:
        """The compare-and-swap of the slot."""
        at, slot = writer.number % SLOTS, writer.slot
        here = state.slots[at] == slot or self.broken == "no compare"
        after = writer._replace(at="move", slot=None)
        if slot and slot[1] == 0 and here:
            if state.rooms[slot[0]].taker:
                raise Violation(f"room {slot[0]} has two takers")
            state = self.put(state, at, (slot[0], 1 + who))
            state = self.store(state, slot[0], taker=1 + who)
            after = after._replace(slot=slot)
        return self.go(state, who, after)

    def move(self, state: State, who: int, writer: Writer) -> State:
        """The compare-and-swap of `next`."""
        if state.next == writer.number:
            state = state._replace(next=state.next + 1)
        if not writer.slot:
            return self.go(state, who, writer._replace(at="next", number=0))
        fill = "publish" if self.broken == "publish before fill" else "fill"
        after = writer._replace(
            at=fill, room=writer.slot[0], before=writer.room, slot=None, number=0
        )
        return self.go(state, who, after)

    def fill(self, state: State, who: int, writer: Writer) -> State:
        state = self.own(state, who, writer.room, owner=1 + who)
        then = "now" if self.broken == "publish before fill" else "publish"
        return self.go(state, who, writer._replace(at=then))

    def publish(self, state: State, who: int, writer: Writer) -> State:
        state = self.own(state, who, writer.room, magic=1)
        then = "fill" if self.broken == "publish before fill" else "now"
        return self.go(state, who, writer._replace(at=then))

    def now(self, state: State, who: int, writer: Writer) -> State:
        """The time stamp is taken before it is stored."""
        first = "stamp" if self.broken == "stamp before payload" else "payload"
        after = writer._replace(at=first, now=state.clock)
        return self.go(state._replace(clock=state.clock + 1), who, after)

    def payload(self, state: State, who: int, writer: Writer) -> State:
        state = self.own(state, who, writer.room, payload=self.number(who, writer))
        if self.broken == "stamp before payload":
            return self.through(state, who, writer)
        return self.go(state, who, writer._replace(at="stamp"))

    def stamp(self, state: State, who: int, writer: Writer) -> State:
        state = self.own(state, who, writer.room, stamp=writer.now)
        state = state._replace(log=(*state.log, (self.number(who, writer), writer.now)))
        if self.broken == "stamp before payload":
            return self.go(state, who, writer._replace(at="payload"))
        return self.through(state, who, writer)

    def number(self, who: int, writer: Writer) -> int:
        return 1 + who * self.events + writer.event

    def through(self, state: State, who: int, writer: Writer) -> State:
        return self.go(state, who, writer._replace(at="emit", event=writer.event + 1, now=0))

    def own(self, state: State, who: int, room: int, **fields: int) -> State:
        if state.rooms[room].taker != 1 + who:
            raise Violation(f"a store to room {room}, which is not writer {who}'s")
        return self.store(state, room, **fields)

    # ---- helpers ----------------------------------------------------------------------------

    @staticmethod
    def go(state: State, who: int, writer: Writer) -> State:
        return state._replace(writers=(*state.writers[:who], writer, *state.writers[who + 1 :]))

    @staticmethod
    def put(state: State, at: int, slot: Slot) -> State:
        return state._replace(slots=(*state.slots[:at], slot, *state.slots[at + 1 :]))

    @staticmethod
    def know(state: State, room: int, what: int) -> State:
        return state._replace(known=(*state.known[:room], what, *state.known[room + 1 :]))

    @staticmethod
    def store(state: State, room: int, **fields: int) -> State:
        after = state.rooms[room]._replace(**fields)
        return state._replace(rooms=(*state.rooms[:room], after, *state.rooms[room + 1 :]))

    # ---- the readers ------------------------------------------------------------------------

    def read(self, state: State) -> None:
        """Read the file as it is. Raises Violation."""
        found = set()
        for at, room in enumerate(state.rooms):
            if room.magic and room.owner != room.taker:
                raise Violation(f"a torn header in room {at}")
            if not room.magic or not room.stamp or room.stamp < state.cut:
                continue
            if (room.payload, room.stamp) not in state.log:
                raise Violation(f"a torn or foreign record in room {at}")
            found.add((room.payload, room.stamp))
        waiting = {n % SLOTS for n in range(state.next, state.ready + 1)}
        for at, slot in enumerate(state.slots):
            if slot and slot[1] == 0 and at not in waiting:
                raise Violation(f"the offer of room {slot[0]} was passed over")
        missing = {(n, s) for n, s in state.log if s >= state.cut} - found
        if missing:
            raise Violation(f"records are missing: {sorted(missing)}, cut {state.cut}")

    def copy(self, state: State, copier: Copier) -> Iterator[State]:
        """Of room 0: stamp, payload, then the cut."""
        room = state.rooms[0]
        if copier.at == "stamp":
            if room.magic and room.stamp:
                yield state._replace(copier=Copier("payload", room.stamp))
        elif copier.at == "payload":
            yield state._replace(copier=copier._replace(at="cut", payload=room.payload))
        else:
            whole = (copier.payload, copier.stamp) in state.log
            if copier.stamp >= state.cut and not whole:
                raise Violation("a copied record is torn")
            yield state._replace(copier=Copier())

    def all_comes_back(self, state: State) -> None:
        """The recorder alone goes on, and sees everybody dead."""
        state = state._replace(
            writers=tuple(w._replace(dead=True) for w in state.writers), copier=None
        )
        for _ in range(100):
            offered = sum(known == OFFERED for known in state.known)
            held = [k for k in state.known if k == TAKEN]
            taken = any(slot and slot[1] for slot in state.slots)
            if not held and not taken and state.recorder[0] == "look":
                break
            # It collects and takes back before it offers anew.
            state = next(self.record(state))
        else:
            raise Violation(f"rooms do not come back: {state.known}, {offered} offered")
        for room, known in zip(state.rooms, state.known, strict=True):
            if known == FREE and room != Room():
                raise Violation("a free room is not zero")


@pytest.mark.parametrize(
    ("writers", "events", "rooms", "copies"), [(2, 2, 2, False), (1, 3, 2, True), (2, 1, 3, True)]
)
def test_no_interleaving_and_no_kill_breaks_the_protocol(
    writers: int, events: int, rooms: int, copies: bool
) -> None:
    states = Model(writers, events, rooms, copies=copies).explore()
    print(f"{writers} writers, {events} events each, {rooms} rooms: {states} states")
    assert states > 500


@pytest.mark.parametrize(
    ("broken", "caught"),
    [
        ("publish before fill", "torn header"),
        ("stamp before payload", "torn or foreign record"),
        ("ready before the offer", "was passed over"),
        ("no compare", "two takers"),
        ("zero before the cut", "records are missing"),
        ("no zero", "not zero"),
        ("a writer that lives", "a store to room|records are missing"),
    ],
)
def test_a_broken_protocol_is_caught(broken: str, caught: str) -> None:
    with pytest.raises(Violation, match=caught):
        Model(2, 2, 2, broken).explore()

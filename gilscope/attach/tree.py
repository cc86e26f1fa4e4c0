"""A process that is recorded and all that it has started: who is in, who comes in, who goes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from gilscope.attach.blob import Request
from gilscope.attach.names import names_of
from gilscope.attach.place import Place
from gilscope.attach.process import IN, Attached, Late, leave
from gilscope.attach.refuse import left_behind
from gilscope.attach.writer import Writer
from gilscope.errors import GilscopeError, NotAttachable, ProcessGone
from gilscope.live import tasks
from gilscope.live.memory import Memory
from gilscope.recorder.alive import pids_here
from gilscope.recorder.session import Session

_LOOKS_S = (0.0, 0.3, 1.0)  # for children that were there; later ones come by themselves
_NAMES_S = 5.0  # between two looks at the names of threads …
_TELL_S = 0.2  # … and at whether these have come by
_ROUNDS = 10


class Tree:
    """Of one recording. Owner: the recorder's thread."""

    def __init__(
        self,
        session: Session,
        place: Place,
        root: int,
        request: Request,
        say: Callable[[str], None],
        *,
        follow: bool,
    ) -> None:
        """`root` is looked at, and refused where it cannot be attached to: NotAttachable."""
        self._session, self._place, self._root = session, place, root
        self._request, self._say = request, say
        self._coming: dict[int, Attached] = {}
        self._in: dict[int, Attached] = {}
        self._tried: set[int] = set()
        self._looks = list(_LOOKS_S) if follow else []
        self._first_look = 0.0  # when the root was in, or slept, as the masters of servers do
        self._names: dict[tuple[int, int], str] = {}  # that nobody was told yet
        self._next_names = self._next_tell = 0.0
        self.began = 0.0  # when the root came in; 0: it has not
        self.accepted = (
            False  # it is in, or comes in when it wakes: no reason to refuse it any more
        )
        self._begin(root)

    @property
    def sleeps(self) -> bool:
        """Nobody in the root has the GIL, so it comes in when a thread of it wakes."""
        return self._root in self._coming and self._coming[self._root].sleeps

    def tick(self) -> None:
        """What is due. Raises NotAttachable where the root cannot be attached to."""
        for pid, one in list(self._coming.items()):
            self._ask(pid, one)
        now = time.monotonic()
        if not self._first_look and (self.began or self.sleeps):
            self._first_look = now
        if self._first_look and self._looks and now >= self._first_look + self._looks[0]:
            self._looks.pop(0)
            self._look_for_children()
        if self.began and now >= self._next_names:
            self._next_names = now + _NAMES_S
            self.name()
        elif self._names and now >= self._next_tell:
            self._next_tell = now + _TELL_S
            self._tell_names()

    def end(self) -> None:
        """Lets go of all of them; the recording is stopped for good by now."""
        for one in self._coming.values():
            self._in.setdefault(one.pid, one)
        self._coming.clear()
        gone: set[int] = set()
        for _ in range(_ROUNDS):  # a fork's child may have begun meanwhile
            there = [pid for pid in self._all() if pid not in gone]
            if not there:
                break
            gone.update(there)
            for pid in there:
                self._let_go(pid)
            self._session.tick()
        self._tell_names()
        for one in self._in.values():
            one.close()

    def name(self) -> None:
        """Reads the names of threads, and tells the recording those of threads that it knows."""
        for one in self._in.values():
            self._read_names(one)
        self._tell_names()

    def _read_names(self, one: Attached) -> None:
        with suppress(GilscopeError):
            inner = one.inner_pid
            for tid, name in names_of(one.runtime).items():
                self._names[inner, tid] = name

    def _tell_names(self) -> None:
        """A thread has no page before its first event, and then a name of its own if it is new."""
        for (pid, tid), name in list(self._names.items()):
            if self._session.name(pid, tid, name):
                del self._names[pid, tid]

    # ---- coming in ----

    def _begin(self, pid: int) -> None:
        self._tried.add(pid)
        one = Attached.open(pid, self._place)
        try:
            old = left_behind(one.memory)
            if old is not None:
                leave(one.memory, one.writer, old)
                one.clean()
            self._read_names(one)
            one.begin(self._request)
        except BaseException:
            one.close()
            raise
        self._coming[pid] = one

    def _ask(self, pid: int, one: Attached) -> None:
        try:
            is_in = one.is_in()
        except NotAttachable as error:
            self._coming.pop(pid)
            one.end()  # a thread may have brought it in at the last moment
            one.close()
            if pid == self._root and not (self.accepted and has_ended(pid)):
                raise
            if not isinstance(error, ProcessGone):
                self._say(f"{error}; the rest is recorded")
            return
        if is_in:
            self._in[pid] = self._coming.pop(pid)
            if pid == self._root:
                self.began = time.monotonic()

    def _look_for_children(self) -> None:
        known = {os.getpid(), *self._tried, *self._recorded_here()}
        for pid in descendants(self._root):
            if pid not in known:
                try:
                    self._begin(pid)
                except NotAttachable:  # no Python, most of all
                    continue

    # ---- going ----

    def _recorded_here(self) -> Iterable[int]:
        return pids_here(self._session.recorded(), self._session.path).values()

    def _all(self) -> list[int]:
        self._session.tick()
        return list(dict.fromkeys([*self._in, *self._recorded_here()]))

    def _let_go(self, pid: int) -> None:
        with suppress(GilscopeError, OSError):
            if pid in self._in:
                self._in[pid].end()
                return
            with Memory(pid) as memory:
                late = Late.find(memory)
                if late is None or late.state != IN:
                    return  # it came with the probe, as what a program starts does, or has gone
                writer = Writer(pid)
                try:
                    leave(memory, writer, late)
                finally:
                    writer.close()
            self._in[pid] = Attached.open(pid, self._place)
            self._in[pid].clean()


def has_ended(pid: int) -> bool:
    """Whether there is no such process any more, or nothing of it but its exit code."""
    return tasks.state(pid) in (None, "Z", "X")


def descendants(pid: int) -> Iterator[int]:
    """Pids of all that it has started and that still hang together."""
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return
    for task in tasks:
        if pid == os.getpid():
            return  # gilscope may have been started by the process itself
        try:
            children = Path(f"/proc/{pid}/task/{task}/children").read_text().split()
        except OSError:
            continue
        for child in map(int, children):
            yield child
            yield from descendants(child)

"""Where the threads of a process are that have its GILs, read from outside."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from gilscope.errors import ProcessGone
from gilscope.live import tasks
from gilscope.live.frames import Frames
from gilscope.live.gil import Gil
from gilscope.live.memory import Memory
from gilscope.live.names import Names
from gilscope.live.objects import Objects
from gilscope.live.runtime import Runtime, ThreadState
from gilscope.live.threads import kernels_name

_AGAIN_S = 15.0  # threads are listed anew
_SOON_S = 0.1  # and no sooner, where an unknown one has a GIL
_NAMES_S = 60.0  # names of threads that are known are read anew: the dearest part


@dataclass(frozen=True)
class Known:
    """A thread state."""

    tid: int | None  # as the process knows it
    task: int | None  # as it is known here
    name: str
    gil: int | None  # its GIL's address


class Lookout:
    """Of one process. Owner: one thread; `close` it."""

    def __init__(self, pid: int) -> None:
        """Raises NotAttachable."""
        self.pid = pid
        self.memory = Memory(pid)
        try:
            self.runtime = Runtime.open(self.memory)
        except BaseException:
            self.memory.close()
            raise
        self.known: dict[int, Known] = {}
        self.gils: list[Gil] = []
        self.somebody_waits = False
        self._listed_at = self._named_at = float("-inf")
        self._names: dict[tuple[int, int], str] = {}  # by interpreter and ident
        self.list_threads()

    def close(self) -> None:
        """Let the process go."""
        self.memory.close()

    def list_threads(self) -> None:
        """Which threads there are, and their names."""
        self._listed_at = time.monotonic()
        self._objects = Objects(self.memory, self.runtime.layout)
        self._frames = Frames(self.memory, self.runtime.layout, self._objects)
        here = tasks.tids(self.pid)
        if not here:
            raise ProcessGone(f"process {self.pid} has ended")
        self.gils = self.runtime.gils()
        known = {}
        states = self.runtime.thread_states()
        self._read_names(states)
        for state in states:
            interpreter = state.interpreter
            task = None if state.tid is None else here.get(state.tid)
            name = self._names.get((interpreter.address, state.ident))
            name = name or kernels_name(self.pid, task) or f"thread {state.tid or '?'}"
            gil = interpreter.gil.address if interpreter.gil else None
            known[state.address] = Known(state.tid, task, name, gil)
        self.known = known

    def _read_names(self, states: list[ThreadState]) -> None:
        """Of all threads, where one of them is new or it is time."""
        before = {state.address for state in states} <= self.known.keys()
        if before and self._listed_at - self._named_at < _NAMES_S:
            return
        self._named_at = self._listed_at
        names = Names(self.runtime, self._objects)
        interpreters = {state.interpreter.address: state.interpreter for state in states}
        self._names = {
            (address, ident): name
            for address, interpreter in interpreters.items()
            for ident, name in names.of(interpreter).items()
        }

    def refresh(self, holder: int | None = None) -> None:
        """List threads again where that is due, or soon where this holder is not known."""
        unknown = holder is not None and holder not in self.known
        age = time.monotonic() - self._listed_at
        if age > _AGAIN_S or (unknown and age > _SOON_S):
            self.list_threads()

    def holders(self) -> list[tuple[int, str]]:
        """Who has a GIL now, and the line. `somebody_waits` tells whether another wants one."""
        found = []
        self.somebody_waits = False
        self.refresh()
        for gil in self.gils:
            state = gil.read()
            if state is None or state.holder is None:
                continue
            self.refresh(state.holder)
            self.somebody_waits |= bool(state.waiters)
            known, line = self.known.get(state.holder), self.line(state.holder)
            if known and known.tid is not None and line:
                found.append((known.tid, line))
        return found

    def line(self, state: int) -> str | None:
        """The innermost Python frame of a thread state, as `file.py:12 function`."""
        frames = self._frames.stack(state).frames
        if not frames:
            return None
        leaf = frames[0]
        return f"{os.path.basename(leaf.file)}:{leaf.line or '?'} {leaf.function}"

"""An interpreter in a process that runs: its GILs and its thread states."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from gilscope.errors import NotAttachable, Unsupported
from gilscope.live import tasks
from gilscope.live.gil import Gil, candidates, confirmed
from gilscope.live.layouts import Layout, layout_of
from gilscope.live.memory import Memory
from gilscope.live.modules import Python, find_python

_MOST = 1 << 16  # of interpreters, and of thread states of each
_ATTEMPTS = 4
_PTHREAD_BYTES = 2304  # of glibc's struct pthread
_LIKELY_TID = 720  # where that has the kernel's number, on x86-64


@dataclass(frozen=True)
class Interpreter:
    """A PyInterpreterState."""

    address: int
    id: int  # CPython's own number; the main one's is 0
    gil: Gil | None  # which others may share; None: it could not be recognised


@dataclass(frozen=True)
class ThreadState:
    """A PyThreadState; a thread may have several, one an interpreter."""

    address: int
    interpreter: Interpreter
    ident: int  # threading.get_ident()
    tid: int | None  # as this process knows it, threading.get_native_id(); None: not known


@dataclass
class Runtime:
    """The interpreter of process `pid`. Raises NotAttachable where there is none to be read."""

    memory: Memory
    python: Python
    layout: Layout
    gil: Gil  # the main interpreter's
    _gils: dict[int, Gil | None] = field(default_factory=dict)  # by where pointers lead
    _tid_in_pthread: int | None = None  # before 3.11: where a struct pthread has it

    @classmethod
    def open(cls, memory: Memory) -> Runtime:
        """Finds all of it. Takes some milliseconds, most of them for the GIL's many reads."""
        python = find_python(memory)
        layout = layout_of(memory, python)
        gil = _main_gil(memory, python, layout)
        return cls(memory, python, layout, gil)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self.memory.pid

    def interpreters(self) -> list[Interpreter]:
        """All of them, the main one first."""
        found: list[Interpreter] = []
        at = self.memory.pointer(self.python.runtime.address + self.layout.interpreters)
        while at and len(found) < _MOST:
            number = self.memory.pointer(at + self.layout.interpreter_id)
            if number is None or any(one.address == at for one in found):
                break
            found.append(Interpreter(at, number, self._gil_of(at)))
            at = self.memory.pointer(at + self.layout.interpreter_next)
        return sorted(found, key=lambda one: one.id)

    def gils(self) -> list[Gil]:
        """Each once, the main interpreter's first."""
        found = {self.gil.address: self.gil}
        for one in self.interpreters():
            if one.gil is not None:
                found.setdefault(one.gil.address, one.gil)
        return list(found.values())

    def thread_states(self) -> list[ThreadState]:
        """All of them, of all interpreters. The lists change while they are read, so they are read
        until two readings agree, a few times at most.
        """
        before = self._thread_states()
        for _ in range(_ATTEMPTS):
            now = self._thread_states()
            if [one.address for one in now] == [one.address for one in before]:
                break
            before = now
        return now

    def _thread_states(self) -> list[ThreadState]:
        alive = tasks.tids(self.pid)
        layout, memory = self.layout, self.memory
        found = []
        for interpreter in self.interpreters():
            at = memory.pointer(interpreter.address + layout.threads)
            seen: set[int] = set()
            while at and at not in seen and len(seen) < _MOST:
                if memory.pointer(at + layout.thread_interpreter) != interpreter.address:
                    break  # it was freed meanwhile
                seen.add(at)
                ident = memory.pointer(at + layout.thread_id) or 0
                found.append((at, interpreter, ident))
                at = memory.pointer(at + layout.thread_next)
        numbers = self._native_ids([(at, ident) for at, _, ident in found], alive)
        return [
            ThreadState(at, interpreter, ident, tid)
            for (at, interpreter, ident), tid in zip(found, numbers, strict=True)
        ]

    def _native_ids(self, states: list[tuple[int, int]], alive: dict[int, int]) -> list[int | None]:
        at = self.layout.native_id
        if at is not None:
            read = [self.memory.pointer(state + at) for state, _ in states]
        else:
            read = self._by_pthread([ident for _, ident in states], alive)
        return [tid if tid in alive else None for tid in read]

    def _by_pthread(self, idents: list[int], alive: dict[int, int]) -> list[int | None]:
        """Before 3.11: a struct pthread has the kernel's number, at a place of the C library's own,
        which is learned from all threads together.
        """
        if self._tid_in_pthread is None:
            whole = [
                data for ident in idents if (data := self.memory.readable(ident, _PTHREAD_BYTES))
            ]
            places = range(0, min(map(len, whole), default=0) - 3, 4)
            for place in sorted(places, key=lambda place: place != _LIKELY_TID):
                numbers = {int.from_bytes(data[place : place + 4], "little") for data in whole}
                if len(numbers) == len(whole) and numbers <= alive.keys():
                    self._tid_in_pthread = place
                    break
        learned = self._tid_in_pthread
        return [None if learned is None else self.memory.word(ident + learned) for ident in idents]

    def _gil_of(self, interpreter: int) -> Gil | None:
        if self.layout.gil is None:
            return self.gil
        at = self.memory.pointer(interpreter + self.layout.gil)
        if at == self.gil.address:
            return self.gil
        if not at:
            return None
        if self._gils.get(at) is None:
            self._gils[at] = confirmed(self.memory, at)
        return self._gils[at]


def _main_gil(memory: Memory, python: Python, layout: Layout) -> Gil:
    """The GIL that lies in _PyRuntime, by all signs. Raises NotAttachable."""
    found = [
        gil
        for at in candidates(memory, python.runtime.address, python.runtime.size)
        if (gil := confirmed(memory, at)) is not None
    ]
    if layout.gil is not None:  # the interpreters say where they are
        first = memory.pointer(python.runtime.address + layout.interpreters)
        told: set[int | None] = set()
        while first and len(told) < _MOST:
            told.add(memory.pointer(first + layout.gil))
            first = memory.pointer(first + layout.interpreter_next)
        found = [gil for gil in found if gil.address in told]
    if len(found) == 1:
        if _sleeps_elsewhere(memory.pid):
            found[0].references = None
        return found[0]
    if not found:
        raise NotAttachable(
            f"no GIL is to be seen in process {memory.pid}: its Python has not begun, or has ended"
        )
    raise Unsupported(
        f"{len(found)} places in process {memory.pid} look like its GIL; which one it is cannot be "
        "told"
    )


def _sleeps_elsewhere(pid: int) -> bool:
    """Whether gilscope's own queue is in the place of the GIL's condition variable, which then
    counts nobody: under another policy than CPython's.
    """
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return True
    told = {word for word in environment if word.startswith(b"GILSCOPE_POLICY=")}
    told |= {word for word in command if b"gilscope.policy=" in word}
    return any(word.partition(b"=")[2] not in (b"", b"classic") for word in told)

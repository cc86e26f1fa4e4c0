"""Lets a process call one function of the probe's library, with its GIL held.

The stub (stub.c) is put where nobody uses the room, and the slot through which CPython calls
pthread_mutex_unlock is pointed at it, until a thread that has just taken the GIL came by. Nothing
is stopped. A thread that computes and never comes by is led there (seize.c), or asked to (ask.py).

Whoever is killed in the middle leaves a slot that points at the stub. The process goes on; the next
call finds that, and goes on from there.
"""

from __future__ import annotations

import ctypes
import enum
import struct
import time
from dataclasses import replace
from pathlib import Path

from gilscope import _native
from gilscope.attach import ask, slack
from gilscope.attach.blob import (
    ARMED,
    CALLED,
    DONE,
    LOADER_IS_BUSY,
    NO_LIBRARY,
    STATE_BYTES,
    Filled,
    Request,
    stub,
)
from gilscope.attach.loader import LoaderLocks, loader_locks
from gilscope.attach.writer import Writer
from gilscope.errors import NotAttachable, Unsupported
from gilscope.live.elf import Symbol
from gilscope.live.gil import MUTEX, GilState
from gilscope.live.modules import Module, modules
from gilscope.live.runtime import Runtime

_HOLDER, _LOCKED = 8, 16  # of a GIL, behind `interval`
_STATE = struct.Struct("<IiQ")
_UNLOCK_AT = 32  # of struct gs_stub_words
_RESUME_AT = 176
_COMPUTES_S = 0.06  # the same thread has the GIL for so long: it may never come by
_TRIES = 40  # to find it where it can be led away from, each time
_LAST_LED = (3, 13)  # later evaluation loops are no function of their own
_SETTLE_S = 0.02


class Progress(enum.Enum):
    """How far a call is."""

    WAITS = "no thread has come by yet"
    LOADER = "a thread is in the loader"
    RUNS = "a thread is at it"
    DONE = "it was called"


class Call:
    """One call at a time into the process of `runtime`; `script` is ask.py's as that process knows
    it. Raises NotAttachable when it is made.
    """

    def __init__(self, runtime: Runtime, writer: Writer, script: Path) -> None:
        self._runtime, self._memory, self._writer = runtime, runtime.memory, writer
        self._modules = list(modules(self._memory))
        self.locks = loader_locks(self._memory, self._modules)
        self._state = slack.for_state(self._memory, self._order("python", "libc"))
        own = runtime.python.module.elf
        if own.symbol("gilscope_built_in") and not own.symbol("gilscope_built_in_api"):
            raise Unsupported(
                f"process {self._memory.pid} runs a Python Plus of an older gilscope, which cannot"
                " be attached to; build it anew: gilscope interpreter build"
            )
        self._slots = own.slots("pthread_mutex_unlock").get("pthread_mutex_unlock", [])
        if not self._slots:
            raise Unsupported(
                f"the Python of process {self._memory.pid} has its C library inside; what is built"
                " so cannot be attached to"
            )
        self._at = 0
        self._real = 0
        self._since = (0.0, (0, 0))  # when the GIL was first seen as it is
        self._script = script
        self._asked: int | None = None  # ask.py

    # ---- a call ----

    def arm(self, library: str, function: str, request: Request) -> None:
        """The next thread that takes the GIL makes the call. Raises NotAttachable."""
        own = stub()
        filled = self._filled()
        size = len(filled.image(0, library, function, request))
        end_of_words = own.words + _RESUME_AT + 8
        self._at = slack.for_code(
            self._memory,
            self._order("ld", "python", "libc"),
            own.code[end_of_words:],
            end_of_words,
            size,
        )
        self._real = self._real_unlock()
        image = replace(filled, unlock=self._real).image(self._at, library, function, request)
        self._writer.word(self._state, DONE)
        self._point_at(self._real)
        code_is_there = (
            self._memory.read(self._at + end_of_words, 16)
            == own.code[end_of_words : end_of_words + 16]
        )
        if code_is_there:  # a thread may stand in it
            self._writer.write(self._at, image[:end_of_words])
            self._writer.write(self._at + len(own.code), image[len(own.code) :])
        else:
            self._writer.write(self._at, image)
        self._writer.write(self._state, _STATE.pack(ARMED, 0, 0))
        self._since = (time.monotonic(), (0, 0))
        if self.locks.owner(self._memory) is None:
            self._point_at(self._at + own.unlock)

    def poll(self) -> Progress:
        """How far it is; to be called every millisecond or so. Raises NotAttachable."""
        state, _, _ = self._read()
        if state == CALLED:
            return Progress.RUNS
        if state == DONE:
            return Progress.DONE
        if state == NO_LIBRARY:
            raise NotAttachable(
                f"process {self._memory.pid} cannot open gilscope's library; it may be in a"
                " container or chroot that does not have the file, or have no room for its"
                " thread-local storage"
            )
        if self.locks.owner(self._memory) is not None:
            self._point_at(self._real)
            if state == LOADER_IS_BUSY:
                self._writer.word(self._state, ARMED)
            return Progress.LOADER
        if state == LOADER_IS_BUSY:
            self._writer.word(self._state, ARMED)
        self._point_at(self._at + stub().unlock)
        self._lead()
        return Progress.WAITS

    def disarm(self) -> bool:
        """Puts back what was in the slot. Whether a thread made the call after all. Raises
        NotAttachable.
        """
        self._point_at(self._real)
        if self._asked is not None:
            ask.take_back(self._writer, self._asked)
            self._asked = None
        end = time.monotonic() + _SETTLE_S
        while True:
            state, _, _ = self._read()
            if state not in (CALLED, ARMED):
                return state == DONE
            if state == ARMED and time.monotonic() > end:
                break
            time.sleep(0.001)
        # A thread may have come into the stub before, and go on at any time: it is to do nothing.
        self._writer.word(self._state, DONE)
        time.sleep(0.001)
        return self._read()[2] != 0  # it had begun right then

    @property
    def result(self) -> tuple[int, int]:
        """What the function returned, and where the library has its struct gs_late."""
        _, result, late = self._read()
        return result, late

    @property
    def gil(self) -> GilState | None:
        """How it is now."""
        return self._runtime.gil.read()

    # ---- the parts ----

    def _order(self, *kinds: str) -> list[Module]:
        """Modules whose room may be used."""
        names = {"ld": "ld-", "libc": "libc.so.6", "python": None}
        found = []
        for kind in kinds:
            start = names[kind]
            for module in self._modules:
                own = module.elf.start == self._runtime.python.module.elf.start
                name = module.path.rpartition("/")[2]
                if own if start is None else name.startswith(start):
                    found.append(module)
        return found

    def _symbol(self, name: str) -> int:
        """Of the C library, which was three until glibc 2.34."""
        for start in ("libc.so.6", "libc-2", "libpthread", "libdl"):
            for module in self._modules:
                if module.path.rpartition("/")[2].startswith(start):
                    found: Symbol | None = module.elf.symbol(name)
                    if found is not None:
                        return found.address
        raise Unsupported(f"process {self._memory.pid} has no {name}; it cannot be attached to")

    def _filled(self) -> Filled:
        gil = self._runtime.gil.address
        save = self._runtime.python.module.elf.symbol("PyEval_SaveThread")
        if save is None:
            raise Unsupported(f"the Python of process {self._memory.pid} exports too little")
        return Filled(
            mutex=gil + MUTEX,
            locked=gil + _LOCKED,
            holder=gil + _HOLDER,
            state=self._state,
            unlock=0,
            trylock=self._symbol("pthread_mutex_trylock"),
            errno_location=self._symbol("__errno_location"),
            open=self._symbol("dlopen"),
            symbol=self._symbol("dlsym"),
            locks=self.locks.addresses,
            python=save.address,
        )

    def _real_unlock(self) -> int:
        """What the slots have when nobody attaches: a killed attacher left the stub in them."""
        real = 0
        for slot in self._slots:
            value = self._memory.pointer(slot) or 0
            if value == self._at + stub().unlock:
                value = self._memory.pointer(self._at + stub().words + _UNLOCK_AT) or 0
            own = self._runtime.python.module.elf
            if not value or own.start <= value < own.end or (real and real != value):
                raise NotAttachable(
                    f"process {self._memory.pid} has not made the calls yet by which gilscope comes"
                    " in; try again"
                )
            real = value
        return real

    def _point_at(self, address: int) -> None:
        for slot in self._slots:
            if self._memory.pointer(slot) != address:
                self._writer.pointer(slot, address)

    def _read(self) -> tuple[int, int, int]:
        data = self._memory.read(self._state, STATE_BYTES)
        if data is None:
            raise NotAttachable(f"process {self._memory.pid} has ended, or runs another program")
        state, result, late = _STATE.unpack(data)
        return state, result, late

    # ---- who computes ----

    def _lead(self) -> None:
        """Once, where the same thread keeps the GIL."""
        gil = self._runtime.gil.read()
        if gil is None:
            return
        now = time.monotonic()
        seen = (gil.switches, gil.holder or 0)
        since, before = self._since
        if seen != before or not gil.holder:
            self._since = (now, seen)
        elif now - since > _COMPUTES_S:
            self._since = (now, seen)
            if self._runtime.python.version <= _LAST_LED:
                self._seize(gil.holder)
            elif self._asked is None:
                self._asked = ask.ask(self._runtime, self._writer, gil.holder, self._script)

    def _seize(self, holder: int) -> None:
        loop = self._runtime.python.module.elf.symbol("_PyEval_EvalFrameDefault")
        states = self._runtime.thread_states()
        tid = next((one.tid for one in states if one.address == holder), None)
        if loop is None or not loop.size or tid is None:
            return
        own = stub()
        its = struct.pack(
            "<ii6Q",
            self._memory.pid,
            tid,
            loop.address,
            loop.address + loop.size,
            self._runtime.gil.address,
            holder,
            self._at + own.direct,
            self._at + own.words + _RESUME_AT,
        )
        engine = _native.engine()
        engine.gs_seize.argtypes = [ctypes.c_char_p, ctypes.c_uint32]
        engine.gs_seize(its, _TRIES)


def wait_for_loader(locks: LoaderLocks, runtime: Runtime, patience_s: float) -> None:
    """Until nobody is in the loader. Raises NotAttachable."""
    end = time.monotonic() + patience_s
    while (owner := locks.owner(runtime.memory)) is not None:
        if time.monotonic() > end:
            raise NotAttachable(busy_loader(runtime.pid, owner))
        time.sleep(0.005)


def busy_loader(pid: int, owner: int | None) -> str:
    """The line for a process that loads a library all the time."""
    who = f"thread {owner}" if owner else "a thread"
    return (
        f"process {pid} is loading a library ({who}), and nothing may come in meanwhile; try again"
    )

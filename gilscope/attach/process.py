"""One process that is attached to: how gilscope comes in, and how it goes."""

from __future__ import annotations

import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from gilscope.attach.blob import Request
from gilscope.attach.call import Call, Progress, busy_loader
from gilscope.attach.place import Place
from gilscope.attach.writer import Writer
from gilscope.errors import GilscopeError, NotAttachable, ProcessStopped, Unsupported
from gilscope.live import tasks
from gilscope.live.memory import Memory
from gilscope.live.modules import modules
from gilscope.live.runtime import Runtime

PATIENCE_S = 5.0
_SLEEPS_S = 0.1  # nobody has the GIL for so long: all threads sleep
_GOES_S = 1.0  # for what is left to do when the recording is over

# struct gs_late
_VERSION = 1
_HEAD = struct.Struct("<IIQQIiIIII")
_SLOT = struct.Struct("<QQQ")
_STATE_OFFSET = 4
_SLOTS = 64
NEVER, BUSY, IN, OUT, PRELOADED = range(5)

# enum gs_late_error, from 1 on
_WHY_NOT = (
    "it was started by gilscope, and is scheduled or recorded already",
    "it is recorded already",
    "its Python is not to be found",
    "its Python is free-threaded: it has no GIL",
    "that the thread that came by has the GIL could not be proved",
    "its calls do not go through slots: its C library is inside",
    "it cannot open the recording's rings: {error}",
    "the policy is none",
    "its Python has a probe of its own, of another version",
    "its Python schedules its GIL itself: start it with -X gilscope.policy=…",
)


class Late(NamedTuple):
    """What the probe in a process says of itself (struct gs_late)."""

    address: int
    state: int
    epoch: int  # address
    alive: int  # address; 0: it was never in
    error: int
    number: int
    records: bool
    schedules: bool
    slots: tuple[tuple[int, int, int], ...]  # where, what was in it, the wrapper

    @classmethod
    def read(cls, memory: Memory, address: int) -> Late | None:
        """None where there is no such thing, or of another version."""
        data = memory.read(address, _HEAD.size + _SLOTS * _SLOT.size)
        if data is None:
            return None
        version, state, epoch, alive, error, number, records, schedules, n, _ = _HEAD.unpack_from(
            data
        )
        if version != _VERSION or n > _SLOTS:
            return None
        slots = tuple(_SLOT.unpack_from(data, _HEAD.size + i * _SLOT.size) for i in range(n))
        return cls(
            address, state, epoch, alive, error, number, bool(records), bool(schedules), slots
        )

    @classmethod
    def find(cls, memory: Memory) -> Late | None:
        """Of the probe that is in the process, if there is one."""
        for module in modules(memory):
            if module.path.rpartition("/")[2].startswith("_probe"):
                symbol = module.elf.symbol("gilscope_late")
                late = cls.read(memory, symbol.address) if symbol else None
                if late is not None:
                    return late
        return None


@dataclass
class Attached:
    """A process in which gilscope is, or is about to be; `pid` as it is known here."""

    pid: int
    memory: Memory
    writer: Writer
    call: Call
    runtime: Runtime
    probe: Path  # its library, as the process knows it
    late: Late | None = None
    since: float = 0.0
    sleeps: bool = False  # nobody has the GIL, so it comes in when a thread wakes

    @classmethod
    def open(cls, pid: int, place: Place) -> Attached:
        """Finds all that is needed, and changes nothing. Raises NotAttachable."""
        refuse_stopped(pid)
        memory = Memory(pid)
        try:
            runtime = Runtime.open(memory)
            writer = Writer(pid)
        except BaseException:
            memory.close()
            raise
        try:
            call = Call(runtime, writer, place.script)
        except BaseException:
            memory.close()
            writer.close()
            raise
        return cls(pid, memory, writer, call, runtime, place.probe)

    def close(self) -> None:
        """Let go of the process, as it is."""
        self.memory.close()
        self.writer.close()

    # ---- in ----

    def begin(self, request: Request) -> None:
        """Lets the next thread that takes the GIL bring the probe in. Raises NotAttachable."""
        self.since = time.monotonic()
        self.call.arm(str(self.probe), "gilscope_late_begin", request)

    @property
    def inner_pid(self) -> int:
        """As the process knows it."""
        numbers = tasks.tids(self.pid)
        return next((inner for inner, here in numbers.items() if here == self.pid), self.pid)

    def is_in(self) -> bool:
        """Whether it is in; to be called again and again. Raises NotAttachable when it cannot be,
        or has not been within PATIENCE_S although a thread of it has the GIL.
        """
        progress = self.call.poll()
        waited = time.monotonic() - self.since
        if progress is Progress.DONE:
            self._came_in()
            return True
        if progress is Progress.RUNS:
            return False
        if progress is Progress.LOADER:
            if waited > PATIENCE_S:
                raise NotAttachable(busy_loader(self.pid, self.call.locks.owner(self.memory)))
            return False
        refuse_stopped(self.pid)
        gil = self.call.gil
        self.sleeps = gil is not None and not gil.locked and waited > _SLEEPS_S
        if self.sleeps:
            self.since = time.monotonic() - 2 * _SLEEPS_S
        elif waited > PATIENCE_S:
            raise NotAttachable(
                f"a thread of process {self.pid} has kept the GIL for {PATIENCE_S:.0f} s, in C code"
                " or where it cannot be stopped; try again, or start the program by gilscope record"
            )
        return False

    def _came_in(self) -> None:
        self.call.disarm()
        error, address = self.call.result
        self.late = Late.read(self.memory, address)
        if error or self.late is None:
            number = self.late.number if self.late else 0
            why = _WHY_NOT[error - 1] if 0 < error <= len(_WHY_NOT) else "it says nothing"
            raise NotAttachable(f"process {self.pid}: {why.format(error=os.strerror(number))}")

    # ---- out ----

    def end(self) -> bool:
        """Records nothing more, and puts back what was in the slots; at once, whatever the process
        does. Then lets it clean up, if a thread comes by in a second. Whether all was done.
        """
        try:
            if self.late is None:  # it may have come in at the last moment
                if not self.call.disarm():
                    return True
                self._came_in()
            assert self.late
            if not self.late.schedules:
                leave(self.memory, self.writer, self.late)
            return self.clean()
        except GilscopeError:  # it has ended, or runs another program
            return True

    def clean(self) -> bool:
        """What only the process itself can do: its rings are unmapped. Whether a thread came by."""
        self.call.arm(str(self.probe), "gilscope_late_end", Request())
        end = time.monotonic() + _GOES_S
        done = False
        try:
            while not done and time.monotonic() < end:
                done = self.call.poll() is Progress.DONE
                time.sleep(0.0005)
        finally:
            done = self.call.disarm() or done
        if not done and self.late:  # what waits in the policy's queue looks for itself
            leave(self.memory, self.writer, self.late)
        return done


def leave(memory: Memory, writer: Writer, late: Late) -> None:
    """Ends the recording of a process from outside: nothing of it runs meanwhile."""
    if late.state != IN:
        return
    if late.alive:
        writer.word(late.alive, 0)
    epoch = memory.word(late.epoch)
    if epoch is not None:
        writer.word(late.epoch, epoch + 1)
    # Read anew: from now on the process adds none for modules that it loads.
    late = Late.read(memory, late.address) or late
    for where, original, wrapper in reversed(late.slots):
        if memory.pointer(where) == wrapper:  # not where another tool came after us
            writer.pointer(where, original)
    writer.word(late.address + _STATE_OFFSET, OUT)


def refuse_stopped(pid: int) -> None:
    """Raises ProcessStopped for one that does not run, and Unsupported for a zombie."""
    state = tasks.state(pid)
    if state == "T":
        raise ProcessStopped(f"process {pid} is stopped; let it go on first: kill -CONT {pid}")
    if state == "t":
        raise ProcessStopped(f"process {pid} is held by a debugger; let it go on first")
    if state in ("Z", "X"):
        raise Unsupported(f"process {pid} has ended")

"""What each thread of a process does just now, as far as that can be seen from outside.

A thread waits for the GIL where the kernel says that it sleeps on a word of the GIL's own condition
variable or mutex. Under gilscope's policy io-priority it sleeps on a word of its own instead: there
a pointer into the GIL, which the code that sleeps keeps on its stack, says it (`inferred`).
"""

from __future__ import annotations

import struct
import time
from collections.abc import Collection
from dataclasses import dataclass

from gilscope.live import tasks
from gilscope.live.frames import Frames, Stack
from gilscope.live.gil import Gil, GilState
from gilscope.live.memory import Memory
from gilscope.live.names import Names
from gilscope.live.objects import Objects
from gilscope.live.runtime import Runtime, ThreadState

_NEAR = 1024  # bytes of a stack in which the code lies that sleeps for the GIL
_OWN = 1 << 16  # how far above its stack pointer a thread's own word may be
_READINGS = 4
_PAUSE_S = 0.0005


@dataclass(frozen=True)
class Thread:
    """A thread at one moment."""

    state: ThreadState
    tid: int | None  # as it is known here; None: not known
    name: str | None  # Python's, else the kernel's where a program gave one
    holds_gil: bool
    waits_for_gil: bool | None  # None: not known; it runs, or the kernel does not tell
    inferred: bool  # that it waits for the GIL is read off its stack
    call: tasks.Call | None  # the system call that it sleeps in
    kernel: str | None  # "R", "S", "D", "T" …: tasks.state
    stack: Stack
    steady: bool  # it did not move while it was looked at


@dataclass(frozen=True)
class Look:
    """A process at one moment. Not of one instant: each thread is a few microseconds later."""

    pid: int
    version: tuple[int, int]
    gils: dict[int, GilState]  # by address
    threads: tuple[Thread, ...]


def look(runtime: Runtime, only: Collection[int] | None = None) -> Look:
    """Reads all of it once, or the threads of these numbers (as the process knows them). Threads
    that end meanwhile are left out.
    """
    objects = Objects(runtime.memory, runtime.layout)
    names = Names(runtime, objects)
    frames = Frames(runtime.memory, runtime.layout, objects)
    here = tasks.tids(runtime.pid)
    by_interpreter: dict[int, dict[int, str]] = {}
    threads = []
    for state in runtime.thread_states():
        interpreter = state.interpreter
        if interpreter.address not in by_interpreter:
            by_interpreter[interpreter.address] = names.of(interpreter)
        if (state.tid is None and here) or (only is not None and state.tid not in only):
            continue
        tid = None if state.tid is None else here.get(state.tid)
        name = by_interpreter[interpreter.address].get(state.ident)
        threads.append(_thread(runtime, frames, state, tid, name or kernels_name(runtime.pid, tid)))
    gils = {gil.address: said for gil in runtime.gils() if (said := gil.read()) is not None}
    return Look(runtime.pid, runtime.layout.version, gils, tuple(threads))


def waits_for(memory: Memory, gil: Gil, call: tasks.Call | None) -> tuple[bool, bool]:
    """Whether a thread in this system call waits for the GIL, and whether that is inferred."""
    if call is None or not call.is_futex:
        return False, False
    word = call.arguments[0]
    if gil.owns(word) or gil.hands_over(word):
        return True, False
    timeout = call.arguments[3]
    if timeout == 0 or not 0 <= word - call.stack < _OWN:
        return False, False
    near = memory.read(call.stack, _NEAR)
    if near is None:
        return False, False
    inferred = any(gil.contains(one) for (one,) in struct.iter_unpack("<Q", near))
    return inferred, inferred


def kernels_name(pid: int, tid: int | None) -> str | None:
    """The kernel's name of a thread; None where it is just the process's."""
    name = None if tid is None else tasks.comm(pid, tid)
    return name if name is not None and name != tasks.comm(pid, pid) else None


def _thread(
    runtime: Runtime, frames: Frames, state: ThreadState, tid: int | None, name: str | None
) -> Thread:
    gil = state.interpreter.gil
    for _ in range(_READINGS):
        before = None if tid is None else tasks.call(runtime.pid, tid)
        said = None if gil is None else gil.read()
        stack = frames.stack(state.address)
        after = None if tid is None else tasks.call(runtime.pid, tid)
        later = None if gil is None else gil.read()
        held = said is not None and said.holder == state.address
        still_held = later is not None and later.holder == state.address
        steady = before == after and held == still_held and stack.certain
        if steady and (after is not None or still_held):
            break
        time.sleep(_PAUSE_S)  # it may be awake for a moment only
    waiting, inferred = (False, False)
    if gil is not None and not still_held:
        waiting, inferred = waits_for(runtime.memory, gil, after)
    kernel = None if tid is None else tasks.state(runtime.pid, tid)
    told = after is not None or still_held
    return Thread(
        state=state,
        tid=tid,
        name=name,
        holds_gil=still_held,
        waits_for_gil=waiting if told else None,
        inferred=inferred,
        call=after,
        kernel=kernel,
        stack=stack,
        steady=steady,
    )

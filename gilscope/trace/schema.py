"""The vocabulary that every part behind the rings shares: events, tables, sources.

The table of events is `gilscope/probe/event_abi.h`; a test holds this file to it. An event source
(the rings of a recording, or a finished trace) gives `Metadata` first and then batches of events,
arrays of `EVENT_DTYPE`, in an order in which the events of each GIL are exact and the events of
each thread ascend in time.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

EVENT_DTYPE = np.dtype(
    [
        ("time_ns", "<i8"),  # CLOCK_MONOTONIC
        ("arg", "<u8"),  # what the table of events says; gil.wakeup: 1 + Thread.id, 0: not known
        ("thread", "<u4"),  # Thread.id
        ("gil", "<u2"),  # Gil.id or NO_GIL
        ("kind", "u1"),  # EventKind
        ("flags", "u1"),
    ]
)

NO_GIL = 0xFFFF
FLAG_WAITED = 1  # gil.acquire: the thread had to wait
FLAG_CPU = 1  # gil.wait: the thread's last release was forced
FLAG_OF_WAIT = 1  # stack: of a wait; else of a hold
FLAG_OF_SYNC = 4  # stack: with FLAG_OF_WAIT of the last wait for a lock, else of the next release
FLAG_SEEN = 2  # stack: where the thread that asked for the GIL saw the holder; else where it ended


class EventKind(enum.IntEnum):
    """Numbers and names of `GS_EVENT_TABLE`."""

    GIL_WAIT = 1
    GIL_ACQUIRE = 2
    GIL_RELEASE = 3
    GIL_YIELD = 4
    GIL_REQUEST = 5
    GIL_LOST = 6
    GIL_WAKEUP = 7
    LOCK_WAIT = 8
    LOCK_ACQUIRE = 9
    LOCK_RELEASE = 10
    COND_WAIT = 11
    COND_WAKE = 12
    COND_NOTIFY = 13
    THREAD_LOST = 14
    THREAD_START = 16
    THREAD_END = 17
    PROCESS_START = 18
    PROCESS_END = 19
    ATOMIC_ENTER = 20
    ATOMIC_EXIT = 21
    ATOMIC_DEFERRED = 22
    STACK = 23
    HOLD_GC = 26
    HOLD_GC_LEAST = 27
    PROCESSOR_ON = 28
    PROCESSOR_OFF = 29
    HOLD_CPU = 36
    HOLD_ASLEEP = 37
    HOLD_GC_MOST = 38

    @property
    def label(self) -> str:
        """The name users see: `gil.wait`."""
        return self.name.lower().replace("_", ".", 1)


PROCESSOR_MASK = 0xFFFF  # of the argument of PROCESSOR_ON and PROCESSOR_OFF; above: why it is off
PROCESSOR_WHY_SHIFT = 16
WENT_OFF, PREEMPTED, UNSEEN = range(3)  # enum gs_why_off
PROCESSOR_EVENTS = (EventKind.PROCESSOR_ON, EventKind.PROCESSOR_OFF)
SYNC_EVENTS = range(EventKind.LOCK_WAIT, EventKind.COND_NOTIFY + 1)
SYNC_KIND_MASK = 0xF  # of their argument
SYNC_OBJECT_MASK = 0xFFFF_FFFF_FFF0
SYNC_DETAIL_SHIFT = 48


class SyncKind(enum.IntEnum):
    """`enum gs_sync_kind`: what sort of lock or condition an event is about."""

    UNKNOWN = 0
    PYTHON = 1
    NATIVE = 2
    ATOMIC = 3
    GIL = 4
    PYMUTEX = 5
    THREAD_LOCK = 6
    INTERPRETER = 7
    SEM_LOCK = 8
    PARKED = 9

    @property
    def label(self) -> str:
        """The name users see: `thread-lock`."""
        return self.name.lower().replace("_", "-")


@dataclass(frozen=True)
class Process:
    """One process image: a fork and an exec each begin a new one. Times are CLOCK_MONOTONIC ns."""

    id: int
    pid: int
    parent: int | None  # Process.id of the process that forked it, where the probe knows it
    command: tuple[str, ...]
    python: str | None  # "3.13.0"; None: not (known to be) Python
    feed: str | None  # "interposed" | "built-in"; None: no GIL was watched
    interpreter: str  # "gil" | "free-threaded" | "none"
    start_ns: int
    end_ns: int
    lost_events: int
    yields_inferred: bool = False  # some forced yields may look voluntary
    stacks: str | None = None  # "told"; "unknown": its frames cannot be read; None: none was due
    lost_stacks: int = 0  # that could not be kept for lack of room
    locks: bool = False  # waits for locks are told, so that none means none
    # Collections: "told", all and exactly; "counted", those in long holds, their length by bounds.
    collections: str | None = None
    attached: bool = False  # it ran already: what was before its start here is not known


@dataclass(frozen=True, slots=True)
class Thread:
    """One thread's life in one process image."""

    id: int
    process: int  # Process.id
    tid: int
    name: str
    is_main: bool
    start_ns: int
    end_ns: int
    lost_events: int
    short_sleeps: int | None = None  # of less than 0.5 ms, as it asked for; None: not known


@dataclass(frozen=True)
class Gil:
    """One GIL; sub-interpreters may bring more than one a process, a fork makes a new one."""

    id: int
    process: int  # Process.id


@dataclass(frozen=True, slots=True)
class Stack:
    """A place in Python code and, by its parents, the stack of calls that leads there.

    Rows stand behind their parents. The same stack in several processes is one row.
    """

    id: int
    parent: int | None  # Stack.id of its caller; None: the outermost frame that is known
    file: str  # as the code object has it; "": not known
    function: str  # from Python 3.11 on the qualified name; "": not known
    line: int  # 0: not known
    library: bool  # its code belongs to Python's standard library


@dataclass(frozen=True, slots=True)
class Look:
    """A thread as it was seen from outside: it had held or waited for a second or longer, or it has
    what such a one waits for.
    """

    id: int
    thread: int  # Thread.id
    time_ns: int
    waits_for: str | None  # "gil", "lock" …: live/waits.py; None: for nothing that is known
    name: str | None  # of what it waits for: an import's module, a joined thread
    holder: int | None  # Thread.id of who has that; None: nobody, or not known
    known_by: str | None  # "owner": it notes who has it; "with": that thread is inside its `with`
    limited: bool  # it waits for a limited time
    circle: int | None  # of equal numbers: each waits for what the next one has, in this order


@dataclass(frozen=True, slots=True)
class LookFrame:
    """A frame of a thread that was seen from outside; those of one look leaf first."""

    look: int  # Look.id
    file: str
    function: str
    line: int  # 0: not known
    library: bool  # its code belongs to Python's standard library


@dataclass(frozen=True)
class Policy:
    """How the GIL was scheduled while recording; None where the interpreter did not say.

    `switch_interval_ns` is what `sys.getswitchinterval` said last in the first Python's main
    interpreter.
    """

    name: str = "classic"
    grace_ns: int | None = None
    switch_interval_ns: int | None = None


@dataclass(frozen=True)
class Metadata:
    """What a recording knows besides its events. Times are CLOCK_MONOTONIC ns."""

    command: tuple[str, ...]
    start_ns: int
    end_ns: int
    realtime_offset_ns: int  # CLOCK_REALTIME - CLOCK_MONOTONIC at the start
    boottime_offset_ns: int  # CLOCK_BOOTTIME - CLOCK_MONOTONIC at the start
    clock_source: str  # "tsc" | "cntvct" | "monotonic"
    lost_events: int
    stopped: str | None  # why recording stopped before the program did: recorder/notes.py
    exit_code: int | None  # the command's own, 128+N for a signal; None: not known
    gilscope: str  # the version that recorded it
    stopped_ns: int | None = None  # where it stopped; None also where that is not known
    policy: Policy = field(default_factory=Policy)
    processes: tuple[Process, ...] = ()
    threads: tuple[Thread, ...] = ()
    gils: tuple[Gil, ...] = ()
    stacks: tuple[Stack, ...] = ()
    kept_from_ns: int | None = None  # what came before was not kept; None: all was
    looks: tuple[Look, ...] = ()
    look_frames: tuple[LookFrame, ...] = ()
    switches: bool = False  # context switches were asked for and told
    lost_switches: int = 0  # of these; what the threads did then is not known
    throttled: int | None = None  # how often a quota of its cgroup held the program back
    throttled_ns: int | None = None  # for how long, all processors together; None: not known


@dataclass(frozen=True)
class Totals:
    """Known when all events have been read. `clamped` counts time stamps that had to be raised."""

    events: int
    clamped: int


class EventSource(Protocol):
    """The rings of a recording or a finished trace: read once, front to back."""

    @property
    def name(self) -> str:
        """What to call it in an error: its path."""

    @property
    def metadata(self) -> Metadata:
        """Available at once."""

    def batches(self) -> Iterator[NDArray[np.void]]:
        """Yield arrays of `EVENT_DTYPE`; a batch is valid until the next one is asked for."""

    @property
    def totals(self) -> Totals:
        """Available when `batches` has ended."""

    def locate(self, index: int) -> int:
        """Byte offset in the file of the event with this running number (reads anew: slow)."""

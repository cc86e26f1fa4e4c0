"""The story in Python: feeds a source's events to `story.c` and words its refusals.

`checked(source)` passes batches on after they were found possible; `tell(source)` also builds the
intervals that `gilscope.trace.model.Trace` shows.
"""

from __future__ import annotations

import ctypes
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gilscope import _native
from gilscope.errors import ImpossibleStory, TraceError
from gilscope.trace.ahead import read_ahead
from gilscope.trace.schema import EVENT_DTYPE, NO_GIL, EventKind, EventSource, Metadata

if TYPE_CHECKING:
    from numpy.typing import NDArray

HOLD_DTYPE = np.dtype(
    [
        ("start_ns", "<i8"),
        ("end_ns", "<i8"),
        ("thread", "<u4"),
        ("gil", "<u2"),
        ("ending", "u1"),  # Ending
        ("flags", "u1"),  # HOLD_WAITED, HOLD_REQUESTED
    ]
)
WAIT_DTYPE = np.dtype(
    [
        ("start_ns", "<i8"),
        ("end_ns", "<i8"),
        ("woken_ns", "<i8"),  # the last gil.wakeup that named it, or NEVER
        ("hold", "<u4"),  # which of its GIL's holds it began under, or the next one
        ("gap", "<u4"),  # index of the gap it began in, or NO_GAP
        ("thread", "<u4"),
        ("gil", "<u2"),
        ("ending", "u1"),  # Ending
        ("cpu", "u1"),  # 1: its thread had been made to yield
    ]
)
REQUEST_DTYPE = np.dtype(
    [
        ("time_ns", "<i8"),
        ("thread", "<u4"),
        ("holder", "<u4"),  # NOBODY: not known
        ("gil", "<u2"),
        ("pad", "<u2", 3),
    ]
)
GAP_DTYPE = np.dtype(
    [
        ("start_ns", "<i8"),
        ("end_ns", "<i8"),
        ("missing", "<u4"),  # lost records; 0: the GIL's beginning, or not known how many
        ("gil", "<u2"),
        ("lost", "<u2"),  # 0: the GIL's beginning
    ]
)
SYNC_WAIT_DTYPE = np.dtype(
    [
        ("start_ns", "<i8"),
        ("end_ns", "<i8"),
        ("woken_ns", "<i8"),  # the release or notify that ended it, or NEVER: not known
        ("running_ns", "<i8"),  # when its thread next had a GIL; NEVER: something else came before
        ("object", "<u8"),  # address, SyncKind, and OF_CONDITION
        ("thread", "<u4"),
        ("waker", "<u4"),  # the thread that woke it, NOBODY: not known
        ("ending", "<u4"),
        ("notify", "<u4"),  # index of the release or notify that ended it, NOBODY: not known
    ]
)
NOTIFY_DTYPE = np.dtype(
    [
        ("time_ns", "<i8"),
        ("object", "<u8"),
        ("thread", "<u4"),
        ("woken", "<u4"),  # how many; a lock's release counts as 1
    ]
)
SECTION_DTYPE = np.dtype(
    [
        ("start_ns", "<i8"),
        ("end_ns", "<i8"),
        ("held_ns", "<i8"),  # of the GIL meanwhile: it may block inside
        ("thread", "<u4"),
        ("deferred", "<u4"),  # yields that it held back
        ("ending", "<u4"),
        ("pad", "<u4"),
    ]
)
STACK_OF_DTYPE = np.dtype(
    [
        ("interval", "<u4"),  # index into waits or holds
        ("leaf", "<u4"),  # Stack.id
        ("of_wait", "u1"),
        ("seen", "u1"),  # of a hold: where the thread that asked for the GIL saw its holder
        ("pad", "<u2"),
    ]
)
KEPT_DTYPE = np.dtype(
    [
        ("late_ns", "<i8"),  # from the first request to the end of the hold
        ("cpu_ns", "<i8"),  # of these its thread was on a processor
        ("hold", "<u4"),  # index into holds
        ("asleep", "<u4"),  # percent of the looks that found it asleep; NO_LOOKS: there was none
    ]
)
COLLECTED_DTYPE = np.dtype(
    [
        ("least_ns", "<i8"),  # that the collections of a hold took …
        ("most_ns", "<i8"),  # … equal where it is known exactly
        ("late_ns", "<i8"),  # from the first request to the end; without one the hold's length
        ("hold", "<u4"),  # index into holds
        ("count", "<u4"),
    ]
)
PROCESSOR_DTYPE = np.dtype(
    [
        ("time_ns", "<i8"),  # from here on, up to the thread's next row
        ("thread", "<u4"),
        ("processor", "<u2"),
        ("state", "<u2"),  # PROCESSOR_STATES
    ]
)
PROCESSOR_STATES = ("off", "preempted", "unknown", "running")
_LIFE = [("first_ns", "<i8"), ("last_ns", "<i8")]
THREAD_STATS_DTYPE = np.dtype(
    [
        *_LIFE,
        ("held_ns", "<i8"),
        ("waiting_ns", "<i8"),
        ("acquires", "<u8"),
        ("contended_acquires", "<u8"),
        ("releases", "<u8"),
        ("yields", "<u8"),
        ("requests", "<u8"),
        ("holds", "<u8"),
        ("waits", "<u8"),
        ("io_waits", "<u8"),
        ("gil", "<u4"),  # the first that it used, or NO_GIL
        ("pad", "<u4"),
    ]
)
GIL_STATS_DTYPE = np.dtype(
    [
        ("held_ns", "<i8"),
        ("contended_ns", "<i8"),
        ("acquires", "<u8"),
        ("switches", "<u8"),
        ("yields", "<u8"),
        ("holds", "<u8"),
        ("missing", "<u8"),
        ("max_waiters", "<u8"),
        ("unknown_ns", "<i8"),  # gaps, but for its beginning
    ]
)
PROCESS_STATS_DTYPE = np.dtype(
    [*_LIFE, ("started", "<u4"), ("ended", "<u4"), ("unclean", "<u4"), ("pad", "<u4")]
)
NO_LOOKS = 0xFFFFFFFF
THREAD_NOW_DTYPE = np.dtype(
    [
        ("sync", "<u8", 4),  # the locks and conditions that it waits for, innermost last
        ("n_sync", "<u4"),
        ("depth", "<u4"),
        ("sections", "<u4"),
        ("gil", "<u2"),
        ("state", "u1"),  # OUTSIDE, WAITING, HOLDING
        ("cpu", "u1"),
        ("started", "u1"),
        ("ended", "u1"),
        ("pad", "<u2", 3),
    ]
)
GIL_NOW_DTYPE = np.dtype([("seen", "u1"), ("unknown", "u1"), ("lost", "u1"), ("pad", "u1")])
OUTSIDE, WAITING, HOLDING = range(3)
NO_GAP = 0xFFFFFFFF
NEVER = -(1 << 63)
ACQUIRED, TIMED_OUT = 3, 6  # of `ending`: enum gs_ending of story.h has them all
OF_CONDITION = 1 << 63  # in `object`; else it is a lock
NOBODY = 0xFFFFFFFF
HOLD_WAITED = 1
HOLD_REQUESTED = 2

_ARRAYS = (
    HOLD_DTYPE,
    WAIT_DTYPE,
    REQUEST_DTYPE,
    GAP_DTYPE,
    SYNC_WAIT_DTYPE,
    NOTIFY_DTYPE,
    SECTION_DTYPE,
    STACK_OF_DTYPE,
    THREAD_STATS_DTYPE,
    GIL_STATS_DTYPE,
    PROCESS_STATS_DTYPE,
    STACK_OF_DTYPE,
    KEPT_DTYPE,
    COLLECTED_DTYPE,
    PROCESSOR_DTYPE,
)
(
    HOLDS,
    WAITS,
    REQUESTS,
    GAPS,
    SYNC_WAITS,
    NOTIFIES,
    SECTIONS,
    STACKS,
    THREAD_STATS,
    GIL_STATS,
    PROCESS_STATS,
    SYNC_STACKS,
    KEPT,
    COLLECTED,
    PROCESSORS,
) = range(len(_ARRAYS))

_OUT_OF_MEMORY = 1
_LEFT_OPEN = 18
# By enum gs_rule. {other} is the thread that holds, {gil} the GIL it is about.
_WORDS = {
    2: "has kind {kind}, which is no event",
    3: "",
    4: "of GIL {gil}, which is in no table",
    5: "of GIL {gil}, which belongs to another process",
    6: "after its end",
    7: "after the end of its process",
    8: "though it is not its first event",
    9: "a second time in its process",
    10: "at {time} ns, before GIL {gil}'s last event at {before} ns",
    11: "at {time} ns, before its own last event at {before} ns",
    12: "while {other} holds GIL {gil}",
    13: "while it holds GIL {gil} itself",
    14: "while it waits for GIL {gil}",
    15: "though it does not wait for GIL {gil}",
    16: "while GIL {gil} is free",
    17: "while it is outside GIL {gil}",
    19: "at {time} ns, which is no time",
    20: "while it waits for a lock or a condition",
    21: "while it waits for another lock or condition",
    22: "though it does not wait for a lock or a condition",
    23: "inside of too many other waits",
    24: "with the argument {arg:#x}, which is none",
    25: "of depth {arg} in an atomic section of depth {before}",
    26: "for {other}, which does not wait for GIL {gil}",
    27: "though it does not hold GIL {gil}",
}
_LEFT = {
    EventKind.GIL_ACQUIRE: "holds GIL {gil}",
    EventKind.GIL_WAIT: "waits for GIL {gil}",
    EventKind.LOCK_WAIT: "waits for a lock or a condition",
    EventKind.ATOMIC_ENTER: "is in an atomic section",
}


class _Error(ctypes.Structure):
    _fields_ = (
        ("rule", ctypes.c_uint32),
        ("thread", ctypes.c_uint32),
        ("other", ctypes.c_uint32),
        ("gil", ctypes.c_uint32),
        ("before_ns", ctypes.c_int64),
        ("time_ns", ctypes.c_int64),
        ("arg", ctypes.c_uint64),
        ("event_thread", ctypes.c_uint32),
        ("event_gil", ctypes.c_uint16),
        ("kind", ctypes.c_uint8),
        ("flags", ctypes.c_uint8),
    )


class Story:
    """One telling of `source`: `feed` its batches, then `finish`.

    With `keep` the intervals are built; `array` shows them without a copy, for as long as the
    story or one of its arrays lives. Raises TraceError where the tables contradict themselves.
    """

    def __init__(self, source: EventSource, *, keep: bool) -> None:
        self._source = source
        self._library = _declared(_native.engine())
        metadata = source.metadata
        threads = np.array([t.process for t in metadata.threads], np.uint32)
        gils = np.array([g.process for g in metadata.gils], np.uint32)
        self._pointer = self._library.gs_story_new(
            len(metadata.processes),
            len(threads),
            threads.ctypes.data,
            len(gils),
            gils.ctypes.data,
            int(keep),
        )
        if not self._pointer:
            raise TraceError(f"{source.name}: its tables name a process that it does not have")
        weakref.finalize(self, self._library.gs_story_free, self._pointer)
        self._fed = 0

    def spill(self, folder: Path) -> None:
        """Before the first event: keep the intervals in nameless files there. Raises OSError."""
        n = self._library.gs_story_spill(self._pointer, None, 0)
        files = [tempfile.TemporaryFile(dir=folder) for _ in range(n)]  # noqa: SIM115
        descriptors = (ctypes.c_int * n)(*(file.fileno() for file in files))
        self._library.gs_story_spill(self._pointer, descriptors, n)
        self._files = files  # closed with the story; what is mapped stays

    def settle(self) -> None:
        """Let go of the memory of what is in files."""
        self._library.gs_story_settle(self._pointer)

    def grow(self) -> None:
        """Take in rows that the source's tables have got behind those that they had."""
        metadata = self._source.metadata
        threads = np.array([t.process for t in metadata.threads], np.uint32)
        gils = np.array([g.process for g in metadata.gils], np.uint32)
        if self._library.gs_story_grow(
            self._pointer,
            len(metadata.processes),
            len(threads),
            threads.ctypes.data,
            len(gils),
            gils.ctypes.data,
        ):
            raise MemoryError(f"{self._source.name}: no memory for its tables")

    def feed(self, batch: NDArray[np.void]) -> None:
        """Take an array of EVENT_DTYPE. Raises ImpossibleStory at the first impossible event."""
        taken = self.possible(batch)
        if taken < len(batch):
            raise self.refusal()

    def possible(self, batch: NDArray[np.void]) -> int:
        """Take an array of EVENT_DTYPE; how many of its events, from the first, are possible."""
        if batch.dtype != EVENT_DTYPE or not batch.flags.c_contiguous:
            raise TypeError("a batch is a contiguous array of EVENT_DTYPE")
        taken = int(self._library.gs_story_feed(self._pointer, batch.ctypes.data, len(batch)))
        self._fed += taken
        return taken

    def now(self) -> tuple[NDArray[np.void], NDArray[np.void]]:
        """What each thread (THREAD_NOW_DTYPE) and each GIL (GIL_NOW_DTYPE) does."""
        metadata = self._source.metadata
        threads = np.zeros(len(metadata.threads), THREAD_NOW_DTYPE)
        gils = np.zeros(len(metadata.gils), GIL_NOW_DTYPE)
        self._library.gs_story_now(self._pointer, threads.ctypes.data, gils.ctypes.data)
        return threads, gils

    def array_of_processes(self) -> NDArray[np.void]:
        """PROCESS_STATS so far, a copy: the story may go on."""
        stats: NDArray[np.void] = self.array(PROCESS_STATS).copy()
        return stats

    def finish(self) -> None:
        """To be called behind the last event. Raises ImpossibleStory where something stays open."""
        if self._library.gs_story_finish(self._pointer):
            raise self.refusal()

    def refusal(self) -> ImpossibleStory | MemoryError:
        """The error that names the file, the offset, the thread and the states."""
        error = self._library.gs_story_error(self._pointer).contents
        source, metadata = self._source, self._source.metadata
        if error.rule == _OUT_OF_MEMORY:
            return MemoryError(f"{source.name}: no memory for its intervals")
        if error.rule == _LEFT_OPEN:
            doing = _LEFT[EventKind(error.kind)].format(gil=error.gil)
            who = _thread(metadata, error.thread)
            return ImpossibleStory(f"{source.name}: ends while thread {who} still {doing}")
        kinds = {int(kind): kind.label for kind in EventKind}
        words = _WORDS[error.rule].format(
            other=_thread(metadata, error.other),
            gil=error.gil,
            kind=error.kind,
            time=error.time_ns,
            before=error.before_ns,
            arg=error.arg,
        )
        event = kinds.get(error.kind, "event")
        if error.event_gil not in (error.gil, NO_GIL):
            event += f" of GIL {error.event_gil}"
        parts = (
            f"{source.name}: offset {source.locate(self._fed):#x}",
            f"thread {_thread(metadata, error.thread)}",
            f"{event} {words}".rstrip(),
        )
        return ImpossibleStory(": ".join(parts))

    def array(self, which: int) -> NDArray[np.void]:
        """One of HOLDS … PROCESS_STATS, a view of the story's own memory. Feed no more then."""
        data, size = ctypes.c_void_p(), ctypes.c_uint32()
        n = self._library.gs_story_rows(
            self._pointer, which, ctypes.byref(data), ctypes.byref(size)
        )
        if size.value != _ARRAYS[which].itemsize:
            raise TypeError(f"rows of {size.value} bytes, not {_ARRAYS[which].itemsize}")
        if not n:
            return np.zeros(0, _ARRAYS[which])
        memory = (ctypes.c_char * (n * size.value)).from_address(data.value or 0)
        memory._story = self  # keeps the rows alive as long as any view of them
        return np.frombuffer(memory, _ARRAYS[which])


def checked(source: EventSource) -> Iterator[NDArray[np.void]]:
    """The batches of `source`, each after it was found possible.

    What came before an impossible event is still passed on; then ImpossibleStory is raised.
    """
    story = Story(source, keep=False)
    for batch in source.batches():
        taken = story.possible(batch)
        if taken < len(batch):
            if taken:
                yield batch[:taken]
            raise story.refusal()
        yield batch
    story.finish()


def tell(source: EventSource) -> Story:
    """The whole story of `source`, with its intervals. Raises ImpossibleStory."""
    story = Story(source, keep=True)
    with closing(read_ahead(source.batches())) as batches:
        for batch in batches:
            story.feed(batch)
    story.finish()
    return story


def _thread(metadata: Metadata, number: int) -> str:
    if number >= len(metadata.threads):
        return f"number {number}, which is in no table"
    thread = metadata.threads[number]
    return f"{thread.name} ({thread.tid})"


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    pointer, number = ctypes.c_void_p, ctypes.c_uint32
    library.gs_story_new.argtypes = (number, number, pointer, number, pointer, ctypes.c_int)
    library.gs_story_new.restype = pointer
    library.gs_story_grow.argtypes = (pointer, *library.gs_story_new.argtypes[:-1])
    library.gs_story_spill.argtypes = (pointer, pointer, number)
    library.gs_story_spill.restype = number
    library.gs_story_settle.argtypes = (pointer,)
    library.gs_story_settle.restype = None
    library.gs_story_free.argtypes = (pointer,)
    library.gs_story_free.restype = None
    library.gs_story_feed.argtypes = (pointer, pointer, ctypes.c_uint64)
    library.gs_story_feed.restype = ctypes.c_uint64
    library.gs_story_now.argtypes = (pointer, pointer, pointer)
    library.gs_story_now.restype = None
    library.gs_story_finish.argtypes = (pointer,)
    library.gs_story_error.argtypes = (pointer,)
    library.gs_story_error.restype = ctypes.POINTER(_Error)
    library.gs_story_rows.argtypes = (
        pointer,
        number,
        ctypes.POINTER(pointer),
        ctypes.POINTER(number),
    )
    library.gs_story_rows.restype = ctypes.c_uint64
    return library

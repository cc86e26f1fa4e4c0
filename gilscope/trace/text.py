"""The text form of an event source: its tables, one event a line, its totals.

The rings of a recording and the trace made of them have the same text, so it names no file. Times
of events are seconds after the recording's start, to the nanosecond; other times are
CLOCK_MONOTONIC ns. Names are quoted as JSON strings, so that a line stays a line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields

import numpy as np

from gilscope.trace.schema import (
    FLAG_CPU,
    FLAG_OF_SYNC,
    FLAG_OF_WAIT,
    FLAG_SEEN,
    FLAG_WAITED,
    NO_GIL,
    PROCESSOR_EVENTS,
    PROCESSOR_MASK,
    PROCESSOR_WHY_SHIFT,
    SYNC_DETAIL_SHIFT,
    SYNC_EVENTS,
    SYNC_KIND_MASK,
    SYNC_OBJECT_MASK,
    EventKind,
    EventSource,
    Metadata,
    SyncKind,
)
from gilscope.trace.story import checked

TEXT_VERSION = 1

_SLICE = 4096
_LOST, _WAIT, _ACQUIRE = map(int, (EventKind.GIL_LOST, EventKind.GIL_WAIT, EventKind.GIL_ACQUIRE))
_WAKEUP, _NOTIFY = int(EventKind.GIL_WAKEUP), int(EventKind.COND_NOTIFY)
_THREAD_LOST, _STACK = int(EventKind.THREAD_LOST), int(EventKind.STACK)
_ATOMIC = range(EventKind.ATOMIC_ENTER, EventKind.ATOMIC_DEFERRED + 1)
_PROCESSOR = tuple(map(int, PROCESSOR_EVENTS))
_WHY = ("", " preempted", " unknown")
_ON_HOLDS = {
    int(EventKind.HOLD_GC): "collections",
    int(EventKind.HOLD_GC_LEAST): "ns",
    int(EventKind.HOLD_GC_MOST): "ns",
    int(EventKind.HOLD_CPU): "ns",
    int(EventKind.HOLD_ASLEEP): "percent",
}
_SYNC_KINDS = {int(kind): kind.label for kind in SyncKind}
_LABELS = {int(kind): kind.label for kind in EventKind}
_json = json.JSONEncoder(separators=(",", ":")).encode
_STACKS_OF = {
    0: "hold",
    FLAG_OF_WAIT: "wait",
    FLAG_OF_SYNC | FLAG_OF_WAIT: "sync-wait",
    FLAG_OF_SYNC: "waker",
}
_TABLES = {
    "processes": "process",
    "threads": "thread",
    "gils": "gil",
    "stacks": "stack",
    "looks": "look",
    "look_frames": "look-frame",
}


def lines(source: EventSource) -> Iterator[str]:
    """Yield the text of `source`, some lines at a time, each ended by a newline.

    Raises TraceError, and ImpossibleStory behind the last event that was possible.
    """
    metadata = source.metadata
    yield header(metadata)
    names = [f"{t.id}:{_quoted_if_odd(t.name)}" for t in metadata.threads]
    width = min(max(map(len, names), default=0), 24)
    names = [name.ljust(width) for name in names]
    for batch in checked(source):
        for first in range(0, len(batch), _SLICE):
            part = batch[first : first + _SLICE]
            times = part["time_ns"] - np.int64(metadata.start_ns)
            who = [names[thread] for thread in part["thread"].tolist()]
            rest = (part[field].tolist() for field in ("arg", "gil", "kind", "flags"))
            yield "".join(map(_line, who, times.tolist(), *rest))
    totals = source.totals
    yield f"totals events={totals.events} clamped={totals.clamped}\n"


def header(metadata: Metadata) -> str:
    """The lines before the first event: the recording and its tables."""
    flat = [f.name for f in fields(metadata) if f.name not in (*_TABLES, "policy")]
    rows = [
        f"gilscope text {TEXT_VERSION}",
        "recording " + _pairs(metadata, flat),
        "policy " + _pairs(metadata.policy, [f.name for f in fields(metadata.policy)]),
    ]
    for table, label in _TABLES.items():
        for number, row in enumerate(getattr(metadata, table)):
            names = [f.name for f in fields(row) if f.name != "id"]
            rows.append(f"{label} {number} {_pairs(row, names)}")
    return "\n".join(rows) + "\n"


def _pairs(row: object, names: list[str]) -> str:
    values = ((name, getattr(row, name)) for name in names)
    return " ".join(f"{name}={_json(value)}" for name, value in values)


def _quoted_if_odd(name: str) -> str:
    plain = name.isprintable() and name and not any(c.isspace() or c in '"\\' for c in name)
    return name if plain else json.dumps(name)


def _line(name: str, time_ns: int, arg: int, gil: int, kind: int, flags: int) -> str:  # noqa: PLR0917 - mapped over columns
    sign = "-" if time_ns < 0 else ""
    seconds, rest = divmod(abs(time_ns), 1_000_000_000)
    text = f"{sign}{seconds}.{rest:09d} {name} {_LABELS[kind]}"
    if kind == _LOST:
        return f"{text} gil={gil} missing={arg or '?'}\n"
    if kind == _WAKEUP:
        return f"{text} gil={gil}{f' thread={arg - 1}' if arg else ''}\n"
    if kind in SYNC_EVENTS:
        return f"{text}{_sync(kind, arg)}\n"
    if kind == _THREAD_LOST:
        return f"{text} missing={arg or '?'}\n"
    if kind in _ATOMIC:
        text += f" depth={arg}"
    elif kind == _STACK:
        text += f" of={_STACKS_OF[flags & (FLAG_OF_WAIT | FLAG_OF_SYNC)]} leaf={arg}"
        text += " seen" if flags & FLAG_SEEN else ""
    elif kind in _PROCESSOR:
        text += f" cpu={arg & PROCESSOR_MASK}{_WHY[arg >> PROCESSOR_WHY_SHIFT]}"
    elif kind in _ON_HOLDS:
        text += f" {_ON_HOLDS[kind]}={arg}"
    elif gil != NO_GIL:
        text += f" gil={gil} waiters={arg}"
    elif arg:
        text += f" arg={arg}"
    if kind == _WAIT:
        text += " cpu" if flags & FLAG_CPU else " io"
    elif kind == _ACQUIRE and flags & FLAG_WAITED:
        text += " waited"
    return text + "\n"


def _sync(kind: int, arg: int) -> str:
    sort = arg & SYNC_KIND_MASK
    text = f" {_SYNC_KINDS.get(sort, sort)} object={arg & SYNC_OBJECT_MASK:#x}"
    detail = arg >> SYNC_DETAIL_SHIFT
    if kind == _NOTIFY:
        return f"{text} woken={detail}"
    return f"{text} timed-out" if detail else text

"""What a trace tells of long holds and waits besides their own slices, for people who look at it.

Below a hold of a millisecond or more stands a slice named by its line, below such a wait one named
by whom it waited for (one hold that took half of it or more, else how many holds there were and the
longest); the annotations have the rest, and stand on the hold or wait as well. "GIL flame" is a
track per GIL with the stacks of such holds: selecting a stretch of it adds them up. All of it is
derived from the events around it; readers pass it by (decode_detail.h).
"""

from __future__ import annotations

from functools import cache
from typing import Any

from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import (
    DebugAnnotation,
    InternedData,
    TrackEvent,
)

from gilscope.perfetto import layout
from gilscope.perfetto.codec import (
    OWN_NAME,
    Detail,
    DetailParts,
    InternedTable,
    interned_names,
)
from gilscope.trace import stacks
from gilscope.trace.schema import Metadata, Stack

_NONE = 0xFFFFFFFF
MOST_TEXTS = 1 << 14  # that a sequence interns; later ones are spelled out: memory is bounded


class Details:
    """Builds what one recording's details say, but for times and counts (put_detail.h)."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata
        self._texts: dict[tuple[int, int], _Texts] = {}  # by thread and GIL
        self._frames: dict[int, _Texts] = {}  # by GIL
        self._files: dict[str, str] = {}  # how they are told

    def grow(self, metadata: Metadata) -> None:
        """Its tables have got more rows."""
        self._metadata = metadata

    def parts(self, detail: Detail) -> DetailParts:
        """What `Encoder.detail` takes. Called in the order of the file."""
        name, values = self._wait(detail) if detail.of_wait else self._hold(detail)
        sequence = (detail.thread, detail.gil)
        if sequence not in self._texts:
            self._texts[sequence] = _Texts(OWN_NAME + 1)
            self._texts[sequence].add_names_of_annotations()
        texts = self._texts[sequence]
        begin = texts.begin(name)
        annotations = TrackEvent(
            debug_annotations=[
                texts.annotation(value, name_iid=_names_of_annotations()[key])
                for key, value in values.items()
                if value is not None
            ]
        )
        return DetailParts(
            annotations.SerializeToString(),
            begin.SerializeToString(),
            texts.take_new(),
            *self._flame(detail),
        )

    def _flame(self, detail: Detail) -> tuple[list[int], bytes]:
        if detail.of_wait or detail.leaf == _NONE:
            return [], b""
        texts = self._frames.setdefault(detail.gil, _Texts(1))
        path = stacks.path(self._metadata.stacks, detail.leaf)
        names = [self._frame(row) for row in reversed(path)]
        return [texts.name(name) for name in names], texts.take_new()

    def _frame(self, row: Stack) -> str:
        line = f":{row.line}" if row.line else ""
        return f"{self._short(row.file) or '?'}{line} {row.function}".rstrip()

    def _line(self, leaf: int, *, exact: bool, gc: bool = False) -> str | None:
        if leaf == _NONE:
            return "gc" if gc else None
        site = stacks.site(self._metadata.stacks, leaf)
        file = self._short(site.file) or "?"
        how = "gc in " if gc else "" if exact else "at or before "
        return f"{how}{file}:{site.line} {site.function}"

    def _short(self, file: str) -> str:
        """The end of its path that none of the files that were told before has."""
        if file not in self._files:
            short = stacks.shortest_paths([*self._files, file])[file]
            self._files[file] = short
        return self._files[file]

    def _hold(self, detail: Detail) -> tuple[str, dict[str, Any]]:
        line = self._line(detail.leaf, exact=bool(detail.seen), gc=bool(detail.gc))
        return line or "no stack", {
            "line": line,
            "stack": self._stack(detail.leaf),
            "ended_by_yield": bool(detail.yielded),
        }

    def _wait(self, detail: Detail) -> tuple[str, dict[str, Any]]:
        line = self._line(detail.leaf, exact=True)
        values: dict[str, Any] = {"line": line, "stack": self._stack(detail.leaf)}
        some = f"some {detail.some:,} holds" if detail.some else ""
        if detail.holder == _NONE:
            return f"for {some or 'no long hold'}", values
        holder = layout.printable(self._metadata.threads[detail.holder].name)
        where = self._line(
            detail.other_leaf, exact=bool(detail.other_seen), gc=bool(detail.other_gc)
        )
        values |= {
            "waited_for": holder,
            "waited_for_line": where,
            "waited_for_stack": self._stack(detail.other_leaf),
        }
        whom = f"{some}, longest {holder}" if some else holder
        return f"for {whom}" + (f" {where}" if where else ""), values

    def _stack(self, leaf: int) -> list[str] | None:
        if leaf == _NONE:
            return None
        return [stacks.where(row) for row in stacks.path(self._metadata.stacks, leaf)]


@cache
def _names_of_annotations() -> dict[str, int]:
    """To iid."""
    return {name: iid for iid, name in interned_names(InternedTable.OF_DETAILS).items()}


class _Texts:
    """What one packet sequence has interned for its details."""

    def __init__(self, first_name: int) -> None:
        self._first_name = first_name
        self._names: dict[str, int] = {}
        self._values: dict[str, int] = {}
        self._new = InternedData()

    def take_new(self) -> bytes:
        """The InternedData that has to come along with what was asked for since the last call."""
        new: bytes = self._new.SerializeToString()
        self._new.Clear()
        return new

    def add_names_of_annotations(self) -> None:
        """Intern those as well."""
        for name, iid in _names_of_annotations().items():
            self._new.debug_annotation_names.add(iid=iid, name=name)

    def begin(self, name: str) -> Any:
        """A TrackEvent that begins a slice."""
        event = TrackEvent(type=TrackEvent.TYPE_SLICE_BEGIN)
        if name not in self._names and self._full:
            event.name = name
        else:
            event.name_iid = self.name(name)
        return event

    def name(self, text: str) -> int:
        """The iid of a slice's name."""
        if text not in self._names:
            self._names[text] = self._first_name + len(self._names)
            self._new.event_names.add(iid=self._names[text], name=text)
        return self._names[text]

    def annotation(self, value: bool | str | list[str], **name: int) -> Any:
        """A DebugAnnotation."""
        annotation = DebugAnnotation(**name)
        if isinstance(value, bool):
            annotation.bool_value = value
        elif isinstance(value, list):
            annotation.array_values.extend(self.annotation(item) for item in value)
        elif value not in self._values and self._full:
            annotation.string_value = value
        else:
            annotation.string_value_iid = self._value(value)
        return annotation

    def _value(self, text: str) -> int:
        if text not in self._values:
            self._values[text] = 1 + len(self._values)
            self._new.debug_annotation_string_values.add(iid=self._values[text], str=text.encode())
        return self._values[text]

    @property
    def _full(self) -> bool:
        return len(self._names) + len(self._values) >= MOST_TEXTS

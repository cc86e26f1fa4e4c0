"""The flame as stacks of frames, which every form of it is written from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from gilscope.analysis.flame import NO_LEAF, Flame
from gilscope.safe_text import escaped
from gilscope.trace.stacks import path, shortest_paths

if TYPE_CHECKING:
    from gilscope.trace.schema import Metadata

_LONGEST = 200  # characters of a name: who looks at a flame sees fewer
NO_STACK = "(no stack recorded)"
LET_GO = "(let go)"  # behind a line where a hold ended: its time went there or before
FREE = "(no holder: the GIL was free, or nobody saw who had it)"


class Frame(NamedTuple):
    """One call of a stack. All text is printable."""

    name: str
    file: str | None = None  # whole path; None: no Python code
    short: str | None = None  # the end of the path that is its own in this trace
    line: int | None = None

    @property
    def place(self) -> str:
        """`views.py:17 handle`."""
        if self.short is None:
            return self.name
        return f"{self.short}{'' if self.line is None else f':{self.line}'} {self.name}".rstrip()


class Burnt(NamedTuple):
    """A stack, the thread's name outermost, and its times in ns."""

    frames: tuple[Frame, ...]
    held_ns: int
    caused_ns: int


def burnt(flame: Flame, metadata: Metadata) -> Iterator[Burnt]:
    """Each stack of the flame; the held times add up to all held time, the caused ones (FREE
    included) to all waiting."""
    short = shortest_paths(row.file for row in metadata.stacks)
    calls: dict[int, Frame] = {}  # by Stack.id: stacks share their outer frames
    known: dict[int, tuple[Frame, ...]] = {NO_LEAF: (Frame(NO_STACK),)}
    threads = [Frame(escaped(thread.name)) for thread in metadata.threads]
    for row in flame.rows:
        if row.leaf not in known:
            rows = path(metadata.stacks, row.leaf)[::-1]
            for call in rows:
                if call.id not in calls:
                    calls[call.id] = Frame(
                        escaped(call.function, _LONGEST) or "?",
                        escaped(call.file) or None,
                        escaped(short[call.file], _LONGEST) or None,
                        call.line or None,
                    )
            known[row.leaf] = tuple(calls[call.id] for call in rows)
        frames = known[row.leaf]
        if not row.exact and row.leaf != NO_LEAF:
            last = frames[-1]
            frames = (*frames[:-1], last._replace(name=f"{last.name} {LET_GO}"))
        yield Burnt((threads[row.thread], *frames), row.held_ns, row.caused_ns)
    if flame.free_ns:
        yield Burnt((Frame(FREE),), 0, flame.free_ns)

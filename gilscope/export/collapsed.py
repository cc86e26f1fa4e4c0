"""Collapsed stacks for flame graph tools: `thread;outermost;…;leaf nanoseconds`, a line a stack."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from gilscope.export.frames import Burnt


def collapsed(stacks: Iterable[Burnt], *, waiting: bool = False) -> Iterator[str]:
    """The lines, sorted; `waiting`: of the waiting that a stack caused, else of its held time.

    A semicolon in a name would end its frame, so a comma stands for it.
    """
    times: Counter[str] = Counter()
    for stack in stacks:
        if ns := stack.caused_ns if waiting else stack.held_ns:
            times[";".join(frame.place.replace(";", ",") for frame in stack.frames)] += ns
    for stack_line, ns in sorted(times.items()):
        yield f"{stack_line} {ns}\n"

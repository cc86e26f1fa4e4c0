"""Collapsed stacks for flame graph tools: `thread;outermost;…;leaf nanoseconds`, a line a stack."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from gilscope.export.frames import Burnt, Frame


def collapsed(stacks: Iterable[Burnt], *, waiting: bool = False) -> Iterator[str]:
    """The lines, sorted; `waiting`: of the waiting that a stack caused, else of its held time.

    A semicolon in a name would end its frame, so a comma stands for it.
    """
    places = _Places()
    times: Counter[tuple[str, ...]] = Counter()
    for stack in stacks:
        if ns := stack.caused_ns if waiting else stack.held_ns:
            times[tuple(map(places.__getitem__, stack.frames))] += ns
    for frames, ns in sorted(times.items()):
        yield f"{';'.join(frames)} {ns}\n"


class _Places(dict[Frame, str]):
    """What stands for a frame in a line: stacks share theirs, which may be long."""

    def __missing__(self, frame: Frame) -> str:
        place = self[frame] = frame.place.replace(";", ",")
        return place

"""The GIL's flame: how long it was held, by stack."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gilscope.trace.stacks import path, where

if TYPE_CHECKING:
    from gilscope.trace.model import Trace

NO_STACK = "(no stack recorded)"


@dataclass(frozen=True)
class Flame:
    """`held_ns` by stack: the thread's name, then its frames, the outermost first.

    All held time is in it; what has no stack is NO_STACK of its thread.
    """

    held_ns: dict[tuple[str, ...], int]
    total_ns: int
    covered_ns: int  # of which the stack is known
    holds: int
    covered_holds: int


def flame_of(trace: Trace) -> Flame:
    """Hold time of `trace` by stack."""
    holds = trace.holds
    lengths = holds["end_ns"] - holds["start_ns"]
    mine = trace.stacks[trace.stacks["of_wait"] == 0]
    at = mine["interval"]
    covered = Counter[tuple[int, int]]()
    for thread, leaf, ns in zip(
        holds["thread"][at].tolist(), mine["leaf"].tolist(), lengths[at].tolist(), strict=True
    ):
        covered[thread, leaf] += ns
    rest = np.ones(len(holds), bool)
    rest[at] = False
    held: Counter[tuple[str, ...]] = Counter()
    names = [thread.name for thread in trace.metadata.threads]
    for (thread, leaf), ns in covered.items():
        frames = path(trace.metadata.stacks, leaf)
        stack = (names[thread], *(where(row, 1) for row in reversed(frames)))
        held[stack] += ns
    for thread in np.unique(holds["thread"][rest]).tolist():
        ns = int(lengths[rest & (holds["thread"] == thread)].sum())
        if ns:
            held[names[thread], NO_STACK] += ns
    return Flame(
        held_ns=held,
        total_ns=int(lengths.sum()),
        covered_ns=int(lengths[at].sum()),
        holds=len(holds),
        covered_holds=len(at),
    )


def collapsed(flame: Flame) -> str:
    """One line a stack, `thread;outermost;…;leaf nanoseconds`, as flame graph tools read it."""
    lines = (
        ";".join(frame.replace(";", ",").replace("\n", " ") for frame in stack) + f" {ns}\n"
        for stack, ns in sorted(flame.held_ns.items())
    )
    return "".join(lines)

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
LET_GO = "(let go)"  # behind a line where a hold ended: its time went there or before


@dataclass(frozen=True)
class Flame:
    """`held_ns` by stack: the thread's name, then its frames, the outermost first.

    All held time is in it; what has no stack is NO_STACK of its thread. The last frame of a hold
    that nobody looked into ends in LET_GO.
    """

    held_ns: dict[tuple[str, ...], int]
    total_ns: int
    covered_ns: int  # of which the stack is known
    ended_ns: int  # of which it is known at the end alone
    holds: int
    covered_holds: int


def flame_of(trace: Trace) -> Flame:
    """Hold time of `trace` by stack."""
    holds = trace.holds
    lengths = holds["end_ns"] - holds["start_ns"]
    mine = trace.stacks[trace.stacks["of_wait"] == 0]
    at = mine["interval"]
    covered = Counter[tuple[int, int, bool]]()
    for thread, leaf, seen, ns in zip(
        holds["thread"][at].tolist(),
        mine["leaf"].tolist(),
        mine["seen"].astype(bool).tolist(),
        lengths[at].tolist(),
        strict=True,
    ):
        covered[thread, leaf, seen] += ns
    rest = np.ones(len(holds), bool)
    rest[at] = False
    held: Counter[tuple[str, ...]] = Counter()
    names = [thread.name for thread in trace.metadata.threads]
    for (thread, leaf, seen), ns in covered.items():
        *callers, last = (where(row, 1) for row in reversed(path(trace.metadata.stacks, leaf)))
        stack = (names[thread], *callers, last if seen else f"{last} {LET_GO}")
        held[stack] += ns
    for thread in np.unique(holds["thread"][rest]).tolist():
        ns = int(lengths[rest & (holds["thread"] == thread)].sum())
        if ns:
            held[names[thread], NO_STACK] += ns
    return Flame(
        held_ns=held,
        total_ns=int(lengths.sum()),
        covered_ns=int(lengths[at].sum()),
        ended_ns=int(lengths[at][mine["seen"] == 0].sum()),
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

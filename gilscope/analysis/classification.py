"""What kind of work a thread does, by how it uses the GIL. All thresholds stand here.

docs/analysis.md gives the reasons.
"""

from __future__ import annotations

from dataclasses import dataclass

LONG_STRETCH_NS = 2_000_000  # a stretch from this length on is CPU work
PROMPT_NS = 100_000  # who asks again this soon behind a requested release was made to yield
CPU_SHARE = 0.5  # of held time in long stretches, from which a thread is `cpu`
IO_VOLUNTARY_SHARE = 0.5  # of releases, from which a thread may be `io`
IO_STRETCH_NS = 500_000  # mean stretch up to which a thread holds little
RARE_SHARE = 0.05  # of its life held, below which long stretches may be the kernel's doing
IDLE_SHARE = 0.01  # of its life held or waiting, below which a thread may be `idle`
IDLE_ASKS_PER_S = 10.0  # and it asks less often than this
BUSY_SHARE = 0.1  # of its whole life held, from which a thread is not `idle`


@dataclass(frozen=True)
class Usage:
    """How one thread used the GIL in its life. Times in ns."""

    life_ns: int
    held_ns: int
    waiting_ns: int
    asks: int  # holds
    long_ns: int  # part of held_ns in stretches of at least LONG_STRETCH_NS
    stretches: int
    voluntary: int  # releases by itself
    forced: int


def classify(shared: Usage, whole: Usage) -> str:
    """`io`, `cpu`, `mixed` or `idle`: what it did while others used its GIL, too.

    Who did next to nothing then is not called idle where it held its GIL much of its life.
    """
    kind = _kind(shared)
    busy = whole.held_ns and whole.held_ns >= BUSY_SHARE * whole.life_ns
    return _kind(whole) if kind == "idle" and busy else kind


def _kind(use: Usage) -> str:
    busy = use.held_ns + use.waiting_ns
    if busy == 0 or (
        busy < IDLE_SHARE * use.life_ns and use.asks * 1e9 < IDLE_ASKS_PER_S * use.life_ns
    ):
        return "idle"
    releases = use.voluntary + use.forced
    by_itself = use.voluntary >= IO_VOLUNTARY_SHARE * releases
    # On a busy machine the kernel takes the CPU from a thread that holds the GIL for microseconds:
    # a few such holds look long and outweigh all the others.
    if by_itself and use.held_ns < RARE_SHARE * use.life_ns:
        return "io"
    if use.held_ns and use.long_ns >= CPU_SHARE * use.held_ns:
        return "cpu"
    return "io" if by_itself and use.held_ns <= IO_STRETCH_NS * use.stretches else "mixed"

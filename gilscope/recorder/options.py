"""What of a program's life is recorded: the options that every way to record shares.

Imports nothing heavy: it stands between the user's command and the program's start.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from gilscope.errors import UsageError

DUMP_EVERY_S = 60.0

# Bits of enum gs_watch_metric.
_METRICS = {"io_wait": 1, "cpu_wait": 2, "wait": 3, "hold": 4}
_UNITS_NS = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
_SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


class Keep(NamedTuple):
    """A flight recorder keeps only the last so much."""

    seconds: float | None
    size: int | None  # bytes

    @classmethod
    def parse(cls, text: str) -> Keep:
        """Of `30`, `30s`, `5min` or of a size, `64M`. Raises UsageError."""
        spelled = text.strip().lower()
        if match := re.fullmatch(r"(\d+(?:\.\d+)?)(s|min|h)?", spelled):
            seconds = float(match[1]) * {"s": 1, "min": 60, "h": 3600, None: 1}[match[2]]
            if seconds > 0:
                return cls(seconds, None)
        elif match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg])(?:i?b)?", spelled):
            size = int(float(match[1]) * _SIZES[match[2]])
            if size < 4 << 20:
                raise UsageError(f"--keep {text} is too little: at least 4M")
            return cls(None, size)
        raise UsageError(f"--keep takes seconds or a size (30, 5min, 64M), not {text}")


class DumpWhen(NamedTuple):
    """A snapshot is written each time that something lasted longer."""

    metrics: int  # bits of enum gs_watch_metric
    ns: int
    text: str

    @classmethod
    def parse(cls, text: str) -> DumpWhen:
        """Of `io_wait=50ms`. Raises UsageError."""
        match = re.fullmatch(r"(\w+)=(\d+(?:\.\d+)?)(ns|us|µs|ms|s)", text.strip())
        if not match or match[1] not in _METRICS or float(match[2]) == 0:
            names = ", ".join(_METRICS)
            raise UsageError(f"--dump-when takes METRIC=TIME ({names}; io_wait=50ms), not {text}")
        return cls(_METRICS[match[1]], int(float(match[2]) * _UNITS_NS[match[3]]), text.strip())


class Options(NamedTuple):
    """Of one recording. Times are seconds."""

    max_bytes: int | None = None
    follow: bool = True
    keep: Keep | None = None
    dump_when: DumpWhen | None = None
    dump_every: float = DUMP_EVERY_S
    duration: float | None = None
    delay: float = 0.0
    sched: bool = False  # the kernel's context switches too
    counters: bool = False  # alone: no events

    @property
    def ring_bytes(self) -> int | None:
        """The rings' size that was asked for."""
        return self.keep.size if self.keep and self.keep.size else self.max_bytes

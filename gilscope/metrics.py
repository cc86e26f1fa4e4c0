"""Counters of the calling process, for a program that gilscope records or counts.

    gilscope record --counters python app.py

and in app.py one of

    gilscope.metrics.prometheus(prometheus_client.REGISTRY)
    gilscope.metrics.opentelemetry(opentelemetry.metrics.get_meter("app"))
    gilscope.metrics.snapshot()
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gilscope.errors import RecordingError
from gilscope.live.counters import Counters, Reading
from gilscope.live.totals import Group, Totals

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter
    from prometheus_client import CollectorRegistry

_RINGS = "GILSCOPE_RINGS"


class Source:
    """The counters of the calling process, whichever that is after a fork. Any thread."""

    def __init__(self, share_s: float = 0.0) -> None:
        """A reading is shared by calls that come within `share_s`."""
        self._lock = threading.Lock()
        self._share_s = share_s
        self._pid = 0
        self._read_at = float("-inf")
        self._groups: list[Group] = []
        os.register_at_fork(after_in_child=self._after_fork)

    def groups(self) -> list[Group]:
        """Groups of like threads. Raises RecordingError where the process is not counted."""
        with self._lock:
            now = time.monotonic()
            if self._pid != os.getpid():
                self._counters = own_counters()
                self._pid = os.getpid()
                self._totals = Totals(self._pid)
            elif now - self._read_at < self._share_s:
                return self._groups
            self._groups = self._totals.update(self._counters.read())
            self._read_at = now
            return self._groups

    def _after_fork(self) -> None:
        self._lock = threading.Lock()


def own_counters() -> Counters:
    """Of the recording that the calling process belongs to. Raises RecordingError."""
    path = os.environ.get(_RINGS)
    if not path:
        raise RecordingError(
            "this process is not counted; start it with: gilscope record --counters COMMAND…"
        )
    return Counters(Path(path))


def snapshot() -> dict[str, Any]:
    """What each thread of the calling process held and waited so far.

    `{"schema": 1, "pid", "command": [...], "threads": [{"tid", "name", "gil", "holds", "waits",
    "held_ns", "io_wait_ns", "cpu_wait_ns", "made_wait_ns", "acquires", "contended", "hand_overs",
    "longest_wait_ns"}], "ended": {…}}`: `waits` is "io", "cpu" or null, `ended` has the sums of
    threads that are gone. It takes no longest wait from who reads regularly. Raises RecordingError.
    """
    counters = own_counters()
    try:
        reading = counters.read(take_longest=False)
    finally:
        counters.close()
    mine = [p for p in reading.processes if p.pid == os.getpid() and not p.dead]
    if not mine:
        raise RecordingError("this process is not counted: there was no room for it in the rings")
    process = max(mine, key=lambda each: each.serial)
    return {
        "schema": 1,
        "pid": process.pid,
        "command": list(process.command),
        "threads": _rows(reading, process.serial),
        "ended": asdict(process.gone),
    }


def _rows(reading: Reading, process: int) -> list[dict[str, Any]]:
    return [
        {
            "tid": thread.tid,
            "name": thread.name,
            "gil": thread.gil,
            "holds": thread.holds,
            "waits": thread.waits,
            **asdict(thread.sums),
            "longest_wait_ns": thread.longest_wait_ns,
        }
        for thread in reading.threads
        if thread.process == process and not thread.over
    ]


def prometheus(registry: CollectorRegistry | None = None) -> None:
    """Let a registry of prometheus-client (default: its own) collect the counters of this process.

    Raises RecordingError where it is not counted, InstallationError without prometheus-client.
    """
    from gilscope.integrations.prometheus import register  # noqa: PLC0415

    own_counters().close()
    register(Source().groups, registry)


def opentelemetry(meter: Meter) -> None:
    """Make instruments of a meter of opentelemetry-api that observe the counters of this process.

    Raises RecordingError where it is not counted, InstallationError without opentelemetry-api.
    """
    from gilscope.integrations.opentelemetry import observe  # noqa: PLC0415

    own_counters().close()
    observe(Source(share_s=0.1).groups, meter)  # each instrument of one collection asks

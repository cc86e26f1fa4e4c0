"""The groups of one ring file, read by whoever asks, and often enough that no name is lost."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from gilscope.live.counters import Counters
from gilscope.live.totals import Group, Totals

PERIOD_S = 5.0  # a thread's page is kept longer than that after its end


class Watching:
    """Owner of one Counters and one Totals. Any thread."""

    def __init__(self, rings: Path) -> None:
        """Raises RecordingError."""
        self._counters = Counters(rings)
        self._totals = Totals()
        self._lock = threading.Lock()
        self._read_at = float("-inf")

    def groups(self) -> list[Group]:
        """A reading of its own: the longest waits are of those since the last call. Raises
        RecordingError.
        """
        return self._read(take_longest=True)

    def tick(self) -> None:
        """To be called often. Raises RecordingError."""
        if time.monotonic() - self._read_at >= PERIOD_S:
            self._read(take_longest=False)

    def goes_on(self) -> bool:
        """Whether the recording does. Raises RecordingError."""
        self.tick()
        with self._lock:
            return self._counters.goes_on

    def _read(self, take_longest: bool) -> list[Group]:
        with self._lock:
            self._read_at = time.monotonic()
            return self._totals.update(self._counters.read(take_longest))

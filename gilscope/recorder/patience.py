"""How long gilscope waits for a program that was asked to end and does not.

The first request (Ctrl-C, SIGTERM) is the program's. If the program is still there after a moment,
a line says what another one does: it ends the recording, and the program goes on. A request that
comes much later is a first one again: to some programs (a shell, a debugger) Ctrl-C means no end.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

REQUESTS = (signal.SIGINT, signal.SIGTERM)
MOMENT_S = 1.0  # that the program has to end in, each time
TOGETHER_S = 30.0  # between two requests that belong together


class Patience:
    """`tell` is called when the program did not end. Owner: the thread that waits for it."""

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell = tell
        self._told = False
        self._since: float | None = None  # the last request
        self._repeated: int | None = None  # the signal that was the second one

    def asked(self, number: int) -> None:
        """Note that this signal came."""
        if number not in REQUESTS:
            return
        now = time.monotonic()
        if self._since is None or now - self._since > TOGETHER_S:
            self._told = False
        else:
            self._repeated = number
        self._since = now

    def over(self) -> int | None:
        """The signal that ends the recording now, if one does; to be called again and again."""
        if self._since is None or time.monotonic() - self._since < MOMENT_S:
            return None
        if self._repeated is None and not self._told:
            self._told = True
            self._tell()
        return self._repeated

"""The kernel's side of a recording: context switches where they were asked for, and quotas.

Imports nothing heavy: it stands between the user's command and the program's start.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from gilscope.recorder.quota import Throttled, throttled
from gilscope.recorder.session import Session
from gilscope.recorder.switches import Switches


class Kernel:
    """Owner: the recorder's thread, which calls `tick` every few milliseconds."""

    def __init__(self, session: Session, sched: bool, say: Callable[[str], None]) -> None:
        """`sched`: context switches are wanted."""
        self._session, self._sched, self._say = session, sched, say
        self._switches: Switches | None = None
        self._before: Throttled | None = None

    def begin(self, pid: int) -> None:
        """The program is about to begin, in this process."""
        self._session.begin(pid)
        self._before = throttled(pid)
        if not self._sched:
            return
        try:
            room = self._session.limit_bytes // 2
            self._switches = Switches(self._session.directory, pid, room)
        except OSError as error:
            self._say(f"--sched: no context switches: {error.strerror}; the rest is recorded")

    def tick(self) -> None:
        """What is due by now. Never waits."""
        if self._switches:
            self._switches.tick()

    @property
    def used_bytes(self) -> int:
        """Of the context switches' file."""
        return self._switches.used_bytes if self._switches else 0

    def finish(self) -> Throttled | None:
        """The recording is over. What a quota held back since the begin; None: nobody counts."""
        if self._switches:
            self._switches.close()
            self._switches = None
        if self._before is None:
            return None
        after = throttled(os.getpid())  # the program is gone; it began in gilscope's own cgroup
        return after.since(self._before) if after else None

"""The kernel's side of a recording: context switches where they were asked for, and quotas.

Imports nothing heavy: it stands between the user's command and the program's start.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterable
from contextlib import suppress

from gilscope.recorder.quota import Quota, Throttled
from gilscope.recorder.session import Session
from gilscope.recorder.switches import Switches

_NO, _REST = "no context switches", "the rest is recorded"
_ROUNDS = 20  # of looks for threads that began meanwhile; more means that they come too fast


class Kernel:
    """Owner: the recorder's thread, which calls `tick` every few milliseconds."""

    def __init__(self, session: Session, sched: bool, say: Callable[[str], None]) -> None:
        """`sched`: context switches are wanted."""
        self._session, self._sched, self._say = session, sched, say
        self._switches: Switches | None = None
        self._quota: Quota | None = None

    def begin(self, pid: int) -> None:
        """The program is about to begin, in this process of gilscope's own."""
        self._session.begin(pid)
        self._quota = Quota(pid)
        self._ask(lambda switches: switches.add(pid, from_exec=True))

    def join(self, pids: Callable[[], Iterable[int]]) -> None:
        """These processes run already, the first one above all; `pids` may tell others later."""
        from gilscope.live import tasks  # noqa: PLC0415 - heavy, and no command is about to begin

        def tids() -> set[int]:
            return {tid for pid in pids() for tid in tasks.tids(pid).values()}

        root = next(iter(pids()))
        self._quota = Quota(root)
        if self._sched and tasks.is_elsewhere(root):
            self._say(f"--sched: {_NO}: it numbers its threads itself (a pid namespace); {_REST}")
        else:
            self._ask(lambda switches: self._add_all(switches, tids))

    def tick(self) -> None:
        """What is due by now. Never waits."""
        if self._switches:
            self._switches.tick()
        if self._quota:
            self._quota.tick()

    @property
    def used_bytes(self) -> int:
        """Of the context switches' file."""
        return self._switches.used_bytes if self._switches else 0

    def finish(self) -> Throttled | None:
        """The recording is over. What a quota held back since the begin; None: nobody counts."""
        if self._switches:
            self._switches.close()
            self._switches = None
        if self._quota:
            self._quota.look()
        return self._quota.total() if self._quota else None

    def _ask(self, add: Callable[[Switches], None]) -> None:
        """For context switches, where they are wanted; says in one line that there are none."""
        if not self._sched:
            return
        switches: Switches | None = None
        try:
            switches = Switches(self._session.directory, self._session.limit_bytes // 2)
            add(switches)
            self._switches = switches
        except OSError as error:
            self._say(f"--sched: {_NO}: {error.strerror}; {_REST}")
            if switches:
                switches.discard()

    def _add_all(self, switches: Switches, tids: Callable[[], set[int]]) -> None:
        """Raises OSError where the kernel tells of no thread at all."""
        _allow_files()
        tried: set[int] = set()
        added = 0
        failed: list[OSError] = []
        for _ in range(_ROUNDS):
            new = tids() - tried
            if not new:
                break
            for tid in sorted(new):
                try:
                    switches.add(tid)
                    added += 1
                except ProcessLookupError:
                    pass  # gone meanwhile
                except OSError as error:
                    failed.append(error)
            tried |= new
        if failed and not added:
            raise failed[0]
        if failed:
            n = f"{len(failed)} thread{'s' * (len(failed) > 1)}"
            self._say(f"--sched: {_NO} of {n}: {failed[0].strerror}; {_REST}")


def _allow_files() -> None:
    """As many open files as this process may have: there is one a thread and processor."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

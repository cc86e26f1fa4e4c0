"""Holds and waits that do not end: each that is open for a second is looked at once, from outside.

So a recording has the lines of a hang however it ends: by Ctrl-C, a kill, a crash. The recorder's
own tick finds out who stands (standing.c); another thread of the recorder looks, since the
recorder, the program's parent, may read the program where its siblings may not. In the long run it
takes one part in fifty of the time at most. The looks lie beside the rings (notes.LOOKS), and are
rewritten as a whole.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from gilscope.recorder.alive import pid_here
from gilscope.recorder.notes import LOOKS
from gilscope.recorder.session import Session, Standing

if TYPE_CHECKING:
    from gilscope.live.memory import Memory
    from gilscope.live.picture import Picture
    from gilscope.live.runtime import Runtime

OPEN_NS = 1_000_000_000  # from which a hold or wait is looked at
_PERIOD_S = 0.1
STACKS = "GILSCOPE_STACKS_US"
_SHARE = 50
_CREDIT_S = 0.25  # that it may take before: the first looks are those that count
_ALL = 200  # threads, up to which all of a process are looked at, for who has what is waited for
_MOST = 2000  # looks that are kept; the oldest go
_FRAMES = 64  # of a stack
_OPENED = 64  # processes
_TEXT = 1000  # characters of a name
_END_S = 2.0  # for a look that is under way when the recording ends


class Looks:
    """Owner: the recorder's thread, which calls `tick` and `finish`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._next = 0.0
        self._looker: _Looker | None = None
        self._is_off = os.environ.get(STACKS) == "off"  # who wants no stacks wants none of these

    def tick(self) -> None:
        """Sees who stands, now and then. Never waits."""
        now = time.monotonic()
        if self._is_off or now < self._next:
            return
        self._next = now + _PERIOD_S
        standing = self._session.standing(OPEN_NS)
        if not standing:
            return
        if self._looker is None:  # it gets ready while the second is not over
            self._looker = _Looker(self._session)
            try:
                self._looker.start()
            except RuntimeError:  # there is no room for one more thread
                self._looker, self._is_off = None, True
                return
        if any(one.is_new for one in standing):
            self._looker.ask(standing)

    def finish(self) -> None:
        """The recording is over."""
        self._is_off = True
        if self._looker is not None:
            self._looker.end()
            self._looker = None


class _Looker(threading.Thread):
    """Looks at those who stand."""

    def __init__(self, session: Session) -> None:
        super().__init__(name="gilscope-looks", daemon=True)
        self._directory, self._rings = session.directory, session.path
        self._wanted = threading.Condition()
        self._standing: list[Standing] = []
        self._over = False
        self._opened: dict[int, tuple[Memory, Runtime] | None] = {}  # None: cannot be read
        self._looks: dict[tuple[int, int], dict[str, Any]] = {}  # by pid and tid: the last one
        self._circles: dict[frozenset[tuple[int, int]], list[dict[str, Any]]] = {}

    def ask(self, standing: list[Standing]) -> None:
        """These stand now."""
        with self._wanted:
            self._standing = standing
            self._wanted.notify()

    def end(self) -> None:
        """Waits for a look that is under way, not for long."""
        with self._wanted:
            self._over = True
            self._wanted.notify()
        self.join(_END_S)

    def run(self) -> None:
        """Until the end."""
        from gilscope.live import picture  # noqa: F401, PLC0415 - not before somebody stands

        began = time.monotonic()
        while True:
            with self._wanted:
                self._wanted.wait_for(lambda: self._standing or self._over)
                standing, self._standing = self._standing, []
            if self._over:
                self._close()
                return
            try:
                self._look(standing)
            except Exception:  # a look is extra: whatever it met, recording goes on
                self._close()
            with self._wanted:
                spent = max(0.0, time.thread_time() - _CREDIT_S)
                self._wanted.wait_for(lambda: self._over, began + _SHARE * spent - time.monotonic())

    def _look(self, standing: list[Standing]) -> None:
        for pid in {one.pid for one in standing}:
            picture = self._picture(pid, {one.tid for one in standing if one.pid == pid})
            if picture is not None:
                self._keep(pid, picture, {one.tid for one in standing if one.pid == pid})
        self._write()

    def _picture(self, pid: int, tids: set[int]) -> Picture | None:
        from gilscope.errors import NotAttachable  # noqa: PLC0415 - not before it is needed
        from gilscope.live import tasks  # noqa: PLC0415
        from gilscope.live.memory import Memory  # noqa: PLC0415
        from gilscope.live.picture import take_of  # noqa: PLC0415
        from gilscope.live.runtime import Runtime  # noqa: PLC0415

        if len(self._opened) >= _OPENED:  # of many children most are over
            self._close()
        if pid not in self._opened:
            here = pid_here(pid, self._rings)
            try:
                memory = None if here is None else Memory(here)
                self._opened[pid] = None if memory is None else (memory, Runtime.open(memory))
            except NotAttachable:
                self._opened[pid] = None
        opened = self._opened[pid]
        if opened is None:
            return None
        many = len(tasks.tids(opened[1].pid)) > _ALL
        picture = take_of(opened[1], tids if many else None)
        if not picture.look.threads:  # it has become another program
            opened[0].close()
            del self._opened[pid]
        return picture

    def _close(self) -> None:
        for opened in filter(None, self._opened.values()):
            opened[0].close()
        self._opened.clear()

    def _keep(self, pid: int, picture: Picture, tids: set[int]) -> None:
        holders = {wait.holder.state.tid for wait in picture.waits.values() if wait.holder}
        rows = {
            one.state.tid: _row(pid, picture, one)
            for one in picture.look.threads
            if one.state.tid is not None and one.state.tid in tids | holders
            if one.stack.frames  # else it is about to end
        }
        for tid, row in rows.items():
            self._looks.pop((pid, tid), None)
            self._looks[pid, tid] = row
        while len(self._looks) > _MOST:
            del self._looks[next(iter(self._looks))]
        for circle in picture.deadlocks:
            members = [one.state.tid for one in circle if one.state.tid is not None]
            if (
                len(members) == len(circle)
                and tids.issuperset(members)
                and rows.keys() >= {*members}
            ):
                key = frozenset((pid, tid) for tid in members)
                self._circles.setdefault(key, [rows[tid] for tid in members])

    def _write(self) -> None:
        circles = list(self._circles.values())
        in_circle = {(row["pid"], row["tid"]) for circle in circles for row in circle}
        looks = [row for key, row in self._looks.items() if key not in in_circle]
        made = self._directory / f"{LOOKS}.new"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(made, flags, 0o600), "w", encoding="utf-8") as file:
            json.dump({"looks": looks, "circles": circles}, file)
        os.replace(made, self._directory / LOOKS)


def _row(pid: int, picture: Picture, thread: Any) -> dict[str, Any]:
    wait = picture.waits.get(thread.state.address)
    return {
        "pid": pid,
        "tid": thread.state.tid,
        "time_ns": picture.time_ns,
        "waits_for": wait and wait.kind.value,
        "name": wait and wait.name and _text(wait.name),
        "holder": wait and wait.holder and wait.holder.state.tid,
        "known_by": wait and wait.how and wait.how.value,
        "limited": bool(wait and wait.limited),
        "frames": list(_frames(thread.stack.frames[:_FRAMES])),
    }


def _frames(frames: Iterable[Any]) -> Iterable[list[Any]]:
    for frame in frames:
        yield [_text(frame.file), _text(frame.function), frame.line or 0]


def _text(text: str) -> str:
    return text.encode("utf-8", "replace").decode()[:_TEXT]

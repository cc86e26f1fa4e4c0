"""Who woke whom, by docs/trace-format.md and not by wakers.h."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from gilscope.trace.schema import SYNC_DETAIL_SHIFT, SYNC_KIND_MASK, EventKind, SyncKind

K = EventKind
CONDITIONS = (K.COND_WAIT, K.COND_WAKE, K.COND_NOTIFY)


@dataclass
class _Waker:
    process: int
    about: int
    time: int
    thread: int
    left: int


def object_of(kind: int, arg: int) -> int:
    """What a wait and its end, or its waker, have in common."""
    return arg & ((1 << SYNC_DETAIL_SHIFT) - 1) | (kind in CONDITIONS) << 63


class Wakers:
    """Notifies and releases that somebody may still come for."""

    def __init__(self) -> None:
        self._buckets: dict[int, list[_Waker]] = defaultdict(list)

    def _bucket(self, process: int, about: int) -> list[_Waker]:
        mixed = (about ^ (process << 48)) * 0x9E3779B97F4A7C15
        return self._buckets[mixed >> 56 & 0xFF]

    def put(self, process: int, about: int, time: int, thread: int, woken: int) -> None:
        """A release (of one) or a notify."""
        bucket = self._bucket(process, about)
        if woken:
            if about & SYNC_KIND_MASK == SyncKind.SEM_LOCK:  # only its newest release counts
                bucket[:] = [w for w in bucket if (w.process, w.about) != (process, about)]
            del bucket[: len(bucket) - 7]
            bucket.append(_Waker(process, about, time, thread, woken))

    def take(self, process: int, about: int, since: int) -> tuple[int, int] | None:
        """When and by whom a wait that began at `since` was woken, if that is known."""
        bucket = self._bucket(process, about)
        for waker in bucket:
            if (waker.process, waker.about) == (process, about) and waker.time >= since:
                waker.left -= 1
                if not waker.left:
                    bucket.remove(waker)
                return waker.time, waker.thread
        return None

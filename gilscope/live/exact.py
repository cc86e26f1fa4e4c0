"""Pictures from a recording's counters: exact, but for the lines, which are looked at from outside
now and then.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from pathlib import Path

from gilscope.errors import NotAttachable, ProcessGone
from gilscope.live.counters import Counters, ProcessCount, Reading, Sums, ThreadCount
from gilscope.live.lookout import Lookout
from gilscope.live.window import GilPicture, Picture, ProcessPicture, ThreadPicture

_S = 1e9
_LOOKS_PER_S = 20.0
_AGAIN_S = 1.0  # a process that cannot be read is tried again


class ExactSource:
    """Of one recording. Any thread asks; one of its own looks at lines."""

    def __init__(self, rings: Path) -> None:
        """Raises RecordingError."""
        self._counters = Counters(rings)
        self._before = self._counters.read(take_longest=False)
        self._lookouts: dict[int, Lookout | None] = {}
        self._tried: dict[int, float] = {}
        self._lines: dict[int, dict[int, str]] = {}
        self._seen = Counter[tuple[int, str]]()  # holders' lines in this window, by process
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gilscope-lines", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(random.uniform(0.5, 1.5) / _LOOKS_PER_S):
            with self._lock:
                self._look()

    def _look(self) -> None:
        """Where the holders are now."""
        for process in self._counters.read(take_longest=False).processes:
            if process.dead:
                continue
            lookout = self._lookout(process)
            if not lookout:
                continue
            try:
                holders = lookout.holders()
            except NotAttachable:
                self._lookouts[process.serial] = None
                lookout.close()
                continue
            for tid, line in holders:
                self._lines.setdefault(process.serial, {})[tid] = line
                if lookout.somebody_waits:
                    self._seen[process.serial, line] += 1

    def picture(self) -> Picture:
        """Of what was since the last one. Raises ProcessGone when the recording is over."""
        if not self._counters.goes_on:
            raise ProcessGone("the recording is over")
        with self._lock:
            return self._picture()

    def _picture(self) -> Picture:
        before, now = self._before, self._counters.read(take_longest=False)
        window_s = max((now.at_ns - before.at_ns) / _S, 1e-6)
        then = {thread.key: thread.sums for thread in before.threads}
        picture = Picture(
            "exact",
            window_s,
            tuple(
                self._process(process, now, then, window_s)
                for process in now.processes
                if not process.dead
            ),
        )
        self._before = now
        self._seen.clear()
        return picture

    @property
    def begun(self) -> bool:
        """Whether a program has begun in the recording."""
        with self._lock:
            return bool(self._counters.read(take_longest=False).processes)

    def close(self) -> None:
        """Let everything go."""
        self._over.set()
        self._thread.join()
        for lookout in self._lookouts.values():
            if lookout:
                lookout.close()
        self._counters.close()

    def _process(
        self,
        process: ProcessCount,
        reading: Reading,
        then: dict[tuple[int, int], Sums],
        window_s: float,
    ) -> ProcessPicture:
        threads = [each for each in reading.threads if each.process == process.serial]
        shares = {each.key: each.sums - then.get(each.key, Sums()) for each in threads}
        lines = self._lines.get(process.serial, {})
        seen = {line: n for (serial, line), n in self._seen.items() if serial == process.serial}
        gils = sorted({each.gil for each in threads if each.sums.acquires})
        return ProcessPicture(
            pid=process.pid,
            command=" ".join(process.command),
            gils=tuple(
                _gil([each for each in threads if each.gil == gil], shares, window_s)
                for gil in gils
            ),
            threads=tuple(
                ThreadPicture(
                    tid=each.tid,
                    name=each.name,
                    held=_share(shares[each.key].held_ns, window_s),
                    waiting=_share(_waited(shares[each.key]), window_s),
                    line=lines.get(each.tid),
                    now="holds" if each.holds else "waits" if each.waits else "",
                    waited_s=_waited(each.sums) / _S,
                )
                for each in threads
                if not each.over
            ),
            lines=_shares_of(seen),
        )

    def _lookout(self, process: ProcessCount) -> Lookout | None:
        if process.serial not in self._lookouts:
            if time.monotonic() - self._tried.get(process.serial, -_AGAIN_S) < _AGAIN_S:
                return None
            self._tried[process.serial] = time.monotonic()
            try:
                self._lookouts[process.serial] = Lookout(process.pid)
            except NotAttachable:  # not yet, in another namespace, or not to be read
                return None
        return self._lookouts[process.serial]


def _gil(
    threads: list[ThreadCount], shares: dict[tuple[int, int], Sums], window_s: float
) -> GilPicture:
    total = sum((shares[each.key] for each in threads), Sums())
    holders = [each.name for each in threads if each.holds]
    return GilPicture(
        held=_share(total.held_ns, window_s),
        contended=_share(total.made_wait_ns, window_s),
        waiters=_waited(total) / _S / window_s,
        switches_per_s=total.hand_overs / window_s,
        holder=holders[0] if holders else None,
    )


def _share(ns: int, window_s: float) -> float:
    return min(ns / _S / window_s, 1.0)


def _waited(sums: Sums) -> int:
    return sums.io_wait_ns + sums.cpu_wait_ns


def _shares_of(seen: dict[str, int]) -> tuple[tuple[str, float], ...]:
    total = sum(seen.values())
    return tuple((line, n / total) for line, n in Counter(seen).most_common(10))

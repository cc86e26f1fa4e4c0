"""Pictures from samples of a process that runs: nothing is written there and nothing is stopped.

A sample reads the GIL's words (who has it, how many wait); each few also asks the kernel which
threads sleep on them. Samples come at random times, since the switch interval has a beat. Who holds
is a share of samples, so it has an error, which is told; how often the GIL went from one to another
is exact, for CPython counts that. A sampler that gets no processor is late, which is told as well:
on a busy machine it sees the moments in which the program did not run either.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import pairwise

import psutil

from gilscope.errors import NotAttachable, ProcessGone
from gilscope.live import tasks, threads
from gilscope.live.gil import Gil, GilState
from gilscope.live.lookout import Known, Lookout
from gilscope.live.window import (
    GilPicture,
    Picture,
    ProcessPicture,
    ThreadPicture,
    WaitedSoFar,
)

HZ = 100.0
_TREE_S = 5.0  # children are looked for
_LINES_PER_S = 10.0
_THREADS_PER_SAMPLE = 20
_MOST_LINES = 10
_Z = 1.96
# From its wakeup to its look a sampler takes that long, and on a busy machine one of the program's
# threads has no processor meanwhile. Where the GIL changes hands faster, samples see only that.
_TO_LOOK_S = 50e-6
_PR_SET_TIMERSLACK = 29


class _Gil:
    """One GIL in this window."""

    def __init__(self) -> None:
        self.held: list[bool] = []
        self.contended: list[bool] = []
        self.waiters: list[int | None] = []
        self.first_switches: int | None = None
        self.last: GilState | None = None

    def add(self, state: GilState) -> None:
        self.held.append(state.locked)
        self.contended.append(state.locked and bool(state.waiters))
        self.waiters.append(state.waiters)
        if self.first_switches is None:
            self.first_switches = state.switches
        self.last = state


class _Target:
    """One process: what its samples say."""

    def __init__(self, pid: int) -> None:
        """Raises NotAttachable."""
        self.lookout = Lookout(pid)
        try:
            self.command = " ".join(psutil.Process(pid).cmdline())
        except psutil.Error:
            self.command = ""
        self._files: dict[int, int] = {}  # /proc/PID/task/TID/syscall, by TID
        self._slept: set[int] = set()  # tasks that waited at the last look
        self.waited = WaitedSoFar()
        self.lines: dict[int, str] = {}
        self.began_at = self._looked_at = time.monotonic()
        self._next_line = 0.0
        self.gils: dict[int, _Gil] = {}
        self._n = 0
        self.new_window(self.began_at)

    def close(self) -> None:
        for file in self._files.values():
            os.close(file)
        self._files.clear()
        self.lookout.close()

    def new_window(self, now: float) -> None:
        """Keep the switches, from which the next window counts."""
        before = self.gils
        self.gils = {}
        for address, gil in before.items():
            self.gils[address] = _Gil()
            if gil.last:
                self.gils[address].first_switches = gil.last.switches
        self.samples = 0
        self.held = Counter[int]()  # samples, by thread state
        self.waiting: defaultdict[int, float] = defaultdict(float)  # seconds, by task
        self.looked_s = 0.0
        self.culprits = Counter[str]()
        self.began_at = now

    # ---- one sample -----------------------------------------------------------------------

    def sample(self, now: float) -> None:
        """Raises ProcessGone."""
        lookout = self.lookout
        lookout.refresh()
        self.samples += 1
        self._n += 1
        every = max(1, min(12, len(lookout.known) // _THREADS_PER_SAMPLE))
        states = [(gil, state) for gil in lookout.gils if (state := gil.read()) is not None]
        if not states and not psutil.pid_exists(lookout.pid):
            raise ProcessGone(f"process {lookout.pid} has ended")
        for gil, state in states:
            self.gils.setdefault(gil.address, _Gil()).add(state)
            if state.holder is not None:
                lookout.refresh(state.holder)
                self.held[state.holder] += 1
                self._see_line(state, now)
        if self._n % every == 0:
            self._look_at_threads(states, now)

    def _see_line(self, state: GilState, now: float) -> None:
        """The holder's line, first of all where somebody waits for it."""
        assert state.holder is not None
        if now < self._next_line:
            return
        line = self.lookout.line(state.holder)
        self._next_line = now + 1 / _LINES_PER_S
        if line:
            self.lines[state.holder] = line
            if state.waiters:
                self.culprits[line] += 1

    def _look_at_threads(self, states: list[tuple[Gil, GilState]], now: float) -> None:
        passed, self._looked_at = now - self._looked_at, now
        self.looked_s += passed
        by_address = {gil.address: (gil, state) for gil, state in states}
        left = {gil.address: state.waiters for gil, state in states}
        slept: set[int] = set()
        awake: dict[int, list[int]] = {gil.address: [] for gil, _ in states}
        for address, known in self.lookout.known.items():
            if known.task is None or known.gil not in by_address:
                continue
            gil, state = by_address[known.gil]
            if state.waiters == 0 or state.holder == address:
                continue
            sleeps = self._sleeps_for(known.task, gil)
            if sleeps:
                slept.add(known.task)
                count = left[gil.address]
                left[gil.address] = None if count is None else count - 1
            elif sleeps is None:
                awake[gil.address].append(known.task)
        for task in slept:
            self.waiting[task] += passed
        for address, running in awake.items():
            self._share_out(running, left[address] or 0, passed)
        self._slept = slept

    def _share_out(self, running: list[int], left: int, passed: float) -> None:
        """Who was woken and did not run yet is still in the condition variable's count: those that
        waited before come first, and all others are as likely.
        """
        before = [task for task in running if task in self._slept][: max(left, 0)]
        others = [task for task in running if task not in self._slept]
        rest = min(max(left - len(before), 0), len(others))
        for task in before:
            self.waiting[task] += passed
        for task in others if rest else ():
            self.waiting[task] += passed * rest / len(others)

    def _sleeps_for(self, task: int, gil: Gil) -> bool | None:
        """Whether it sleeps on a word of that GIL; None: it runs, or is gone."""
        words = self._call(task).split()
        if len(words) != 9:
            return None
        if int(words[0]) != tasks.FUTEX:
            return False
        if gil.references is None:  # gilscope's own queue: threads sleep elsewhere
            call = tasks.call(self.lookout.pid, task)
            return threads.waits_for(self.lookout.memory, gil, call)[0]
        return gil.owns(int(words[1], 0))

    def _call(self, task: int) -> bytes:
        try:
            if task not in self._files:
                path = f"/proc/{self.lookout.pid}/task/{task}/syscall"
                self._files[task] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            return os.pread(self._files[task], 256, 0)
        except OSError:
            with contextlib.suppress(KeyError, OSError):
                os.close(self._files.pop(task))
            return b""

    # ---- a window -------------------------------------------------------------------------

    def picture(self, now: float) -> ProcessPicture:
        """Of the window, which begins anew."""
        window_s = max(now - self.began_at, 1e-6)
        known = self.lookout.known
        total = sum(self.culprits.values())
        result = ProcessPicture(
            pid=self.lookout.pid,
            command=self.command,
            gils=tuple(self._gil(gil, known, window_s) for gil in self.gils.values() if gil.held),
            threads=tuple(
                self._thread(address, its, window_s)
                for address, its in known.items()
                if its.task is not None or self.held[address]
            ),
            lines=tuple((line, n / total) for line, n in self.culprits.most_common(_MOST_LINES)),
        )
        for task in set(self._files) - {its.task for its in known.values()}:
            os.close(self._files.pop(task))
        for address in set(self.lines) - set(known):
            del self.lines[address]
        self.new_window(now)
        return result

    def _gil(self, gil: _Gil, known: dict[int, Known], window_s: float) -> GilPicture:
        waiters = [n for n in gil.waiters if n is not None]
        last = gil.last
        assert last
        holder = known.get(last.holder) if last.holder else None
        return GilPicture(
            held=sum(gil.held) / len(gil.held),
            contended=sum(gil.contended) / len(gil.contended),
            waiters=sum(waiters) / len(waiters) if len(waiters) == len(gil.waiters) else None,
            switches_per_s=(last.switches - (gil.first_switches or 0)) / window_s,
            holder=holder.name if holder else None,
        )

    def _thread(self, address: int, its: Known, window_s: float) -> ThreadPicture:
        waiting: float | None = None
        if its.task is not None and self.looked_s:
            waiting = min(self.waiting[its.task] / self.looked_s, 1.0)
        holds = any(gil.last and gil.last.holder == address for gil in self.gils.values())
        thread = ThreadPicture(
            tid=its.tid,
            name=its.name,
            held=self.held[address] / self.samples if self.samples else 0.0,
            waiting=waiting,
            line=self.lines.get(address),
            now="holds" if holds else "waits" if its.task in self._slept else "",
        )
        return self.waited.add(address, thread, window_s)

    def error(self, now: float) -> float | None:
        """Half the widest interval of a GIL's shares in this window; None: not known."""
        switches = sum(
            gil.last.switches - (gil.first_switches or 0) for gil in self.gils.values() if gil.last
        )
        if switches * _TO_LOOK_S > (now - self.began_at) / 2:
            return None
        series = [bits for gil in self.gils.values() for bits in (gil.held, gil.contended) if bits]
        return max((half_interval(bits) for bits in series), default=1.0)


def half_interval(bits: list[bool]) -> float:
    """Of the share of a series of samples, half its interval of 95 %.

    Samples one after another may be alike, as one hold can be longer than their distance: then they
    count for fewer. How alike they are is itself an estimate, so it is taken one deviation higher,
    and as 0.3 where all samples are equal. What stays for longer than a window no window can tell.
    Agresti and Coull's two more samples of each kind keep it from 0.
    """
    n = len(bits)
    mean = sum(bits) / n
    alike = 0.3
    if n > 2 and 0 < mean < 1:
        products = sum((a - mean) * (b - mean) for a, b in pairwise(bits))
        alike = max(products / (n * mean * (1 - mean)), 0.0)
        if alike > 1.5 / n**0.5:
            alike = min(alike + (1 + 4 * alike) / n + ((1 - alike**2) / n) ** 0.5, 0.98)
    independent = max(n * (1 - alike) / (1 + alike), 1.0)
    share = (mean * independent + 2) / (independent + 4)
    half = _Z * float((share * (1 - share) / (independent + 4)) ** 0.5)
    return min(1.0, half + abs(share - mean))


class SampledSource:
    """A process and the Python processes below it, sampled in a thread. Any thread asks."""

    def __init__(self, pid: int, hz: float = HZ) -> None:
        """Raises NotAttachable where that process cannot be read."""
        self._pid, self._hz = pid, hz
        self._targets = {pid: _Target(pid)}
        self._refused: set[tuple[int, float]] = set()
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._failure: NotAttachable | None = None
        self._late_s = 0.0
        self._samples = 0
        self._window_at = time.monotonic()
        self._tree_at = float("-inf")
        self._thread = threading.Thread(target=self._run, name="gilscope-sampler", daemon=True)
        self._thread.start()

    def picture(self) -> Picture:
        """Of what was since the last one. Raises ProcessGone when the process has ended."""
        with self._lock:
            if self._failure:
                raise self._failure
            now = time.monotonic()
            errors = [target.error(now) for target in self._targets.values()]
            known = [error for error in errors if error is not None]
            late_s = self._late_s / self._samples if self._samples else 0.0
            picture = Picture(
                source="sampled",
                window_s=now - self._window_at,
                processes=tuple(target.picture(now) for target in self._targets.values()),
                error=max(known) if self._samples and len(known) == len(errors) else None,
                lateness_s=late_s,
            )
            self._late_s, self._samples, self._window_at = 0.0, 0, now
            return picture

    def close(self) -> None:
        """Let everything go."""
        self._over.set()
        self._thread.join()
        for target in self._targets.values():
            target.close()

    # ---- the thread -----------------------------------------------------------------------

    def _run(self) -> None:
        _be_punctual()
        due = time.monotonic()
        while not self._over.is_set():
            due = max(due + random.uniform(0.5, 1.5) / self._hz, time.monotonic())
            time.sleep(max(due - time.monotonic(), 0))
            now = time.monotonic()
            with self._lock:
                self._late_s += now - due
                self._samples += 1
                try:
                    self._sample(now)
                except NotAttachable as error:
                    self._failure = error
                    return

    def _sample(self, now: float) -> None:
        if now - self._tree_at > _TREE_S:
            self._tree_at = now
            self._look_for_children()
        for pid, target in list(self._targets.items()):
            try:
                target.sample(now)
            except NotAttachable:
                if pid == self._pid:
                    raise
                self._targets.pop(pid).close()

    def _look_for_children(self) -> None:
        try:
            children = psutil.Process(self._pid).children(recursive=True)
        except psutil.Error:
            return
        for child in children:
            name = (child.pid, child.create_time())
            if child.pid in self._targets or name in self._refused:
                continue
            try:
                self._targets[child.pid] = _Target(child.pid)
            except NotAttachable:  # no Python, or not yet
                if time.time() - name[1] > 2 * _TREE_S:
                    self._refused.add(name)


def _be_punctual() -> None:
    """As far as this user may: before others, and without the kernel's slack for timers."""
    with contextlib.suppress(OSError, AttributeError):
        set_slack: Callable[..., int] = ctypes.CDLL(None, use_errno=True).prctl
        set_slack(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))

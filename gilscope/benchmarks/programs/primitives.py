"""The measured program of `gilscope bench condition`: one primitive of one make, in one use.

A *kit* makes Conditions, Events, Queues, Barriers and Semaphores: `stock` as threading has them in
Python; `native` the same classes on the native Condition; `atomic` those of gilscope.locks. The
first argument is the folder that has gilscope, for interpreters in which it is not installed.

A use without waiting is timed by the thread's processor time, in blocks. Those and crowds go from
one make to the next and back again in one window, so that all have the same of what else happens
on the machine. Pairs have a window each, like programs/threads.py.
"""

from __future__ import annotations

import ctypes
import json
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import count, repeat
from typing import Any

sys.path.append(sys.argv[1])

from gilscope.benchmarks.programs.threads import Window

WAITERS = 100
_BLOCK = 200  # turns between two looks at the clock
_FLOORS = ("futex", "sem_t", "mutex + cond")


class Kit:
    """Makes primitives whose waiting rests on one kind of Condition."""

    def __init__(self, condition: Callable[..., Any], lock: Callable[[], Any]) -> None:
        self.condition = condition
        self._lock = lock

    def event(self) -> Any:
        """threading.Event."""
        return self._rested(threading.Event())

    def barrier(self, parties: int) -> Any:
        """threading.Barrier."""
        return self._rested(threading.Barrier(parties))

    def semaphore(self, value: int) -> Any:
        """threading.Semaphore."""
        return self._rested(threading.Semaphore(value))

    def queue(self) -> Any:
        """queue.Queue."""
        made: Any = queue.Queue()
        made.mutex = self._lock()
        for name in ("not_empty", "not_full", "all_tasks_done"):
            setattr(made, name, self.condition(made.mutex))
        return made

    def _rested(self, made: Any) -> Any:
        made._cond = self.condition(self._lock())
        return made


class AtomicKit(Kit):
    """All of gilscope.locks' own."""

    def __init__(self) -> None:
        from gilscope import locks  # noqa: PLC0415 - raises where there is no atomic

        super().__init__(locks.Condition, locks.Lock)
        self.event = locks.Event  # type: ignore[method-assign]
        self.barrier = locks.Barrier  # type: ignore[method-assign]
        self.semaphore = locks.Semaphore  # type: ignore[method-assign]


def is_native(condition: Any) -> bool:
    """Whether the class is written in C."""
    return not hasattr(condition.notify, "__code__")


def kits() -> dict[str, Kit]:
    """Those that can be had here."""
    from gilscope.errors import GilscopeError  # noqa: PLC0415
    from gilscope.sync import Condition  # noqa: PLC0415 - stable ABI

    found = {"native": Kit(Condition, threading.Lock)}
    if is_native(threading.Condition):  # Python Plus, which keeps the one in Python beside it
        found = {"native": Kit(threading.Condition, threading.Lock)}
        found["stock"] = Kit(threading._PyCondition, threading.Lock)  # type: ignore[attr-defined]
    else:
        found["stock"] = Kit(threading.Condition, threading.Lock)
    try:
        found["atomic"] = AtomicKit()
        found["atomic"].event().set()
    except GilscopeError:
        found.pop("atomic", None)
    return found


# ---- without waiting --------------------------------------------------------------


def uncontended(kit: Kit | None, what: str) -> Callable[[], None]:
    """A block of turns of one use that never waits; without a kit the empty class's."""
    if what == "section":
        from gilscope.sync import atomic  # noqa: PLC0415

        return _sections(_empty() if kit is None else atomic)
    if kit is None:
        return _BLOCKS[what](_empty())
    make: dict[str, Callable[[], Any]] = {
        "notify": kit.condition,
        "wait(0)": kit.condition,
        "event": kit.event,
        "queue": kit.queue,
        "barrier": lambda: kit.barrier(1),
        "semaphore": lambda: kit.semaphore(1),
    }
    return _BLOCKS[what](make[what]())


def _empty() -> Any:
    from gilscope._sync import Empty  # noqa: PLC0415

    return Empty()


def _sections(target: Any) -> Callable[[], None]:
    def block() -> None:
        for _ in repeat(None, _BLOCK):
            with target:
                pass

    return block


def _notify(target: Any) -> Callable[[], None]:
    def block() -> None:
        for _ in repeat(None, _BLOCK):
            with target:
                target.notify()

    return block


def _wait_0(target: Any) -> Callable[[], None]:
    def block() -> None:
        for _ in repeat(None, _BLOCK):
            with target:
                target.wait(0)

    return block


def _event(target: Any) -> Callable[[], None]:
    def block() -> None:
        for _ in repeat(None, _BLOCK):
            target.set()
            target.wait()
            target.clear()

    return block


def _queue(target: Any) -> Callable[[], None]:
    def block() -> None:
        for _ in repeat(None, _BLOCK):
            target.put(None)
            target.get()

    return block


def _barrier(target: Any) -> Callable[[], None]:
    def block() -> None:
        for _ in repeat(None, _BLOCK):
            target.wait()

    return block


def _semaphore(target: Any) -> Callable[[], None]:
    def block() -> None:
        for _ in repeat(None, _BLOCK):
            target.acquire()
            target.release()

    return block


_BLOCKS = {
    "notify": _notify,
    "wait(0)": _wait_0,
    "event": _event,
    "queue": _queue,
    "barrier": _barrier,
    "semaphore": _semaphore,
}


def time_blocks(window: Window, blocks: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Nanoseconds of processor time a turn, each of its least disturbed tenth of blocks.

    By turns until the window's end, and once at least. Not of the very best: where a hypervisor
    takes the processor away, a block may be given less time than it had.
    """
    taken: dict[str, list[int]] = {name: [] for name in blocks}
    while True:
        for name, block in blocks.items():
            start = time.thread_time_ns()
            block()
            taken[name].append(time.thread_time_ns() - start)
        if time.monotonic_ns() >= window.end:
            break
    return {name: sorted(some)[len(some) // 10] / _BLOCK for name, some in taken.items()}


# ---- two threads ------------------------------------------------------------------


def pair(kit: Kit, what: str, window: Window) -> list[threading.Thread]:
    """A thread that hands over and waits, and one that hands back."""
    hand_over, hand_back = _PAIRS[what](kit)
    last = -1

    def lead() -> None:
        nonlocal last
        last = window.measure(hand_over) + 1
        hand_over()

    def follow() -> None:
        turn = 0
        while turn != last:
            hand_back()
            turn += 1

    return [threading.Thread(target=lead), threading.Thread(target=follow)]


Hands = tuple[Callable[[], object], Callable[[], object]]


def _pair_condition(kit: Kit) -> Hands:
    condition = kit.condition()
    whose = 0

    def hand_over() -> None:
        nonlocal whose
        with condition:
            whose = 1
            condition.notify()
            while whose:
                condition.wait()

    def hand_back() -> None:
        nonlocal whose
        with condition:
            while not whose:
                condition.wait()
            whose = 0
            condition.notify()

    return hand_over, hand_back


def _pair_event(kit: Kit) -> Hands:
    there, back = kit.event(), kit.event()

    def hand_over() -> None:
        there.set()
        back.wait()
        back.clear()

    def hand_back() -> None:
        there.wait()
        there.clear()
        back.set()

    return hand_over, hand_back


def _pair_queue(kit: Kit) -> Hands:
    there, back = kit.queue(), kit.queue()

    def hand_over() -> None:
        there.put(None)
        back.get()

    def hand_back() -> None:
        there.get()
        back.put(None)

    return hand_over, hand_back


def _pair_barrier(kit: Kit) -> Hands:
    barrier = kit.barrier(2)
    return barrier.wait, barrier.wait


def _pair_semaphore(kit: Kit) -> Hands:
    there, back = kit.semaphore(0), kit.semaphore(0)

    def hand_over() -> None:
        there.release()
        back.acquire()

    def hand_back() -> None:
        there.acquire()
        back.release()

    return hand_over, hand_back


_PAIRS = {
    "condition": _pair_condition,
    "event": _pair_event,
    "queue": _pair_queue,
    "barrier": _pair_barrier,
    "semaphore": _pair_semaphore,
}


# ---- many waiters -----------------------------------------------------------------


class Chain:
    """Each thread is woken by the one before, by a plain lock: a Condition cannot do less."""

    def __init__(self) -> None:
        self._asleep: deque[threading.Lock] = deque()

    def wait(self, turn: int, arrive: Callable[[], None]) -> None:
        """Sleep, and wake the next."""
        lock = threading.Lock()
        lock.acquire()
        self._asleep.append(lock)
        arrive()
        lock.acquire()
        self.wake(turn)

    def wake(self, turn: int) -> None:
        """The first."""
        if self._asleep:
            self._asleep.popleft().release()


Crowd = tuple[list[threading.Thread], dict[str, list[int]]]


def crowd(kits: dict[str, Kit | None], what: str, window: Window) -> Crowd:
    """`WAITERS` threads that wait, and one that wakes them all; how long until the last has run?

    A round of each make in turn; without a kit it is a `Chain`. Plain locks tell when all have come
    and when all have gone, and let each thread come once a round, else the first that is awake
    would take what was meant for the others. Returns the threads, and where they leave what the
    rounds of each make took.
    """
    make, wait, wake_all = _CROWDS[what]
    taken_ns: dict[str, list[int]] = {name: [] for name in kits}
    targets = [
        (Chain(), Chain.wait, Chain.wake) if kit is None else (make(kit), wait, wake_all)
        for kit in kits.values()
    ]
    come, gone = count(1), count(1)
    all_come, all_gone = threading.Lock(), threading.Lock()
    gates = [threading.Lock() for _ in range(WAITERS)]
    for lock in (all_come, all_gone, *gates):
        lock.acquire()
    stop = 0
    ended = False

    def arrive() -> None:
        if next(come) % WAITERS == 0:
            all_come.release()

    def attend(gate: threading.Lock) -> None:
        nonlocal stop
        for turn in count():
            for target, wait, _ in targets:
                gate.acquire()
                if ended:
                    return
                wait(target, turn, arrive)
                if next(gone) % WAITERS == 0:
                    stop = time.monotonic_ns()
                    all_gone.release()

    def open_gates() -> None:
        for gate in gates:
            gate.release()

    def lead() -> None:
        nonlocal ended
        window.enter()
        for turn in count():
            for (target, _, wake_all), taken in zip(targets, taken_ns.values(), strict=True):
                open_gates()
                all_come.acquire()
                start = time.monotonic_ns()
                wake_all(target, turn)
                all_gone.acquire()
                if window.begin <= stop:
                    taken.append(stop - start)
            if stop >= window.end and all(taken_ns.values()):
                break
        ended = True
        open_gates()

    attendants = [threading.Thread(target=attend, args=(gate,)) for gate in gates]
    return [threading.Thread(target=lead), *attendants], taken_ns


def _wait_condition(target: Any, turn: int, arrive: Callable[[], None]) -> None:
    with target:
        arrive()
        target.wait()


def _wake_condition(target: Any, turn: int) -> None:
    with target:
        target.notify_all()


def _wait_event(target: Any, turn: int, arrive: Callable[[], None]) -> None:
    arrive()
    target[turn % 2].wait()


def _wake_event(target: Any, turn: int) -> None:
    target[1 - turn % 2].clear()
    target[turn % 2].set()


def _wait_queue(target: Any, turn: int, arrive: Callable[[], None]) -> None:
    arrive()
    target.get()


def _wake_queue(target: Any, turn: int) -> None:
    for _ in range(WAITERS):
        target.put(None)


def _wait_barrier(target: Any, turn: int, arrive: Callable[[], None]) -> None:
    arrive()
    target.wait()


def _wake_barrier(target: Any, turn: int) -> None:
    target.wait()


def _wait_semaphore(target: Any, turn: int, arrive: Callable[[], None]) -> None:
    arrive()
    target.acquire()


def _wake_semaphore(target: Any, turn: int) -> None:
    target.release(WAITERS)


_CROWDS: dict[str, tuple[Callable[[Kit], Any], Callable[..., None], Callable[..., None]]] = {
    "condition": (lambda kit: kit.condition(), _wait_condition, _wake_condition),
    "event": (lambda kit: (kit.event(), kit.event()), _wait_event, _wake_event),
    "queue": (lambda kit: kit.queue(), _wait_queue, _wake_queue),
    "barrier": (lambda kit: kit.barrier(WAITERS + 1), _wait_barrier, _wake_barrier),
    "semaphore": (lambda kit: kit.semaphore(0), _wait_semaphore, _wake_semaphore),
}


# ---- floors, and the program ------------------------------------------------------


def floor(kind: str, window: Window) -> threading.Thread:
    """Two C threads, in place of a pair."""
    engine = ctypes.CDLL(f"{sys.argv[1]}/gilscope/_engine.so")
    trips = engine.gs_floor_round_trips
    trips.argtypes = [ctypes.c_uint32, ctypes.c_int64, ctypes.c_int64]
    trips.restype = ctypes.c_int64

    def lead() -> None:
        window.enter()
        window.done = trips(_FLOORS.index(kind), window.begin, window.end)

    return threading.Thread(target=lead)


def run(order: dict[str, Any], found: dict[str, Kit]) -> dict[str, object]:
    """Play one window. `order` has use, what, kits, cpu, begin and end.

    Returns nanoseconds by kit, or what a pair did.
    """
    window = Window(order["begin"], order["end"], order.get("computing_on"))
    use, what, kits = order["use"], order["what"], {name: found.get(name) for name in order["kits"]}
    if use == "uncontended":
        blocks = {name: uncontended(kit, what) for name, kit in kits.items()}
        return {**time_blocks(window, blocks), "late": False}
    threads = [threading.Thread(target=window.compute) for _ in range(order["cpu"])]
    taken_ns: dict[str, list[int]] = {}
    if use == "floor":
        threads.append(floor(what, window))
    elif use == "pair":
        threads += pair(found[order["kits"][0]], what, window)
    else:
        members, taken_ns = crowd(kits, what, window)
        threads += members
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    medians = {name: sorted(taken)[len(taken) // 2] for name, taken in taken_ns.items()}
    return {**window.answer(), **medians}


def main() -> None:
    """Greet with the kits that can be had here, then play one window a line."""
    found = kits()
    print(json.dumps({"kits": list(found)}), flush=True)
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line), found)), flush=True)


if __name__ == "__main__":
    main()

"""The measured program: threads that serve IO, hand something over, or compute.

A window is a span of CLOCK_MONOTONIC that the bench fixes before. All threads run before it begins
(their warm-up), and count by themselves what they finished inside it. The main thread sleeps.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from array import array
from collections.abc import Callable
from typing import Any

MESSAGE = 16  # bytes of a request and of its reply
SWITCH_INTERVAL_S = 0.005  # CPython's own

now = time.monotonic_ns


class Window:
    """When it begins and ends (ns), and what the threads counted in it.

    `computing_on` is the processor of the threads that compute, where it is not everybody's.
    """

    def __init__(self, begin: int, end: int, computing_on: int | None = None) -> None:
        self.begin = begin
        self.end = end
        self._computing_on = computing_on
        self.computed: list[int] = []  # by each thread that computes, in turns of its loop
        self.done = 0  # transactions of all others
        self.latency_ns = array("Q")
        self.late = False  # some thread began after the window did

    def enter(self) -> None:
        """Each thread calls it first."""
        if now() > self.begin:
            self.late = True

    def compute(self) -> None:
        """Spin in Python; a turn takes some ten microseconds."""
        if self._computing_on is not None:
            os.sched_setaffinity(0, {self._computing_on})
        self.enter()
        begin, end = self.begin, self.end
        number = turns = 0
        while (time_ns := now()) < end:
            for _ in range(200):
                number = (number * 31 + 7) % 65537
            if time_ns >= begin:
                turns += 1
        self.computed.append(turns)

    def measure(self, transaction: Callable[[], object]) -> int:
        """Repeat it until the end; count what ended inside, time what ended since the beginning.

        Returns how often it was done, the warm-up included.
        """
        self.enter()
        begin, end = self.begin, self.end
        before = 0
        taken = array("Q")
        start = stop = now()
        while start < end:
            transaction()
            stop = now()
            if stop < begin:
                before += 1
            else:
                taken.append(stop - start)
            start = stop
        self.done += len(taken) - bool(taken and stop > end)
        self.latency_ns.extend(taken)
        return before + len(taken)

    def answer(self) -> dict[str, object]:
        """What the bench is told."""
        ordered = sorted(self.latency_ns)
        return {
            "computed": sum(self.computed),
            "done": self.done,
            "p50_ns": ordered[len(ordered) // 2] if ordered else None,
            "p99_ns": ordered[len(ordered) * 99 // 100] if ordered else None,
            "late": self.late,
        }


def echo(window: Window, connection: socket.socket) -> None:
    """Answer until the client hangs up."""
    window.enter()
    with connection:
        while request := connection.recv(MESSAGE):
            connection.sendall(request)


def lock_pair(window: Window) -> list[threading.Thread]:
    """A producer and a consumer that hand over by two Locks."""
    full, empty = threading.Lock(), threading.Lock()
    full.acquire()
    empty.acquire()
    ended = False

    def hand_over() -> None:
        full.release()
        empty.acquire()

    def produce() -> None:
        nonlocal ended
        window.measure(hand_over)
        ended = True
        full.release()

    def consume() -> None:
        while full.acquire() and not ended:
            empty.release()

    return [threading.Thread(target=produce), threading.Thread(target=consume)]


def condition_pair(window: Window) -> list[threading.Thread]:
    """A producer and a consumer that hand over by one Condition."""
    condition = threading.Condition()
    filled = ended = False

    def hand_over() -> None:
        nonlocal filled
        with condition:
            filled = True
            condition.notify()
            while filled:
                condition.wait()

    def produce() -> None:
        nonlocal ended
        window.measure(hand_over)
        with condition:
            ended = True
            condition.notify()

    def consume() -> None:
        nonlocal filled
        with condition:
            while not ended:
                while not filled and not ended:
                    condition.wait()
                filled = False
                condition.notify()

    return [threading.Thread(target=produce), threading.Thread(target=consume)]


def io_thread(window: Window) -> threading.Thread:
    """One that gives the GIL up for IO that ends at once, over and over."""

    def run() -> None:
        left, right = socket.socketpair()

        def turn() -> None:
            left.sendall(b"x" * MESSAGE)
            right.recv(MESSAGE)

        with left, right:
            window.measure(turn)

    return threading.Thread(target=run)


class Process:
    """A fork that computes: beside threads with which it shares processors and no GIL."""

    def __init__(self, window: Window) -> None:
        told, tells = os.pipe()
        self.process = os.fork()
        if not self.process:
            window.compute()
            os.write(tells, json.dumps([window.computed, window.late]).encode())
            os._exit(0)
        os.close(tells)
        self._told = told

    def join(self, window: Window) -> None:
        """Add what it did to the window."""
        with os.fdopen(self._told, encoding="utf-8") as told:
            computed, late = json.load(told)
        os.waitpid(self.process, 0)
        window.computed += computed
        window.late |= late


def run(order: dict[str, Any], listener: socket.socket) -> dict[str, object]:
    """Play one window. `order` has begin, end, and how many threads of which kind."""
    sys.setswitchinterval(order.get("switch_interval_s", SWITCH_INTERVAL_S))
    window = Window(order["begin"], order["end"], order.get("computing_on"))
    processes = [Process(window) for _ in range(order.get("processes", 0))]
    threads = []
    for _ in range(order.get("connections", 0)):
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threads.append(threading.Thread(target=echo, args=(window, connection)))
    for _ in range(order.get("lock_pairs", 0)):
        threads += lock_pair(window)
    for _ in range(order.get("condition_pairs", 0)):
        threads += condition_pair(window)
    threads += [io_thread(window) for _ in range(order.get("io", 0))]
    threads += [threading.Thread(target=window.compute) for _ in range(order.get("cpu", 0))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for process in processes:
        process.join(window)
    return window.answer()


def main() -> None:
    """Greet with the port, then play one window a line."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        listener.settimeout(30)
        print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
        for line in sys.stdin:
            print(json.dumps(run(json.loads(line), listener)), flush=True)


if __name__ == "__main__":
    main()

"""Programs whose work is fixed, run under other tools: `mixes.py NAME AMOUNT`.

The last line that it prints is JSON: how long the work took, and how often one thread handed the
GIL to another in it, where that follows from the program.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time


def ping_pong(amount: int) -> tuple[float, int | None]:
    """Two threads that take turns by two locks."""
    there, back = threading.Lock(), threading.Lock()
    there.acquire()
    back.acquire()

    def answer() -> None:
        for _ in range(amount):
            there.acquire()
            back.release()

    thread = threading.Thread(target=answer, name="answer")
    thread.start()
    start = time.perf_counter()
    for _ in range(amount):
        there.release()
        back.acquire()
    seconds = time.perf_counter() - start
    thread.join()
    return seconds, 2 * amount


def echo(amount: int) -> tuple[float, int | None]:
    """Requests to an echo thread, beside a thread that computes. A pause stands before each, as
    clients make it: without one the convoy comes and goes by chance."""
    ours, theirs = socket.socketpair()
    stop = threading.Event()

    def serve() -> None:
        while request := theirs.recv(64):
            theirs.sendall(request)

    def spin() -> None:
        number = 0
        while not stop.is_set():
            for _ in range(1000):
                number = (number * 31 + 7) % 65537

    threads = [threading.Thread(target=target, name=target.__name__) for target in (serve, spin)]
    for thread in threads:
        thread.start()
    seconds = 0.0
    for _ in range(amount):
        time.sleep(0.001)
        start = time.perf_counter()
        ours.sendall(b"hello")
        ours.recv(64)
        seconds += time.perf_counter() - start
    stop.set()
    ours.close()
    for thread in threads:
        thread.join()
    theirs.close()
    return seconds, None


def numpy_mix(amount: int) -> tuple[float, int | None]:
    """Threads that multiply matrices, and compute in Python between."""
    import numpy as np  # noqa: PLC0415 - of this program alone

    def work() -> None:
        matrix = np.ones((96, 96))
        for _ in range(amount):
            matrix = matrix @ matrix / 96
            sum(range(2000))

    threads = [threading.Thread(target=work, name=f"mix-{n}") for n in range(3)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - start, None


PROGRAMS = {"ping-pong": ping_pong, "echo + 1 CPU": echo, "numpy mix": numpy_mix}

if __name__ == "__main__":
    took, handed = PROGRAMS[sys.argv[1]](int(sys.argv[2]))
    print(json.dumps({"seconds": took, "handed": handed}), flush=True)

"""The measured program: `scale.py threads|processes|events N`.

All N threads, or processes, are alive before the first of them begins to work. It prints how much
processor time the work took, and when it ended (CLOCK_MONOTONIC), in seconds.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time

TURNS = 25  # of each thread and process: the GIL let go and taken again
_STACK = 256 << 10  # bytes of a thread


def turn_over(turns: int, sink: int) -> None:
    """Let the GIL go and take it again, so many times."""
    for _ in range(turns):
        os.write(sink, b"")


def threads(count: int, sink: int) -> None:
    """Threads that are all there, then work, then end."""
    threading.stack_size(_STACK)
    go = threading.Barrier(count + 1)

    def work() -> None:
        go.wait()
        turn_over(TURNS, sink)

    there = [threading.Thread(target=work) for _ in range(count)]
    for thread in there:
        thread.start()
    go.wait()
    for thread in there:
        thread.join()


def processes(count: int, sink: int) -> None:
    """Forks that are all there, then work, then end."""
    waits, go = os.pipe()
    for _ in range(count):
        if not os.fork():
            os.close(go)
            os.read(waits, 1)  # it ends when the parent lets go
            turn_over(TURNS, sink)
            os._exit(0)
    os.close(go)
    for _ in range(count):
        os.wait()


def events(count: int, sink: int) -> None:
    """One thread that makes so many events, two a turn."""
    turn_over(count // 2, sink)


def main() -> None:
    """Do it, and tell."""
    work = {"threads": threads, "processes": processes, "events": events}[sys.argv[1]]
    before = os.times()
    work(int(sys.argv[2]), os.open(os.devnull, os.O_WRONLY))
    taken = sum(os.times()[:4]) - sum(before[:4])  # in user's and system's code, children's too
    print(json.dumps({"processor": taken, "end": time.monotonic()}), flush=True)


if __name__ == "__main__":
    main()

"""The measured program of `gilscope bench starvation`: a thread takes a Condition again and again,
another wants it now and then, and some may compute beside them.

The kits and the first argument are those of primitives.py.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

sys.path.append(sys.argv[1])

from gilscope.benchmarks.programs.primitives import kits
from gilscope.benchmarks.programs.threads import Window, now

_PAUSE_S = 0.0002  # between two turns of who wants it now and then
_WORK = range(300)  # some microseconds, summed inside


def play(lock: Any, window: Window, cpu: int) -> dict[str, object]:
    """Play one window. Returns the turns of who wants it now and then, and how long it waited."""
    sections = 0

    def hog() -> None:
        nonlocal sections
        window.enter()
        while now() < window.end:
            with lock:
                sum(_WORK)
            sections += now() >= window.begin

    def want() -> None:
        window.enter()
        while now() < window.end:
            start = now()
            with lock:
                stop = now()
            if start >= window.begin:
                window.latency_ns.append(stop - start)
                window.done += stop < window.end
            time.sleep(_PAUSE_S)

    threads = [threading.Thread(target=target) for target in (hog, want)]
    threads += [threading.Thread(target=window.compute) for _ in range(cpu)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {**window.answer(), "sections": sections}


def main() -> None:
    """Greet with the kits that can be had here, then play one window a line."""
    found = kits()
    print(json.dumps({"kits": list(found)}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        window = Window(order["begin"], order["end"], order.get("computing_on"))
        print(json.dumps(play(found[order["kit"]].condition(), window, order["cpu"])), flush=True)


if __name__ == "__main__":
    main()

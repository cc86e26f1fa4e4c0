"""Eight workers of a thread pool that all scale pictures in pure Python.

The pool was meant to use eight processors. One works at a time; each worker waits seven eighths
of the time.
"""

# /// verdict
# kind = "crowd"
# thread = "thumb_*"
# value_ms = [500, 2500]
# ///

import concurrent.futures
import threading
import time

WORKERS = 8


def thumbnail(all_here):
    all_here.wait()
    end = time.monotonic() + 1.2
    pixels = list(range(6_000))
    small = []
    while time.monotonic() < end:
        small = [(pixels[i] + pixels[i + 1]) // 2 for i in range(0, len(pixels), 2)]  # CULPRIT
    return len(small)


def main():
    all_here = threading.Barrier(WORKERS)
    with concurrent.futures.ThreadPoolExecutor(WORKERS, thread_name_prefix="thumb") as pool:
        list(pool.map(thumbnail, [all_here] * WORKERS))


if __name__ == "__main__":
    main()

"""Fetchers that call gc.collect() after each task, over a large heap.

Somebody once added it "to keep memory flat". Each call walks every object of the cache and keeps
the GIL for it; the three fetchers and the API thread wait for one another's collections.
"""

# /// verdict
# kind = "gc"
# thread = ["api", "fetch-*"]
# value_ms = [150, 4000]
# ///

import gc
import threading
import time


def release_memory():
    gc.collect()  # CULPRIT


def fetch(end):
    while time.monotonic() < end:
        time.sleep(0.03)
        release_memory()


def serve(end):
    while time.monotonic() < end:
        time.sleep(0.01)


def main():
    cache = [{"id": i, "parts": [i, [i]]} for i in range(90_000)]
    end = time.monotonic() + 1.2
    threads = [threading.Thread(target=fetch, args=(end,), name=f"fetch-{i}") for i in range(3)]
    threads.append(threading.Thread(target=serve, args=(end,), name="api"))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(cache)


if __name__ == "__main__":
    main()

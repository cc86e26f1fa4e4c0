"""A hundred equal threads that sleep a little and compute a little: too much for one GIL."""

# /// verdict
# kind = ["crowd", "io-waits"]
# thread = "worker-*"
# ///

import threading
import time


def worker(number):
    for _ in range(6):
        time.sleep(0.002 * (number % 7))  # CULPRIT
        sum(x * x for x in range(25_000))  # CULPRIT


threads = [threading.Thread(target=worker, args=(n,), name=f"worker-{n:03}") for n in range(100)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()

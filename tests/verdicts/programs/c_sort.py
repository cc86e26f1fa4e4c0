"""Sorting a long list is one call into C."""

# /// verdict
# kind = "c-call"
# thread = "heartbeat"
# value_ms = [300, 1400]
# ///

import random
import threading
import time

numbers = [random.random() for _ in range(150_000)]


def heartbeat(end):
    while time.monotonic() < end:
        time.sleep(0.001)


end = time.monotonic() + 1.3
beats = threading.Thread(target=heartbeat, args=(end,), name="heartbeat")
beats.start()
while time.monotonic() < end:
    sorted(numbers)  # CULPRIT
    time.sleep(0.005)
beats.join()

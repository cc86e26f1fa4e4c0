"""The main thread and its helper both compute."""

# /// verdict
# kind = "crowd"
# thread = ["MainThread", "helper"]
# value_ms = [150, 1000]
# ///

import threading
import time


def compute(end):
    while time.monotonic() < end:  # CULPRIT
        [n * n for n in range(500)]  # CULPRIT


end = time.monotonic() + 1.2
helper = threading.Thread(target=compute, args=(end,), name="helper")
helper.start()
compute(end)
helper.join()

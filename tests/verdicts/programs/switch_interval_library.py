"""A library sets the switch interval to 100 s; who computes then starves one that ticks."""

# /// verdict
# kind = "switch-interval"
# ci = true
# thread = "ticker"
# value_ms = [400, 1400]
# ///

import sys
import threading
import time


class Progress:
    def __init__(self):
        sys.setswitchinterval(100)


def compute(end):
    n = 0
    while time.monotonic() < end:
        for _ in range(20_000):
            n += 1


def ticker(stop):
    while not stop.is_set():
        time.sleep(0.005)


Progress()
stop = threading.Event()
compute_until = time.monotonic() + 1.1
threads = [
    threading.Thread(target=ticker, args=(stop,), name="ticker"),
    threading.Thread(target=compute, args=(compute_until,), name="compute"),
]
for thread in threads:
    thread.start()
time.sleep(1.0)
stop.set()
for thread in threads:
    thread.join()

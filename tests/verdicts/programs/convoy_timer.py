"""A timer that fires again and again is late, because a thread computes."""

# /// verdict
# kind = "convoy"
# thread = "ticker"
# value_ms = [300, 1300]
# ///

import threading
import time


def ticker(stop):
    while not stop.wait(0.002):
        pass


def compute(end):
    state = 1
    while time.monotonic() < end:  # CULPRIT
        state = (state * 1_103_515_245 + 12_345) % 2**31  # CULPRIT


stop = threading.Event()
threading.Thread(target=ticker, args=(stop,), name="ticker").start()
compute(time.monotonic() + 1.2)
stop.set()

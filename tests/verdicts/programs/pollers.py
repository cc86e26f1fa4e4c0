"""Two threads poll with tiny sleeps beside one that computes: they wait, and slow it down. A policy
helps neither.
"""

# /// verdict
# kind = "io-waits"
# thread = ["poll-*"]
# ///

import threading
import time


def poll(stop, box):
    while not stop.is_set():
        box[0] += 1
        time.sleep(0.00005)


def compute(end):
    n = 0
    while time.monotonic() < end:  # CULPRIT
        for _ in range(1_000):  # CULPRIT
            n += 1  # CULPRIT


stop = threading.Event()
for number in range(2):
    threading.Thread(target=poll, args=(stop, [0]), name=f"poll-{number}").start()
compute(time.monotonic() + 1.2)
stop.set()

"""A heartbeat beside two threads that compute: it waits for both by turns."""

# /// verdict
# kind = "convoy"
# thread = "heartbeat"
# value_ms = [300, 1400]
# ///

import threading
import time


def spin(end):
    while time.monotonic() < end:  # CULPRIT
        for i in range(1_000):  # CULPRIT
            i * i  # CULPRIT


def heartbeat(end):
    while time.monotonic() < end:
        time.sleep(0.001)


end = time.monotonic() + 1.4
for n in range(2):
    threading.Thread(target=spin, args=(end,), name=f"spin-{n}").start()
threading.Thread(target=heartbeat, args=(end,), name="heartbeat").start()

"""A heartbeat beside a thread that computes: each beat waits a switch interval."""

# /// verdict
# kind = "convoy"
# thread = "heartbeat"
# value_ms = [500, 1400]
# ci = true
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
for work in (spin, heartbeat):
    threading.Thread(target=work, args=(end,), name=work.__name__).start()

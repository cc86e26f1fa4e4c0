"""A lock is kept during a sleep; who else wants it waits for the lock, not for the GIL."""

# /// verdict
# kind = "lock"
# thread = "waiter"
# value_ms = [300, 1400]
# ci = true
# ///

import threading
import time

big = threading.Lock()


def holder():
    for _ in range(24):
        with big:  # CULPRIT
            time.sleep(0.05)  # CULPRIT


def waiter():
    for _ in range(10):
        with big:
            pass
        time.sleep(0.001)


for work in (holder, waiter):
    threading.Thread(target=work, name=work.__name__).start()

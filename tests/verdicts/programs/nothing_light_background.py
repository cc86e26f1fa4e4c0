"""A thread that works for a moment now and then, beside a main thread that computes."""

# /// verdict
# kind = "nothing"
# ///

import threading
import time


def housekeeping(stop):
    while not stop.wait(0.2):
        sum(range(100))


stop = threading.Event()
threading.Thread(target=housekeeping, args=(stop,), name="housekeeping").start()
end = time.monotonic() + 1.3
while time.monotonic() < end:
    sum(i * i for i in range(1_000))
stop.set()

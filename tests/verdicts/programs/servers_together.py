"""Twelve threads that need little each: together they have more than there is time for."""

# /// verdict
# kind = ["io-waits", "crowd"]
# thread = "serve-*"
# ///

import threading
import time


def serve(end):
    while time.monotonic() < end:
        time.sleep(0.001)  # CULPRIT
        for i in range(20_000):  # CULPRIT
            i * i  # CULPRIT


end = time.monotonic() + 1.2
for n in range(12):
    threading.Thread(target=serve, args=(end,), name=f"serve-{n}").start()

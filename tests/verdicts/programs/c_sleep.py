"""A call through ctypes.PyDLL sleeps and keeps the GIL."""

# /// verdict
# kind = "c-call"
# ci = true
# thread = "heartbeat"
# value_ms = [500, 1400]
# ///

import ctypes
import threading
import time

libc = ctypes.PyDLL(None)


def heartbeat(end):
    while time.monotonic() < end:
        time.sleep(0.001)


end = time.monotonic() + 1.3
beats = threading.Thread(target=heartbeat, args=(end,), name="heartbeat")
beats.start()
while time.monotonic() < end:
    libc.usleep(40_000)  # CULPRIT
    time.sleep(0.005)
beats.join()

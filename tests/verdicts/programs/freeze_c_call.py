"""A heartbeat for 1.4 s, and one single call into C that keeps the GIL for a third of a second."""

# /// verdict
# kind = "freeze"
# ci = true
# thread = "heartbeat"
# value_ms = [250, 500]
# ///

import ctypes
import threading
import time

libc = ctypes.PyDLL(None)


def solve_once():
    time.sleep(0.5)
    libc.usleep(350_000)  # CULPRIT


def heartbeat(end):
    while time.monotonic() < end:
        time.sleep(0.01)


threading.Thread(target=heartbeat, args=(time.monotonic() + 1.4,), name="heartbeat").start()
threading.Thread(target=solve_once, name="solver").start()

"""A window's loop draws 60 frames a second in the main thread; an export computes in another."""

# /// verdict
# kind = "convoy"
# thread = "MainThread"
# value_ms = [300, 1200]
# ///

import threading
import time


def export(end):
    rows = []
    while time.monotonic() < end:  # CULPRIT
        rows.append(",".join(str(n) for n in range(200)))  # CULPRIT
        del rows[:-10]  # CULPRIT


end = time.monotonic() + 1.4
threading.Thread(target=export, args=(end,), name="export").start()
while time.monotonic() < end:
    time.sleep(0.004)  # waits for the next frame
    sum(range(2_000))  # draws it

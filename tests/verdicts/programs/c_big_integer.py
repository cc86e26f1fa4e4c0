"""The product of two huge integers takes some 100 ms and keeps the GIL."""

# /// verdict
# kind = "c-call"
# thread = "heartbeat"
# value_ms = [400, 1400]
# ///

import threading
import time

huge = 3**300_000


def heartbeat(end):
    while time.monotonic() < end:
        time.sleep(0.001)


end = time.monotonic() + 1.3
beats = threading.Thread(target=heartbeat, args=(end,), name="heartbeat")
beats.start()
while time.monotonic() < end:
    product = huge * huge  # CULPRIT
    time.sleep(0.005)
beats.join()

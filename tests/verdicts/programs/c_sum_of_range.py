"""sum() over a long range looks harmless, and is one call into C."""

# /// verdict
# kind = "c-call"
# thread = "heartbeat"
# value_ms = [400, 1400]
# ///

import threading
import time


def heartbeat(end):
    while time.monotonic() < end:
        time.sleep(0.001)


end = time.monotonic() + 1.3
beats = threading.Thread(target=heartbeat, args=(end,), name="heartbeat")
beats.start()
while time.monotonic() < end:
    sum(range(3_000_000))  # CULPRIT
    time.sleep(0.005)
beats.join()

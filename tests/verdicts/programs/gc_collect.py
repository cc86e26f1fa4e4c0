"""A thread calls gc.collect() on a large heap; a heartbeat stands still."""

# /// verdict
# kind = ["gc", "c-call"]
# thread = "heartbeat"
# value_ms = [200, 3000]
# ///

import gc
import threading
import time

heap = [{"key": [i]} for i in range(400_000)]
gc.disable()


def heartbeat(end):
    while time.monotonic() < end:
        time.sleep(0.001)


end = time.monotonic() + 1.3
beats = threading.Thread(target=heartbeat, args=(end,), name="heartbeat")
beats.start()
while time.monotonic() < end:
    gc.collect()  # CULPRIT
    time.sleep(0.005)
beats.join()

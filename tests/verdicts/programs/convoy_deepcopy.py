"""copy.deepcopy of a large answer is Python code, and so can be made to let go."""

# /// verdict
# kind = "convoy"
# thread = "heartbeat"
# value_ms = [300, 1400]
# ///

import copy
import threading
import time

answer = [{"id": n, "tags": [n, n + 1]} for n in range(2_000)]


def heartbeat(end):
    while time.monotonic() < end:
        time.sleep(0.001)


end = time.monotonic() + 1.3
beats = threading.Thread(target=heartbeat, args=(end,), name="heartbeat")
beats.start()
while time.monotonic() < end:
    copy.deepcopy(answer)  # CULPRIT
beats.join()

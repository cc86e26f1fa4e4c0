"""json.dumps of a large answer is one call into C."""

# /// verdict
# kind = "c-call"
# thread = "heartbeat"
# value_ms = [300, 1400]
# ///

import json
import threading
import time

rows = [{"id": n, "name": str(n), "values": [n, n + 1, n + 2]} for n in range(30_000)]


def heartbeat(end):
    while time.monotonic() < end:
        time.sleep(0.001)


end = time.monotonic() + 1.3
beats = threading.Thread(target=heartbeat, args=(end,), name="heartbeat")
beats.start()
while time.monotonic() < end:
    json.dumps(rows)  # CULPRIT
    time.sleep(0.005)
beats.join()

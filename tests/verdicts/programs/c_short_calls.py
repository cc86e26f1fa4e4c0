"""Calls into C that take little more than a switch interval: each is asked to let go, and late."""

# /// verdict
# kind = "c-call"
# thread = "heartbeat"
# value_ms = [200, 1400]
# ///

import json
import threading
import time

ROWS = [{"id": n, "name": f"row {n}", "tags": ["a", "b"], "at": n / 3} for n in range(1_000)]


def heartbeat(end):
    while time.monotonic() < end:
        time.sleep(0.001)


def answer(rows, end):
    while time.monotonic() < end:
        json.dumps(rows)  # CULPRIT


def rows_for(seconds):
    """As many as take so long, on whatever machine."""
    began = time.thread_time()
    for _ in range(10):
        json.dumps(ROWS)
    return ROWS * max(int(seconds / (time.thread_time() - began) * 10), 1)


rows = rows_for(0.012)
end = time.monotonic() + 1.2
for work in ((heartbeat, end), (answer, rows, end)):
    threading.Thread(target=work[0], args=work[1:], name=work[0].__name__).start()

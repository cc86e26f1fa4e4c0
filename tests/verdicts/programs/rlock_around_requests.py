"""A session's RLock is kept during each request; five threads share the session."""

# /// verdict
# kind = "lock"
# thread = "worker-*"
# value_ms = [400, 1500]
# ///

import threading
import time

session = threading.RLock()


def request():
    with session:
        time.sleep(0.01)  # the answer comes


def worker(end):
    while time.monotonic() < end:
        request()
        sum(range(500))


end = time.monotonic() + 1.2
for n in range(5):
    threading.Thread(target=worker, args=(end,), name=f"worker-{n}").start()

"""Six workers share two connections by a semaphore."""

# /// verdict
# kind = "lock"
# thread = "worker-*"
# value_ms = [300, 1500]
# ///

import threading
import time

connections = threading.Semaphore(2)


def worker(end):
    while time.monotonic() < end:
        with connections:
            time.sleep(0.02)  # a query
        time.sleep(0.001)


end = time.monotonic() + 1.2
for n in range(6):
    threading.Thread(target=worker, args=(end,), name=f"worker-{n}").start()

"""Automatic collections of a large heap keep the GIL while the others have requests."""

# /// verdict
# kind = "gc"
# thread = "worker-*"
# value_ms = [100, 1500]
# ///

import threading
import time

cache = [{"row": [i, (i,)], "t": {}} for i in range(200_000)]


def worker(end):
    keep = []
    while time.monotonic() < end:
        for i in range(400):
            keep.append({"request": i, "headers": [str(i)]})
        if len(keep) > 60_000:
            del keep[:]
        time.sleep(0.002)


end = time.monotonic() + 1.5
for n in range(4):
    threading.Thread(target=worker, args=(end,), name=f"worker-{n}").start()

"""Four threads add to a counter under one lock, and sleep inside now and then."""

# /// verdict
# kind = "lock"
# thread = "adder-*"
# value_ms = [200, 1500]
# ///

import threading
import time

lock = threading.Lock()
total = 0


def add(end):
    global total  # noqa: PLW0603
    while time.monotonic() < end:
        with lock:
            total += 1
            time.sleep(0.001)  # writes it to a file


end = time.monotonic() + 1.2
for n in range(4):
    threading.Thread(target=add, args=(end,), name=f"adder-{n}").start()

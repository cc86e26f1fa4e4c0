"""Threads write to one slow pipe through one buffered file: its lock is what they wait for."""

# /// verdict
# kind = "lock"
# thread = "writer-*"
# value_ms = [200, 1800]
# ///

import os
import threading
import time

out, into = os.pipe()
pipe = os.fdopen(into, "wb", buffering=1 << 16)


def drain():
    while os.read(out, 16_384):
        time.sleep(0.01)


def write(end):
    while time.monotonic() < end:
        pipe.write(b"x" * 8_000)


end = time.monotonic() + 1.2
drainer = threading.Thread(target=drain, name="drainer")
drainer.start()
writers = [threading.Thread(target=write, args=(end,), name=f"writer-{n}") for n in range(3)]
for writer in writers:
    writer.start()
for writer in writers:
    writer.join()
pipe.close()
drainer.join()

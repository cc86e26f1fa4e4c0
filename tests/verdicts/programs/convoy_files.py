"""A thread reads a small file again and again; another computes."""

# /// verdict
# kind = ["convoy", "crowd"]  # what it reads is in memory: it hardly blocks
# thread = "reader"
# value_ms = [50, 1300]
# ///

import threading
import time

FILE = __file__  # which is gone when the main thread is at its end


def reader(end):
    while time.monotonic() < end:
        with open(FILE, "rb") as file:
            file.read()


def compute(end):
    while time.monotonic() < end:  # CULPRIT
        {n: n * n for n in range(300)}  # CULPRIT


end = time.monotonic() + 1.2
for work in (reader, compute):
    threading.Thread(target=work, args=(end,), name=work.__name__).start()

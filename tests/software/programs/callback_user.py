"""Lets threads of C++ count in Python."""

import os
import threading
import time
from collections import Counter

import callback

THREADS, TURNS = 4, 500
counted = Counter()
stamps = []


def count(thread, turn):
    counted[thread] += 1
    if turn % 50 == 0:
        stamps.append(f"stamp {os.getpid()} {threading.get_native_id()} {time.monotonic_ns()}")


callback.run(count, THREADS, TURNS)
print(sorted(counted.items()))
print("\n".join(stamps))

"""A pool that compresses (zlib) and multiplies (numpy): both give the GIL up in C."""

import os
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np


def compress(seed):
    data = np.random.default_rng(seed).integers(0, 16, 200_000, dtype=np.uint8).tobytes()
    return len(zlib.compress(data, 6)), stamp()


def multiply(seed):
    square = np.random.default_rng(seed).random((200, 200))
    return round(float((square @ square).trace()), 3), stamp()


def stamp():
    return f"stamp {os.getpid()} {threading.get_native_id()} {time.monotonic_ns()}"


with ThreadPoolExecutor(4, thread_name_prefix="cruncher") as executor:
    for job in (compress, multiply):
        for answer, when in executor.map(job, range(60)):
            print(answer, when)

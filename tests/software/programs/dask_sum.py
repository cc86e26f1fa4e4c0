"""Dask's threaded scheduler: a tree of numpy sums on four threads."""

import os
import threading
import time

import dask
import numpy as np

stamps = []


@dask.delayed
def block(seed):
    values = np.random.default_rng(seed).random(50_000)
    stamps.append(f"stamp {os.getpid()} {threading.get_native_id()} {time.monotonic_ns()}")
    return float(np.sort(values).sum()) + sum(range(1_000))


total = dask.delayed(sum)([block(seed) for seed in range(200)])
print(total.compute(scheduler="threads", num_workers=4))
print("\n".join(stamps))

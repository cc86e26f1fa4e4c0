"""Threads that do scale: hashing in a pool.

`hashlib` gives the GIL up while it hashes a large block, so the threads of the pool run side by
side although each of them computes all the time. In the trace they hold the GIL for microseconds
between long stretches outside; nobody waits.

    gilscope record python examples/hash_pool.py
"""

import argparse
import hashlib
import time
from concurrent.futures import ThreadPoolExecutor

BLOCK = bytes(1 << 20)


def hash_blocks(end):
    blocks = 0
    while blocks == 0 or time.perf_counter() < end:
        hashlib.sha256(BLOCK).digest()
        blocks += 1
    return blocks


def megabytes_per_second(threads, seconds):
    start = time.perf_counter()
    with ThreadPoolExecutor(threads, thread_name_prefix="hash") as pool:
        blocks = sum(pool.map(hash_blocks, [start + seconds] * threads))
    return blocks * len(BLOCK) / (time.perf_counter() - start) / 1e6


def main():
    parser = argparse.ArgumentParser(description="hash in a pool of threads")
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    for threads in (1, args.threads):
        rate = megabytes_per_second(threads, args.seconds / 2)
        print(f"{rate:.0f} MB/s with {threads} thread{'s' if threads > 1 else ''}")


if __name__ == "__main__":
    main()

"""A pool hashes large blocks: C code that lets the GIL go while it works."""

# /// verdict
# kind = "nothing"
# ///

import concurrent.futures
import hashlib
import os

blocks = [os.urandom(1 << 22) for _ in range(8)]


def digest(block):
    for _ in range(8):
        result = hashlib.sha256(block).hexdigest()
    return result


with concurrent.futures.ThreadPoolExecutor(2) as pool:
    list(pool.map(digest, blocks))

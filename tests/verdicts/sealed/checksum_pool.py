"""Three threads that hash and compress blocks of four megabytes.

hashlib and zlib give the GIL away for blocks of this size. The threads fill the processors, and
hardly ever want the GIL.
"""

# /// verdict
# kind = "nothing"
# ///

import hashlib
import threading
import time
import zlib

BLOCK = bytes(range(256)) * 16_384


def check(end):
    while time.monotonic() < end:
        hashlib.sha256(BLOCK).hexdigest()
        zlib.crc32(BLOCK)
        zlib.compress(BLOCK, 1)


def main():
    end = time.monotonic() + 1.1
    threads = [threading.Thread(target=check, args=(end,), name=f"check-{i}") for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()

"""Two threads compress with zlib, which lets the GIL go."""

# /// verdict
# kind = "nothing"
# ///

import os
import threading
import zlib


def compress():
    for _ in range(6):
        zlib.compress(os.urandom(1 << 21), 6)


for n in range(2):
    threading.Thread(target=compress, name=f"compress-{n}").start()

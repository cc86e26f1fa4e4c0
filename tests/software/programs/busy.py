"""Three threads that compute: once, or (argument 1) until a file called `stop` appears."""

import os
import sys
import threading
import time

forever = sys.argv[1] == "1"


def compute(number):
    while True:
        total = 0
        for value in range(200_000):
            total += value % (number + 2)
        if not forever or os.path.exists("stop"):
            break
    now = time.monotonic_ns()
    print(f"sum {number} {total}\nstamp {os.getpid()} {threading.get_native_id()} {now}\n", end="")


threads = [threading.Thread(target=compute, args=(n,), name=f"busy-{n}") for n in range(3)]
for thread in threads:
    thread.start()
os.write(1, b"busy now %d\n" % os.getpid())  # at once and in one piece
for thread in threads:
    thread.join()

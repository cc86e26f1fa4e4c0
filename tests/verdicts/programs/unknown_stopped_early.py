"""Quiet work that fills the recording; the trouble comes when nothing is recorded any more."""

# /// verdict
# kind = "unknown"
# options = ["--max-size", "4M"]
# ///

import os
import threading
import time

null = os.open("/dev/null", os.O_WRONLY)
end = time.monotonic() + 1.8


def chatty():
    while time.monotonic() < end:
        os.write(null, b"x")


def late():
    time.sleep(1.2)
    while time.monotonic() < end:
        sum(range(400))


for work in (chatty, late):
    threading.Thread(target=work, name=work.__name__).start()

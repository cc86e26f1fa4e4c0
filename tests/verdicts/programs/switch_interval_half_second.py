"""A program sets the switch interval to half a second; an echo thread waits that long each time."""

# /// verdict
# kind = "switch-interval"
# thread = "echo"
# value_ms = [500, 1500]
# ///

import sys
import threading
import time

sys.setswitchinterval(0.5)


def echo(end):
    while time.monotonic() < end:
        time.sleep(0.001)


def compute(end):
    n = 0
    while time.monotonic() < end:
        n += 1


end = time.monotonic() + 1.4
for work in (echo, compute):
    threading.Thread(target=work, args=(end,), name=work.__name__).start()

"""A regular expression that backtracks for some 50 ms, again and again."""

# /// verdict
# kind = "c-call"
# thread = "heartbeat"
# value_ms = [400, 1400]
# ///

import re
import threading
import time

pattern = re.compile(r"(a+)+$")


def heartbeat(end):
    while time.monotonic() < end:
        time.sleep(0.001)


end = time.monotonic() + 1.3
beats = threading.Thread(target=heartbeat, args=(end,), name="heartbeat")
beats.start()
while time.monotonic() < end:
    pattern.match("a" * 20 + "b")  # CULPRIT
    time.sleep(0.005)
beats.join()

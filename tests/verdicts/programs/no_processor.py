"""Python has one processor, which other programs of higher priority have most of the time."""

# /// verdict
# kind = "no-processor"
# thread = ["heartbeat", "MainThread"]
# ///

import os
import subprocess
import sys
import threading
import time

os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
BURN = "import time\nend = time.monotonic() + 1.6\nwhile time.monotonic() < end:\n    pass"
others = [subprocess.Popen([sys.executable, "-c", BURN]) for _ in range(4)]
os.nice(10)


def heartbeat(end):
    while time.monotonic() < end:
        time.sleep(0.001)


end = time.monotonic() + 1.3
beats = threading.Thread(target=heartbeat, args=(end,), name="heartbeat")
beats.start()
while time.monotonic() < end:
    sum(i * i for i in range(500))
beats.join()
for other in others:
    other.wait()

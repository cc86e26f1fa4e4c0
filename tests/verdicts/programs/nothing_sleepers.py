"""Twenty threads that sleep nearly all the time."""

# /// verdict
# kind = "nothing"
# ci = true
# ///

import threading
import time


def sleeper():
    for _ in range(20):
        time.sleep(0.05)


for n in range(20):
    threading.Thread(target=sleeper, name=f"sleeper-{n}").start()

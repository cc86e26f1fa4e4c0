"""A short script whose heap takes a while to be freed, and a thread that only slept."""

# /// verdict
# kind = "nothing"
# ///

import threading
import time

threading.Thread(target=time.sleep, args=(0.5,), name="sleeper").start()
heap = [{"key": [i]} for i in range(400_000)]

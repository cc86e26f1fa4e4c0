"""A short script whose heap takes a while to be freed at the end, beside a thread that sleeps."""

# /// verdict
# kind = "nothing"
# ///

import threading
import time

heap = [{"key": [i]} for i in range(400_000)]
threading.Thread(target=time.sleep, args=(0.5,), name="sleeper").start()

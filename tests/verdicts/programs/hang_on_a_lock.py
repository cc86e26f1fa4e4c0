"""A thread waits for a lock whose owner has ended without giving it back."""

# /// verdict
# kind = "hang"
# ci = true
# thread = "worker"
# ///

import os
import threading
import time

lock = threading.Lock()


def forgets():
    lock.acquire()


def worker():
    time.sleep(0.05)
    with lock:
        pass


threading.Thread(target=forgets, name="forgets").start()
threading.Thread(target=worker, name="worker", daemon=True).start()
time.sleep(1.6)
os._exit(0)

"""Six workers need a lock for a moment; `sync` keeps it for 60 ms at a time. Each worker's wait is
ended by the worker before it, which is not the cause.
"""

# /// verdict
# kind = "lock"
# thread = ["worker-*"]
# ///

import threading
import time

lock = threading.Lock()
over = threading.Event()


def work():
    while not over.is_set():
        with lock:
            sum(range(50))
        time.sleep(0.002)


def sync():
    while not over.is_set():
        with lock:  # CULPRIT
            time.sleep(0.06)  # CULPRIT
        time.sleep(0.01)


threads = [threading.Thread(target=work, name=f"worker-{n}") for n in range(6)]
threads.append(threading.Thread(target=sync, name="sync"))
for thread in threads:
    thread.start()
time.sleep(1.4)
over.set()
for thread in threads:
    thread.join()

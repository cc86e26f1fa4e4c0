"""multiprocessing.Pool.map: a thread of the pool pickles large arguments; a heartbeat waits."""

# /// verdict
# kind = "pickling"
# thread = "heartbeat"
# value_ms = [100, 2500]
# ///

import multiprocessing
import threading
import time


def heartbeat(done):
    while not done.is_set():
        time.sleep(0.001)


def work(rows):
    return len(rows)


if __name__ == "__main__":
    rows = [[(i, str(i), float(i)) for i in range(250_000)] for _ in range(4)]
    with multiprocessing.Pool(2) as pool:
        done = threading.Event()
        beats = threading.Thread(target=heartbeat, args=(done,), name="heartbeat")
        beats.start()
        pool.map(work, rows, chunksize=1)
        done.set()
        beats.join()

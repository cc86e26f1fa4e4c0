"""A consumer that waits in Queue.get for a producer that sleeps; a third thread computes."""

# /// verdict
# kind = "convoy"
# thread = ["producer", "consumer"]
# ///

import queue
import threading
import time

items = queue.Queue()


def produce(end):
    while time.monotonic() < end:
        time.sleep(0.001)
        items.put("item")
    items.put(None)


def consume():
    while items.get() is not None:
        pass


def compute(end):
    n = 0
    while time.monotonic() < end:  # CULPRIT
        n = (n * 31 + 7) % 1_000_003  # CULPRIT


end = time.monotonic() + 1.3
threading.Thread(target=produce, args=(end,), name="producer").start()
threading.Thread(target=consume, name="consumer").start()
threading.Thread(target=compute, args=(end,), name="compute").start()

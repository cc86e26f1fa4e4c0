"""A producer waits for room in a queue whose consumer is slow."""

# /// verdict
# kind = "lock"
# thread = "producer"
# value_ms = [500, 1500]
# ///

import queue
import threading
import time

items = queue.Queue(2)


def produce(end):
    while time.monotonic() < end:
        items.put("item")
    items.put(None)


def consume():
    while items.get() is not None:
        time.sleep(0.02)


threading.Thread(target=produce, args=(time.monotonic() + 1.2,), name="producer").start()
threading.Thread(target=consume, name="consumer").start()

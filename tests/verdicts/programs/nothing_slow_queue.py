"""A producer and a consumer with a queue between them, an item each 20 ms."""

# /// verdict
# kind = "nothing"
# ///

import queue
import threading
import time

items = queue.Queue()


def consume():
    while items.get() is not None:
        sum(range(1_000))


consumer = threading.Thread(target=consume, name="consumer")
consumer.start()
for n in range(60):
    time.sleep(0.02)
    items.put(n)
items.put(None)
consumer.join()

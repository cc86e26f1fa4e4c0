"""A hand-off an item: producer and consumer on a short queue.

A full queue stops the producer and an empty one the consumer, so the GIL changes hands about once
an item, and most of the time goes into waking each other up. A longer queue (`--size 1000`) moves
items in batches; compare the switches and the rate.

    gilscope record python examples/queue_pipeline.py
"""

import argparse
import json
import queue
import threading
import time

DONE = None


def produce(items, end):
    number = 0
    while number == 0 or time.perf_counter() < end:
        items.put(json.dumps({"number": number, "values": list(range(20))}))
        number += 1
    items.put(DONE)


def consume(items, totals):
    while True:
        item = items.get()
        if item is DONE:
            return
        totals.append(sum(json.loads(item)["values"]))


def main():
    parser = argparse.ArgumentParser(description="a producer and a consumer on a queue")
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--size", type=int, default=1, help="length of the queue")
    args = parser.parse_args()

    items = queue.Queue(args.size)
    totals = []
    start = time.perf_counter()
    threads = [
        threading.Thread(target=produce, args=(items, start + args.seconds), name="producer"),
        threading.Thread(target=consume, args=(items, totals), name="consumer"),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"{len(totals) / (time.perf_counter() - start):.0f} items/s")


if __name__ == "__main__":
    main()

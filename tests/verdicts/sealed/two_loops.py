"""Two event loops in two threads, to keep slow tasks away from the API. They share one GIL.

The loop of the jobs computes in Python for 40 ms at a time; the loop of the API, which wakes up
every 4 ms, comes back from its selector and waits for it.
"""

# /// verdict
# kind = "convoy"
# thread = "api"
# value_ms = [300, 1400]
# ///

import asyncio
import threading
import time


def summed():
    total = 0
    until = time.thread_time() + 0.04
    while time.thread_time() < until:  # CULPRIT
        for i in range(500):  # CULPRIT
            total += i * i  # CULPRIT
    return total


async def jobs(end):
    while time.monotonic() < end:
        summed()
        await asyncio.sleep(0)


async def api(end):
    while time.monotonic() < end:
        await asyncio.sleep(0.004)


def run(coroutine, end):
    asyncio.run(coroutine(end))


def main():
    end = time.monotonic() + 1.3
    threads = [
        threading.Thread(target=run, args=(api, end), name="api"),
        threading.Thread(target=run, args=(jobs, end), name="jobs"),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()

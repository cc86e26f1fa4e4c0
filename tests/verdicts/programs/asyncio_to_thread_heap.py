"""An event loop waits for work in a thread. At its end the interpreter frees a large heap alone."""

# /// verdict
# kind = "convoy"
# thread = "MainThread"
# value_ms = [250, 1100]
# ci = true
# ///

import asyncio
import time

heap = [{"key": [i]} for i in range(200_000)]  # an application's data


def work():
    n, end = 0, time.monotonic() + 1.0
    while time.monotonic() < end:  # CULPRIT
        n += 1  # CULPRIT


async def main():
    job = asyncio.create_task(asyncio.to_thread(work))
    while not job.done():
        await asyncio.sleep(0.002)


asyncio.run(main())

"""The same event loop, which leaves by os._exit and so has no end of an interpreter."""

# /// verdict
# kind = "convoy"
# thread = "MainThread"
# value_ms = [250, 1100]
# ///

import asyncio
import os
import time


def work():
    n, end = 0, time.monotonic() + 1.0
    while time.monotonic() < end:  # CULPRIT
        n += 1  # CULPRIT


async def main():
    job = asyncio.create_task(asyncio.to_thread(work))
    while not job.done():
        await asyncio.sleep(0.002)


asyncio.run(main())
os._exit(0)

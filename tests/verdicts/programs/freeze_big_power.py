"""One huge power is computed while a loop of events ticks. Its line is gone when it lets go."""

# /// verdict
# kind = ["freeze", "c-call"]  # by version it is one call, or three
# thread = "MainThread"
# value_ms = [100, 2500]
# ///

import asyncio


def big():
    return 7**600_000 * 3**600_000


async def main():
    job = asyncio.create_task(asyncio.sleep(1.2))
    await asyncio.sleep(0.3)
    work = asyncio.create_task(asyncio.to_thread(big))
    while not job.done():
        await asyncio.sleep(0.005)
    await work


asyncio.run(main())

"""Arguments of a pool of processes are pickled here, by a thread that keeps the GIL."""

# /// verdict
# kind = "pickling"
# thread = "MainThread"
# value_ms = [150, 2500]
# ///

import asyncio
from concurrent.futures import ProcessPoolExecutor


def work(rows):
    return len(rows)


async def tick(stop):
    while not stop.is_set():
        await asyncio.sleep(0.005)


async def main():
    stop = asyncio.Event()
    task = asyncio.create_task(tick(stop))
    loop = asyncio.get_running_loop()
    rows = [(i, str(i), float(i)) for i in range(300_000)]
    with ProcessPoolExecutor(2) as pool:
        await loop.run_in_executor(pool, work, [])
        for _ in range(4):
            await loop.run_in_executor(pool, work, rows)
        stop.set()
        await task


if __name__ == "__main__":
    asyncio.run(main())

"""An event loop alone, with fifty tasks that sleep."""

# /// verdict
# kind = "nothing"
# ///

import asyncio


async def task(number):
    for _ in range(10):
        await asyncio.sleep(0.1)
    return number


async def main():
    await asyncio.gather(*(task(n) for n in range(50)))


asyncio.run(main())

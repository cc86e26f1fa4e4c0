"""An asyncio service that sends its rules to the default executor.

The rules are compiled from text when the program starts, and score a customer in pure Python. The
loop is free to go on, but it comes back from each select() and waits for the GIL.
"""

# /// verdict
# kind = "convoy"
# thread = "MainThread"
# value_ms = [200, 1400]
# site = "*<rules>:*"
# ///

import asyncio
import time

RULES = """
def score(orders):
    points = 0
    for number, amount in enumerate(orders):
        if amount % 3 and number % 5:
            points += amount * 2
        else:
            points -= amount // 3
    return points
"""


def compiled(text):
    rules = {}
    exec(compile(text, "<rules>", "exec"), rules)
    return rules["score"]


async def scores(end):
    score = compiled(RULES)
    orders = list(range(300_000))
    loop = asyncio.get_running_loop()
    while time.monotonic() < end:
        await loop.run_in_executor(None, score, orders)


async def answer(end):
    while time.monotonic() < end:
        await asyncio.sleep(0.004)


async def main():
    end = time.monotonic() + 1.2
    await asyncio.gather(scores(end), answer(end))


if __name__ == "__main__":
    asyncio.run(main())

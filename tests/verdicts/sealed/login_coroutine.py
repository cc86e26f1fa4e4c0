"""A login coroutine that derives a key from the password, in the event loop.

The derivation is C without the GIL, so no other thread would wait. But it does not await: every
other coroutine of the loop is late by its whole length.
"""

# /// verdict
# kind = "slow-task"
# thread = "MainThread"
# ///

import asyncio
import hashlib
import time


def derived(password):
    return hashlib.pbkdf2_hmac("sha256", password, b"salt of the site", 600_000)  # CULPRIT


async def login(end):
    while time.monotonic() < end:
        await asyncio.sleep(0.05)
        derived(b"correct horse")


async def page(end):
    while time.monotonic() < end:
        await asyncio.sleep(0.01)


async def main():
    end = time.monotonic() + 1.2
    await asyncio.gather(login(end), *(page(end) for _ in range(4)))


if __name__ == "__main__":
    asyncio.run(main())
